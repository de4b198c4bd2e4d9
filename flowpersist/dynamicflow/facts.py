"""A run's data in its suspension's metadata: enough to decide which runner can continue it before it is claimed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from flowpersist.dynamicflow.naming import RUN_PARTS
from flowpersist.errors import FlowError

if TYPE_CHECKING:
    from flowpersist.backends.base import Scalar
    from flowpersist.dynamicflow.ir import Flow
    from flowpersist.lifecycle import Suspension

__all__ = ["EVENTS", "KIND", "about", "metadata_of", "moved", "needs", "no_flow", "run_id_of"]

#: The metadata key that marks the suspensions of flows.
KIND: Final[Mapping[str, Scalar]] = {"kind": "flow"}
#: The metadata key of a run whose events are stored.
EVENTS: Final = "events"
#: The most bytes of UTF-8 in one value of the metadata.
_MAX_TEXT: Final = 500
_NAME_BYTES: Final = 200
#: The metadata keys of the tools that the document calls.
_TOOLS: Final = re.compile(r"tools\d*", re.ASCII)


def metadata_of(flow: Flow, run_id: str | None) -> dict[str, Scalar]:
    """The metadata of a new run."""
    name = flow.name.encode(errors="replace")[:_NAME_BYTES].decode(errors="ignore").replace("\0", "")
    named: dict[str, Scalar] = {} if run_id is None else {"run": run_id}
    listed = {f"tools{number or ''}": text for number, text in enumerate(_lines(sorted(flow.tools)))}
    return {**KIND, "flow": name, "hash": flow.hash, **listed, **named}


def moved(metadata: Mapping[str, Scalar], flow: Flow) -> dict[str, Scalar]:
    """The metadata of a run with this document, which may differ from the one that it began with."""
    kept = {name: value for name, value in metadata.items() if not _TOOLS.fullmatch(name)}
    return {**kept, **metadata_of(flow, None)}


def _lines(names: Iterable[str]) -> list[str]:
    """Names, one a line, in texts that each fit one metadata value."""
    texts: list[str] = []
    for name in names:
        joined = f"{texts[-1]}\n{name}" if texts else name
        if texts and len(joined.encode()) <= _MAX_TEXT:
            texts[-1] = joined
        else:
            texts.append(name)
    return texts


def needs(metadata: Mapping[str, Scalar]) -> frozenset[str]:
    """The ids of the tools that a run's document calls."""
    texts = [str(value) for name, value in metadata.items() if _TOOLS.fullmatch(name)]
    return frozenset(line for text in texts for line in text.split("\n"))


def run_id_of(suspension: Suspension) -> str:
    """The run's id: the given one, or its suspension's."""
    return str(suspension.metadata.get("run", suspension.id))


def about(suspension: Suspension) -> dict[str, object]:
    """What ``$run`` refers to: the run's id, who asked for it, and whose it is."""
    values = (run_id_of(suspension), suspension.requested_by, suspension.tenant)
    return dict(zip(RUN_PARTS, values, strict=True))


def no_flow(suspension: Suspension) -> FlowError | None:
    """The error if this suspension can't be run as a flow; None if it can."""
    if suspension.metadata.get("kind") == KIND["kind"]:
        return None
    return FlowError(f"suspension {suspension.id} does not belong to a flow: resume it with the hub")
