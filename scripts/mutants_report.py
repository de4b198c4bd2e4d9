"""A plugin of pytest for scripts/mutants.py: writes what became of each test, and refuses to test another package.

``MUTANTS_TREE`` is the folder that the package must come from, ``MUTANTS_REPORT`` the file of the report: JSON, of each
test its name, what became of it, and what it said. A test fails by an assertion of its own (``red``) or otherwise
(``broken``), as where the package raises, the test can't be collected, or its fixture fails. That a ``Result`` is the
other one than a test unwraps is an assertion too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from traceback import walk_tb
from typing import Any, Final

import pytest

import flowpersist

TREE: Final = Path(os.environ["MUTANTS_TREE"]).resolve()
_told: list[tuple[str, str, str]] = []


def pytest_configure() -> None:
    """Refuse to go on with another package than that of the tree: every mutant would survive."""
    found = Path(flowpersist.__file__).resolve()
    if not found.is_relative_to(TREE):
        msg = f"flowpersist was imported from {found}, not from the copy in {TREE}"
        raise pytest.UsageError(msg)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    """Note what became of a test, once for each test and once more for what fails around it."""
    report = yield
    if report.skipped:
        _told.append((item.nodeid, "skipped", ""))
    elif call.excinfo is not None:
        asserted = report.when == "call" and all(map(_is_assertion, _leaves(call.excinfo.value)))
        _told.append((item.nodeid, "red" if asserted else "broken", _brief(call.excinfo)))
    elif report.when == "call":
        _told.append((item.nodeid, "green", ""))
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note what can't be collected."""
    if report.failed:
        _told.append((report.nodeid, "broken", str(report.longrepr)[-500:]))


def pytest_sessionfinish() -> None:
    """Write the report."""
    Path(os.environ["MUTANTS_REPORT"]).write_text(json.dumps(_told), encoding="utf-8")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _is_assertion(error: BaseException) -> bool:
    return isinstance(error, AssertionError | pytest.fail.Exception) or _is_unwrapped(error)


def _is_unwrapped(error: BaseException) -> bool:
    """Whether a test has unwrapped a ``Result`` that was the other one, by its methods or by ``or_raise``."""
    within = False
    # An error that was raised before has the frames of that behind those of now.
    for frame, _ in walk_tb(error.__traceback__):
        if Path(frame.f_code.co_filename).is_relative_to(TREE / "tests"):
            within = True
        elif within:
            package = str(frame.f_globals.get("__name__")).partition(".")[0]
            return package == "returns" or frame.f_code.co_name == "or_raise"
    return False


def _brief(excinfo: pytest.ExceptionInfo[BaseException]) -> str:
    return excinfo.exconly(tryshort=True).partition("\n")[0][:200]
