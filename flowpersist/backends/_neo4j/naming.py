"""Names of labels and properties, texts that sort the same by every comparison, and statements with their names filled
in.
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

#: The number of counters for revisions of deleted records. Part of the schema, so it never changes.
SHARDS: Final = 64
#: A graph node with this many relationships is kept without a check for its last one, because the check would lock it.
_MANY: Final = 64
#: Added to microseconds so that the years 1 to 9999 all give 19 digits: the texts then sort as the times do.
BIAS: Final = 2 * 10**18
#: Sorts after every text that it is compared with: it is longer than any encoded key.
TOP: Final = "\ue001\U0010ffff" * 129
#: The prefix of an attribute's property.
ATTRIBUTE: Final = "attr_"
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_HIGH: Final = re.compile("[\ue000-\U0010ffff]")
_ESCAPED: Final = re.compile("[\ue000\ue001](.)", re.DOTALL)
_BMP_ESCAPE: Final = "\ue000"
_ASTRAL_ESCAPE: Final = "\ue001"
_LAST_OF_BMP: Final = "\uffff"
_PLACEHOLDER: Final = re.compile(r"<(\w+)>")


def ordered(text: str) -> str:
    """Encode a text so that every comparison gives the order of its UTF-8 bytes.

    Neo4j's indexes compare UTF-8 bytes, but its operators and sorting compare UTF-16 units, in which U+10000 comes
    before U+E000. So each character from U+E000 on gets a mark before it that separates the two ranges.
    """
    if text.isascii():
        return text
    return _HIGH.sub(lambda found: (_BMP_ESCAPE if found[0] <= _LAST_OF_BMP else _ASTRAL_ESCAPE) + found[0], text)


def unordered(text: str) -> str:
    """Decode what ``ordered`` gave."""
    return text if text.isascii() else _ESCAPED.sub(r"\1", text)


def moment_text(moment: datetime) -> str:
    """The prefix that the sort keys of all records at this time have."""
    return str(to_micros(moment) + BIAS)


def plain(attribute: str) -> bool:
    """Whether an attribute's name is allowed as the name of a property."""
    return _PLAIN.fullmatch(attribute) is not None


def shard(ref: RecordRef) -> int:
    """The counter that a record's first revision must exceed."""
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
        """Fill names and parts into a statement. All of them are ours or were checked."""
        known = {**self.filled, **parts}
        while _PLACEHOLDER.search(text):
            text = _PLACEHOLDER.sub(lambda found: known[found[1]], text)
        return text


def loaded(file_name: str) -> dict[str, str]:
    """Load the statements of a file without their comments, which the server need not parse."""
    texts = statements("flowpersist.backends._neo4j", file_name)
    return {
        name: "\n".join(line for line in text.strip().splitlines() if line.strip() and not line.startswith("//"))
        for name, text in texts.items()
    }
