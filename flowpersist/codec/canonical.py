"""An order of a set's elements by their values alone, so that equal sets give equal bytes in every process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from attrs import define, field

from flowpersist.codec.leaves import LEAVES
from flowpersist.codec.members import MemberPlan
from flowpersist.codec.packing import PLAIN_TYPES, Cell, pack_cells, pack_one
from flowpersist.codec.plans import SHELL_BASES, BuiltinPlan, FieldsPlan, NamedPlan
from flowpersist.codec.vocabulary import Roles

__all__ = ["in_order", "key_of"]

#: Classes whose own order is that of their canonical bytes, or as good: total, and a function of the value.
SELF_ORDERED: frozenset[type] = frozenset({str, bytes, int})
CYCLE = b"\xff"


def in_order(elements: Iterable[Cell], roles: Roles) -> list[Cell]:
    """The elements, sorted by class and encoded bytes; objects by a digest of what their hash can depend on.

    What is hashed by identity and has equal fields keeps the order of iteration, the only one that there is.
    """
    listed = list(elements)
    classes = set(map(type, listed))
    if len(listed) < 2:  # noqa: PLR2004 - one needs no order
        return listed
    if len(classes) == 1 and classes <= SELF_ORDERED:
        return sorted(listed)
    return sorted(listed, key=lambda element: key_of(element, roles))


def key_of(element: Cell, roles: Roles) -> bytes:
    """What tells an element from others by its value: its class and bytes, or a digest of what it can be hashed by."""
    return _digest(element, roles) if roles[type(element)] else _leaf_key(element, roles)


def _leaf_key(cell: Cell, roles: Roles) -> bytes:
    cls = type(cell)
    if cls in PLAIN_TYPES:
        return cls.__name__.encode() + b"\0" + pack_one(cell)
    if cls in LEAVES:
        return cls.__name__.encode() + b"\0" + pack_cells(LEAVES[cls].dumped([cell], roles.types))
    return _member_key(cell, roles)


def _member_key(member: Cell, roles: Roles) -> bytes:
    registration = roles.registration(type(member))
    plan: MemberPlan = registration.plan  # type: ignore[assignment]  # a registered leaf is an enumeration's member
    return registration.name.encode("utf-8", "surrogatepass") + b"\0" + pack_one(plan.dump(member))


@define(eq=False)
class _Frame:
    one: Cell
    tag: bytes
    children: Iterator[Cell]
    ordered: bool
    parts: list[bytes] = field(factory=list)

    def digest(self) -> bytes:
        if not self.ordered:
            self.parts.sort()
        hashed = blake2b(self.tag, digest_size=16)
        for part in self.parts:
            hashed.update(len(part).to_bytes(8, "big") + part)
        return hashed.digest()


def _digest(root: Cell, roles: Roles) -> bytes:
    done: dict[int, bytes] = {}
    frames = [_frame(root, roles)]
    # An object that is met again within itself, which only a hash of its own making allows, counts as a mark.
    done[id(root)] = CYCLE
    while True:
        frame = frames[-1]
        child = next(frame.children, frames)
        if child is frames:
            digest = done[id(frame.one)] = frame.digest()
            frames.pop()
            if not frames:
                return digest
            frames[-1].parts.append(digest)
        elif not roles[type(child)]:
            frame.parts.append(_leaf_key(child, roles))
        elif id(child) in done:
            frame.parts.append(done[id(child)])
        else:
            done[id(child)] = CYCLE
            frames.append(_frame(child, roles))


def _frame(one: Cell, roles: Roles) -> _Frame:
    cls = type(one)
    if cls is tuple or cls is frozenset:
        return _Frame(one, cls.__name__.encode(), iter(one), ordered=cls is tuple)
    registration = roles.types.by_class(cls)
    if registration is None:
        return _Frame(one, cls.__name__.encode(), iter(()), ordered=True)
    plan = registration.plan
    ordered = not (isinstance(plan, BuiltinPlan) and plan.base in {set, frozenset})
    return _Frame(one, registration.name.encode("utf-8", "surrogatepass"), iter(_fields(one, plan)), ordered=ordered)


def _fields(one: Cell, plan: object) -> Iterable[Cell]:
    match plan:
        case NamedPlan():
            return tuple.__iter__(one)
        case FieldsPlan():
            return plan.read_one(one)
        case BuiltinPlan():
            # What hashes by its attributes has nothing else.
            return _sorted_attributes(plan.attributes(one)) if plan.base in SHELL_BASES else plan.content(one)
    return ()


def _sorted_attributes(attributes: list[Cell]) -> list[Cell]:
    """Names and values in turn, by name."""
    pairs = sorted(zip(attributes[::2], attributes[1::2], strict=True), key=lambda pair: str(pair[0]))
    return [part for pair in pairs for part in pair]
