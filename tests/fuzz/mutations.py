"""Changes of documents: of their bytes, and of their structure, which changes of bytes seldom leave readable.

A document is MessagePack, and many of its ``bin`` hold MessagePack or numbers of 32 bits. ``restructured`` changes some
parts of it, at any depth, and writes it again.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

INTERESTING = (
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    255,
    256,
    2**16,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**63,
    2**64 - 1,
    -1,
    -(2**63),
)
PARTS = (
    None,
    True,
    1.5,
    float("nan"),
    "",
    "a",
    "\u0130",
    b"",
    b"\0",
    [],
    {},
    msgpack.ExtType(1, b"\x80" * 9),
    msgpack.ExtType(5, b""),
    msgpack.ExtType(3, b"\0\0"),
    msgpack.ExtType(3, b"\0\1"),
    msgpack.ExtType(4, b"\x92\0\xa3RED"),
    msgpack.ExtType(43, b"1.5"),
    msgpack.Timestamp(1),
    {b"\0": []},
    {b"\2": [1, {b"\3": [None, ""]}]},
    {"a": 1},
)


#: The keys of maps that stand for objects.
MARKS = tuple([bytes((number,)) for number in range(12)])


def altered(random: Random, data: bytes, other: bytes) -> bytes:
    """One of the documents, changed in its bytes: flipped, cut, longer, or spliced with the other."""
    return random.choice(BYTEWISE)(random, bytearray(data or b"\0"), other)


def _flip(random: Random, data: bytearray, _: bytes) -> bytes:
    for _ in range(random.randint(1, 4)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def _overwrite(random: Random, data: bytearray, _: bytes) -> bytes:
    data[random.randrange(len(data))] = random.choice(
        (0, 1, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xC4, 0xC7, 0xDC, 0xDD, 0xDF, 0xFF)
    )
    return bytes(data)


def _cut(random: Random, data: bytearray, _: bytes) -> bytes:
    start = random.randrange(len(data))
    return bytes(data[:start] + data[start + random.randint(1, 8) :])


def _truncate(random: Random, data: bytearray, _: bytes) -> bytes:
    return bytes(data[: random.randrange(len(data))])


def _insert(random: Random, data: bytearray, _: bytes) -> bytes:
    place = random.randrange(len(data) + 1)
    return bytes(data[:place]) + random.randbytes(random.randint(1, 8)) + bytes(data[place:])


def _splice(random: Random, data: bytearray, other: bytes) -> bytes:
    return bytes(data[: random.randrange(len(data))]) + other[random.randrange(len(other) + 1) :]


BYTEWISE: tuple[Callable[[Random, bytearray, bytes], bytes], ...] = (
    _flip,
    _overwrite,
    _cut,
    _truncate,
    _insert,
    _splice,
)


def restructured(random: Random, data: bytes, other: bytes) -> bytes:
    """The document with some of its parts changed, or with parts of the other; its bytes changed where it is none."""
    try:
        tree, donor = _tree(data), _tree(other)
    except Exception:  # noqa: BLE001 - whatever is not MessagePack is changed in its bytes
        return altered(random, data, other)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        tree = _changed(random, tree, donor)
    try:
        return msgpack.packb(tree, use_bin_type=True, unicode_errors="surrogatepass")
    except (OverflowError, ValueError):
        return altered(random, data, other)


def _tree(data: bytes) -> Any:
    return msgpack.unpackb(data, raw=False, strict_map_key=False, unicode_errors="surrogatepass")


def _changed(random: Random, part: Any, donor: Any) -> Any:
    """The part with one place in it changed."""
    if isinstance(part, list) and part and random.random() < 0.9:
        part = list(part)
        if random.random() < 0.8:
            place = random.randrange(len(part))
            part[place] = _changed(random, part[place], donor)
        else:
            _rearrange(random, part, donor)
        return part
    if isinstance(part, dict) and part and random.random() < 0.9:
        return _changed_map(random, part, donor)
    if isinstance(part, msgpack.ExtType) and random.random() < 0.8:
        return _changed_extension(random, part, donor)
    if isinstance(part, bytes) and part:
        return _changed_bin(random, part, donor)
    if type(part) is int:
        return random.choice((part + 1, max(part - 1, 0), 2 * part, random.choice(INTERESTING), random.randrange(32)))
    return random.choice((*PARTS, *INTERESTING, _any_part(random, donor)))


def _changed_map(random: Random, part: dict[Any, Any], donor: Any) -> dict[Any, Any]:
    """A map with another value, another key, or one entry more."""
    key = random.choice(list(part))
    if random.random() < 0.7:
        return {**part, key: _changed(random, part[key], donor)}
    other = random.choice((*MARKS, "a", ""))
    if random.random() < 0.5:
        return {**part, other: part[key]}
    return {other if one == key else one: value for one, value in part.items()}


def _changed_extension(random: Random, part: Any, donor: Any) -> Any:
    if random.random() < 0.3:
        return msgpack.ExtType(random.randrange(60), part.data)
    return msgpack.ExtType(part.code, _changed_bin(random, part.data or b"\0", donor))


def _rearrange(random: Random, parts: list[Any], donor: Any) -> None:
    place, another = random.randrange(len(parts)), random.randrange(len(parts))
    match random.randrange(5):
        case 0:
            del parts[place]
        case 1:
            parts.insert(another, parts[place])
        case 2:
            parts[place], parts[another] = parts[another], parts[place]
        case 3:
            parts.insert(place, _any_part(random, donor))
        case _:
            parts[place] = _any_part(random, donor)


def _any_part(random: Random, donor: Any) -> Any:
    while isinstance(donor, list) and donor and random.random() < 0.8:
        donor = random.choice(donor)
    return donor


def _changed_bin(random: Random, part: bytes, donor: Any) -> bytes:
    if random.random() < 0.5:
        try:
            return msgpack.packb(
                _changed(random, _tree(part), donor), use_bin_type=True, unicode_errors="surrogatepass"
            )
        except Exception:  # noqa: BLE001, S110 - then it is no MessagePack, but numbers or bytes
            pass
    if len(part) % 4 == 0 and random.random() < 0.8:
        numbers = list(struct.unpack(f"<{len(part) // 4}I", part))
        return _changed_numbers(random, numbers)
    return altered(random, part, b"\0\1")


def _changed_numbers(random: Random, numbers: list[int]) -> bytes:
    place, another = random.randrange(len(numbers)), random.randrange(len(numbers))
    match random.randrange(5):
        case 0:
            numbers[place] = random.choice((numbers[place] + 1, max(numbers[place] - 1, 0)))
        case 1:
            numbers[place] = random.choice(INTERESTING)
        case 2:
            numbers[place], numbers[another] = numbers[another], numbers[place]
        case 3:
            numbers[place] = numbers[another]
        case _:
            numbers.insert(place, numbers[another])
    return struct.pack(f"<{len(numbers)}I", *(number % 2**32 for number in numbers))
