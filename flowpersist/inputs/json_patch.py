"""JSON Patch (RFC 6902) within bounds: a patch comes from a person or a model."""

from __future__ import annotations

import copy
from typing import Final

import jsonpatch
import jsonpointer
from returns.result import Failure, Result, Success

from flowpersist.errors import InputValidationError, PersistenceError, Problem
from flowpersist.inputs.json_schema import check_json

__all__ = ["patched"]

MAX_OPERATIONS: Final = 100


def patched(document: object, patch: object) -> Result[object, PersistenceError]:
    """A copy of JSON data with a patch of at most 100 operations applied.

    ``InputValidationError`` names the operation that is not one, reaches outside the document, or makes it too large.
    """
    if not isinstance(patch, list) or len(patch) > MAX_OPERATIONS:
        return Failure(_invalid("/patch", f"must be a list of at most {MAX_OPERATIONS} operations"))
    checked = check_json(patch, what="the patch")
    if isinstance(checked, Failure):
        return checked
    made = copy.deepcopy(document)
    for at, operation in enumerate(patch):
        pointer = f"/patch/{at}"
        try:
            made = jsonpatch.JsonPatch([operation]).apply(made)
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, ValueError, RecursionError):
            return Failure(_invalid(pointer, "does not apply to the arguments"))
        # Each copy may double it.
        if isinstance(check_json(made), Failure):
            return Failure(_invalid(pointer, "makes the arguments too large"))
    return Success(made)


def _invalid(pointer: str, what: str) -> PersistenceError:
    return InputValidationError(f"the edit is not valid: {pointer} {what}", [Problem(pointer, what)])
