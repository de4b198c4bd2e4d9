"""``--flows``: files of the flows that a document may run as sub-flows."""

from __future__ import annotations

from pathlib import Path

import click

from flowpersist.dynamicflow.document import MAX_BYTES
from flowpersist.keys.text_file import open_regular

__all__ = ["document_of", "flows_option", "load_flows"]

flows_option = click.option(
    "--flows",
    metavar="ID=FILE",
    multiple=True,
    help="A document that others may run as a sub-flow by this id; repeat it.",
)


def document_of(path: Path) -> bytes:
    """The bytes of a document; of a larger file as many as are too many for one, which is what is said of it."""
    with open_regular(path) as file:
        return file.read(MAX_BYTES + 1)


def load_flows(pairs: tuple[str, ...]) -> dict[str, bytes] | None:
    """The documents by id that the option names; None where it is not given."""
    flows: dict[str, bytes] = {}
    for pair in pairs:
        id_, equals, file = pair.partition("=")
        if not equals or not id_:
            raise click.BadParameter("must be ID=FILE", param_hint="--flows")
        if id_ in flows:
            raise click.BadParameter(f"{id_} is given twice", param_hint="--flows")
        try:
            flows[id_] = document_of(Path(file))
        except OSError as error:
            raise click.BadParameter(f"{file}: {error.strerror}", param_hint="--flows") from error
    return flows or None
