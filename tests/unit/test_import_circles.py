"""No two modules of the package import each other, by whatever way round, imports for type checkers included."""

from __future__ import annotations

import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest


def circle(package: str) -> list[str]:
    """The modules of one circle, the first of them again at the end; empty where there is none."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other():
    assert circle("flowpersist") == []


@pytest.mark.parametrize(
    "last",
    [
        "from circling.first import FIRST",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from circling import first",
    ],
    ids=["import", "type checking"],
)
def test_circle_is_found(last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "circling"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "first.py").write_text("from circling.second import SECOND\nFIRST = SECOND\n")
    (package / "second.py").write_text("import circling.third\nSECOND = circling.third\n")
    (package / "third.py").write_text(last + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(circle("circling")) == {"circling.first", "circling.second", "circling.third"}
    assert "circling" not in sys.modules
