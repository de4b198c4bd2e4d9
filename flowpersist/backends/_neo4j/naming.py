"""Names of labels and properties, texts in an order that every comparison agrees on, and statements with their names
filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from zlib import crc32

from attrs import field, frozen

from flowpersist.backends._clock import to_micros
from flowpersist.backends._damage import LAST_REVISION
from flowpersist.backends._scalars import MAX_ATTRIBUTES_CHARACTERS
from flowpersist.backends._statements import statements
from flowpersist.backends.base import RecordRef

__all__ = [
    "ATTRIBUTE",
    "BIAS",
    "SHARDS",
    "TOP",
    "Names",
    "loaded",
    "moment_text",
    "ordered",
    "plain",
    "shard",
    "unordered",
]

#: How many counters of deleted revisions a store has. Part of the schema: never changed.
SHARDS: Final = 64
#: From so many relationships on, a node of the graph stays without a look at whether it has a last one: that locks it.
_MANY: Final = 64
#: Added to microseconds, so that those of the years 1 to 9999 all have 19 digits: texts are ordered as the times are.
BIAS: Final = 2 * 10**18
#: Above every text that is compared with it: longer than any key of the highest characters, as they are written.
TOP: Final = "\ue001\U0010ffff" * 129
#: What the property of an attribute begins with.
ATTRIBUTE: Final = "attr_"
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_HIGH: Final = re.compile("[\ue000-\U0010ffff]")
_ESCAPED: Final = re.compile("[\ue000\ue001](.)", re.DOTALL)
_BMP_ESCAPE: Final = "\ue000"
_ASTRAL_ESCAPE: Final = "\ue001"
_LAST_OF_BMP: Final = "\uffff"
_PLACEHOLDER: Final = re.compile(r"<(\w+)>")


def ordered(text: str) -> str:
    """A text whose order is that of the bytes of UTF-8 by whatever is compared.

    Neo4j's indexes compare the bytes, its operators and sorting the units of UTF-16: to them U+10000 comes before
    U+E000. So each character from U+E000 on gets another before it, which tells the two kinds apart.
    """
    if text.isascii():
        return text
    return _HIGH.sub(lambda found: (_BMP_ESCAPE if found[0] <= _LAST_OF_BMP else _ASTRAL_ESCAPE) + found[0], text)


def unordered(text: str) -> str:
    """The text again."""
    return text if text.isascii() else _ESCAPED.sub(r"\1", text)


def moment_text(moment: datetime) -> str:
    """What the place of every record at this time begins with, in an order by time."""
    return str(to_micros(moment) + BIAS)


def plain(attribute: str) -> bool:
    """Whether an attribute's name may be declared, and so is the name of a property."""
    return _PLAIN.fullmatch(attribute) is not None


def shard(ref: RecordRef) -> int:
    """Which counter of deleted revisions a record's first revision is above."""
    return crc32(f"{ref.namespace}\0{ref.key}".encode()) % SHARDS


@frozen
class Names:
    """The names that a prefix gives."""

    prefix: str
    filled: Mapping[str, str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        label = self.prefix.capitalize()
        filled = {
            "prefix": self.prefix,
            "Record": f"{label}Record",
            "Body": f"{label}Body",
            "Floor": f"{label}Floor",
            "Meta": f"{label}Meta",
            "HAS_BODY": f"{self.prefix.upper()}_BODY",
            "bias": str(BIAS),
            "shards": str(SHARDS),
            "many": str(_MANY),
            "last": str(LAST_REVISION),
            "large": str(2 * MAX_ATTRIBUTES_CHARACTERS),
        }
        object.__setattr__(self, "filled", filled)

    def fill(self, text: str, **parts: str) -> str:
        """A statement with the names, and the parts, in their places. What is filled in is ours, or was checked."""
        known = {**self.filled, **parts}
        while _PLACEHOLDER.search(text):
            text = _PLACEHOLDER.sub(lambda found: known[found[1]], text)
        return text


def loaded(file_name: str) -> dict[str, str]:
    """The statements of a file without their comments, which the server need not read."""
    texts = statements("flowpersist.backends._neo4j", file_name)
    return {
        name: "\n".join(line for line in text.strip().splitlines() if line.strip() and not line.startswith("//"))
        for name, text in texts.items()
    }
