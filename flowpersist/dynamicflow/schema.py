"""The JSON Schema of documents, ``schema.json``: the first thing that a document is compared with.

It says what fields there are and what they hold. What it can't say, such as which names a reference may have, the
other parts of the compiler find; they also say more exactly what is wrong with a document that does not match it.
"""

from __future__ import annotations

import copy
import functools
import json
from importlib import resources
from typing import Any

from flowpersist.errors import Problem
from flowpersist.inputs.json_schema import OwnSchema

__all__ = ["document_schema", "first_misfit", "top_fields"]


@functools.cache
def _schema() -> dict[str, Any]:
    text = resources.files("flowpersist.dynamicflow").joinpath("schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@functools.cache
def _compiled() -> OwnSchema:
    return OwnSchema.of(_schema())


def document_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a document in any of its forms, as a new object."""
    return copy.deepcopy(_schema())


def top_fields() -> frozenset[str]:
    """The fields of a document; ``$schema`` is one of them, for editors."""
    return frozenset({*_schema()["properties"], "$schema"})


def first_misfit(data: object) -> Problem | None:
    """The first place where a document does not match the schema; None if it matches."""
    return _compiled().first_problem(data)
