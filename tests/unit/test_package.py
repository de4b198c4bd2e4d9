"""What the package says of itself: its licence, its version, and where its smaller promises are kept."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import flowpersist

ROOT = Path(__file__).parents[2]


def test_the_licence_is_told_in_the_metadata_the_file_and_the_readme():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (told["license"], told["license-files"]) == ("Apache-2.0", ["LICENSE"])
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "[Apache License 2.0](LICENSE)" in (ROOT / "README.md").read_text()


def test_the_version_is_that_of_the_metadata():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert flowpersist.__version__ == version("flowpersist") == told
