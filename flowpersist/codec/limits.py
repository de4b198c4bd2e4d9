"""How much a value or its bytes may hold; the same bounds hold while encoding and while decoding."""

from __future__ import annotations

from attrs import Attribute, field, frozen

from flowpersist.errors import ConfigurationError

__all__ = ["Limits"]

MEBIBYTE = 2**20


def _positive(_: object, attribute: Attribute[int], value: int) -> None:
    if type(value) is not int or value < 1:
        message = f"Invalid {attribute.name}: expected a positive whole number"
        raise ConfigurationError(message, attribute.name)


@frozen
class Limits:
    """The bounds of a codec. A value over one of them is a ``StateTooLarge`` or ``StateTooDeep``, never a crash.

    Usage::

        codec = Codec(limits=Limits(max_bytes=1024 * 1024, max_depth=1000))

    - ``max_bytes``: bytes of the encoded value.
    - ``max_nodes``: objects and the cells in them; of a tree of lists and dicts with plain values, the values.
    - ``max_depth``: steps from the root to the nearest way to any object. Coding is iterative, so that the default is
      no smaller than ``max_nodes``.
    - ``max_str``: bytes of one str, bytes, bytearray or int.
    - ``max_pattern``: characters of all regular expressions together, since compiling is the one leaf whose cost is not
      linear.
    - ``max_collisions``: keys or elements of one dict or set that share a hash with another.
    """

    max_bytes: int = field(default=100 * MEBIBYTE, validator=_positive)
    max_nodes: int = field(default=20_000_000, validator=_positive)
    max_depth: int = field(default=20_000_000, validator=_positive)
    max_str: int = field(default=100 * MEBIBYTE, validator=_positive)
    max_pattern: int = field(default=4096, validator=_positive)
    max_collisions: int = field(default=256, validator=_positive)
