"""Statements in files of their own: SQL, Cypher and Lua stand beside the code that runs them, each with its name."""

from __future__ import annotations

import re
from importlib.resources import files

__all__ = ["statements"]


def statements(package: str, file_name: str = "statements.sql") -> dict[str, str]:
    """The named statements of a file in a package: each begins with ``-- name: …``, or ``// name: …`` in Cypher."""
    text = (files(package) / file_name).read_text(encoding="utf-8")
    parts = re.split(r"^(?:--|//) name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
