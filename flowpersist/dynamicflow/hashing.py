"""The hash that binds a run to its document: of what a run does, and not of the texts that only describe it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from flowpersist.dynamicflow.json_texts import canonical

__all__ = ["LABELS", "content_hash"]

#: The fields of a step that no run reads.
LABELS: Final = frozenset({"description", "metadata", "name"})
#: The members of a document that no run reads; it has but one version.
_TITLES: Final = frozenset({"metadata", "version"})


def content_hash(
    data: Mapping[str, object],
    steps: Iterable[Mapping[str, object]],
    inner: Mapping[int, str] = MappingProxyType({}),
    registered: Mapping[str, str] = MappingProxyType({}),
    *,
    values: int,
) -> str:
    """``sha256:`` and the hex digest of the document's canonical JSON (sorted keys, ASCII).

    Left out are its ``metadata`` and ``version``, and the ``description``, ``name`` and ``metadata`` of these steps,
    which are parts of ``data``. Of a sub-flow its own hash counts: ``inner`` has it by the identity of a document
    within this one, ``registered`` by the id of a registered one. ``values`` is how many values the document has.
    """
    # By identity: the same fields elsewhere, as in a tool's arguments, are data.
    labelled = {id(step) for step in steps}
    whole: object = {name: _bare(value, labelled, inner) for name, value in data.items() if name not in _TITLES}
    whole = [whole, dict(registered)] if registered else whole
    return f"sha256:{hashlib.sha256(canonical(whole, values).encode()).hexdigest()}"


def _bare(value: object, labelled: set[int], inner: Mapping[int, str]) -> object:
    if id(value) in inner:
        return inner[id(value)]
    if isinstance(value, Mapping):
        left = LABELS if id(value) in labelled else frozenset[str]()
        return {name: _bare(item, labelled, inner) for name, item in value.items() if name not in left}
    return [_bare(item, labelled, inner) for item in value] if isinstance(value, list) else value
