"""The wire format of the standard library's kinds, of references and of zones, with documents that are made by hand."""

from __future__ import annotations

import datetime as dt
import weakref
from base64 import b64encode
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any

import msgpack
import pytest
from returns.result import Success

from flowpersist.codec import Codec, TypeRegistry
from flowpersist.errors import MalformedPayload, PersistenceError, UnknownType
from tests.unit.test_codec_format import (
    ATTRIBUTES,
    DICT,
    INSTANCE,
    LEAF,
    LIST,
    MEMBERS,
    PAIR,
    SCALAR,
    SHELL,
    STATE,
    TUPLE,
    To,
    column,
    document,
    packed,
    refused,
    run,
    u32,
)

NAMES = (
    *("types.SimpleNamespace", "collections.ChainMap", "collections.UserDict", "collections.UserList"),
    *("collections.UserString", "types.MappingProxyType", "array.array", "functools.partial", "weakref.ref"),
    *("datetime.timezone", "flowpersist.Reference"),
)
called: list[object] = []


class Moment(dt.datetime):
    pass


class Offset(dt.tzinfo):
    def __init__(self, hours: Any) -> None:
        self.hours = hours


def function(*arguments: object) -> None:
    called.append(arguments)


def _codec() -> Codec:
    types = TypeRegistry()
    types.register(Moment, name="Moment")
    types.register(Offset, name="Offset", encode=lambda zone: zone.hours, decode=Offset)
    types.reference(function, name="function")
    return Codec(types=types)


CODEC = _codec()
NAMESPACE, VIEW, ARRAY, PARTIAL, WEAK, ZONE, REFERENCE = ([[name, 1]] for name in (NAMES[0], *NAMES[5:]))


def member(name: Any) -> list[Any]:
    """A column of one reference."""
    return [MEMBERS, u32(0), column(name)]


def made(data: bytes) -> Any:
    return CODEC.decode(data).unwrap()


def rows_of_partial(*state: Any) -> bytes:
    """A partial of this state; of a function where the state begins with a list."""
    return document(2, types=PARTIAL, rows=[(SHELL, 0, 0, None), (TUPLE, 1, None, *state)], late=[(STATE, 0, 0, To(1))])


def test_references_are_looked_up_in_the_registry_alone():
    """Clause 23."""
    assert made(document(types=REFERENCE, root=member("function"))) is function
    assert made(document(types=REFERENCE, root=member("builtins.int"))) is int
    assert made(document(types=REFERENCE, root=member("Moment"))) is Moment
    for name in ("os.system", "builtins.eval", "builtins.print", "", "function.__globals__"):
        refused(document(types=REFERENCE, root=member(name)), UnknownType, CODEC)
    for cell in (1, None, b"function", 1.5):
        refused(document(types=REFERENCE, root=member(cell)), (MalformedPayload, UnknownType), CODEC)
    factory = [DICT, run(0), 3, packed(0, "function"), u32(0), column(), column()]
    assert made(document(1, factory, types=REFERENCE)).default_factory is function
    for cells in ((0,), (0, "os.system"), (1, "function"), (0, 1), (0, "function", 1), ("eval",), (-1, "function")):
        broken = [DICT, run(0), 3, packed(*cells), u32(0), column(), column()]
        refused(document(1, broken, types=REFERENCE), (MalformedPayload, UnknownType), CODEC)
    assert called == []


def test_a_weak_reference_is_made_of_an_object_or_is_dead():
    """Clause 24."""
    assert made(document(1, types=WEAK, late=[(PAIR, 0, 0, None)]))() is None
    for cells in ((1,), ("x",), (), (None, None)):
        refused(document(1, types=WEAK, late=[(PAIR, 0, 0, *cells)]), MalformedPayload, CODEC)
    refused(document(2, types=WEAK, rows=[(LIST, 1, None)], late=[(PAIR, 0, 0, To(1))]), MalformedPayload, CODEC)
    held: set[int] = {1}
    assert isinstance(CODEC.encode([held, weakref.ref(held)]), Success)
    assert not isinstance(CODEC.encode([weakref.ref(held)]), Success)


def test_a_partial_has_a_function_of_the_registry_and_is_not_called():
    """Clause 23."""
    whole = CODEC.decode(CODEC.encode(partial(function, 1, a=2)).unwrap()).unwrap()
    assert (whole.func, whole.args, whole.keywords) == (function, (1,), {"a": 2})
    for state in ((), (1, 2), (None, None, None, None), (1, 2, 3, 4), ("function", "", "", None)):
        refused(rows_of_partial(*state), MalformedPayload, CODEC)
    nested = document(
        3,
        types=PARTIAL,
        rows=[(SHELL, 0, 0, None), (SHELL, 1, 0, None)],
        late=[(TUPLE, 2, None, To(1), 1, 2, None), (STATE, 0, 0, To(2)), (STATE, 1, 0, To(2))],
    )
    refused(nested, MalformedPayload, CODEC)
    refused(document(1, types=PARTIAL, rows=[(SHELL, 0, 0, None)]), MalformedPayload, CODEC)
    assert called == []


@pytest.mark.parametrize(
    "state",
    [
        ("d", 8, b"1234567"),
        ("d", 4, b"12345678"),
        ("x", 8, b"12345678"),
        ("dd", 8, b"12345678"),
        ("", 8, b""),
        ("d", 8, "text"),
        ("u", 4, b"1234"),
        ("l", 3, b"123"),
        ("L", 8, None),
        (8, "d", b""),
        ("d", 8),
        (),
    ],
    ids=str,
)
def test_an_array_is_of_a_code_and_whole_items(state):
    data = document(2, types=ARRAY, rows=[(TUPLE, 1, None, *state)], late=[(PAIR, 0, 0, To(1))])
    refused(data, MalformedPayload, CODEC)


def test_a_view_is_of_a_mapping():
    held = (DICT, 1, None, "a", 1)
    assert made(document(2, types=VIEW, rows=[held], late=[(PAIR, 0, 0, To(1))])) == MappingProxyType({"a": 1})
    refused(document(2, types=VIEW, rows=[(LIST, 1, None)], late=[(PAIR, 0, 0, To(1))]), MalformedPayload, CODEC)
    refused(document(1, types=VIEW, late=[(PAIR, 0, 0, "text")]), MalformedPayload, CODEC)


def test_attributes_of_a_namespace_are_named_by_texts():
    rows = [(SHELL, 0, 0, None), (ATTRIBUTES, 0, 0, "a", 1)]
    assert made(document(1, types=NAMESPACE, rows=rows)) == SimpleNamespace(a=1)
    for cells in ((1, 1), ("__class__", 1), ("__dict__", 1), (None, 1), ("a",)):
        broken = [(SHELL, 0, 0, None), (ATTRIBUTES, 0, 0, *cells)]
        refused(document(1, types=NAMESPACE, rows=broken), MalformedPayload, CODEC)
    refused(document(1, types=NAMESPACE, rows=[(SHELL, 0, 0, 1)]), MalformedPayload, CODEC)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [LIST, TUPLE, INSTANCE, PAIR, SCALAR, SHELL, STATE])
def test_a_kind_is_made_by_its_own_rows_alone(name, kind):
    """Whatever row makes it: a value or a typed error."""
    for cells in ((), (None,), ("a", 1), (To(1),)):
        for place in ("rows", "early", "late"):
            data = document(2, **{"types": [[name, 1]], place: [(kind, 0, 0, *cells), (LIST, 1, None)]})
            outcome = CODEC.decode(data)
            assert isinstance(outcome, Success) or isinstance(outcome.failure(), PersistenceError)


def test_a_scalar_is_made_of_the_class_that_it_extends():
    moment = [LEAF, 4, column("2026-01-02T00:00:00")]
    types = [["Moment", 1]]

    def of(cell: list[Any]) -> bytes:
        return msgpack.packb(
            [2, packed("Moment", 1, 0), 1, [], [u32(SCALAR, 0, 1, 1), cell], *2 * [[b"", column()]], column(To(0))]
        )

    assert made(of(moment)) == Moment(2026, 1, 2)
    assert type(made(of(moment))) is Moment
    for cell in (column("2026-01-02"), [LEAF, 5, column("2026-01-02")], column(None)):
        refused(of(cell), MalformedPayload, CODEC)
    refused(document(1, types=types, rows=[(SHELL, 0, 0, None)]), MalformedPayload, CODEC)


def zoned(*parts: Any) -> bytes:
    text = b64encode(msgpack.packb(list(parts))).decode()
    return document(root=[LEAF, 4, column(f"2026-01-01T00:00:00;0;R{text}")])


def test_a_zone_is_made_by_its_registered_class_alone():
    assert made(zoned("Offset", 1, False, 3)).tzinfo.hours == 3
    assert made(zoned("Offset", 1, True, 3, 4)).tzinfo.hours == (3, 4)
    for parts in (("Other", 1, False, 3), ("Offset", 2, False, 3), ("Offset", 0, False, 3), ("Offset", "1", False, 3)):
        refused(zoned(*parts), UnknownType, CODEC)
    for parts in ((), ("Offset",), ("Offset", 1), ("Offset", 1, False), ("Offset", 1, False, 3, 4)):
        refused(zoned(*parts), MalformedPayload, CODEC)
    for parts in (("Moment", 1, False, 3), ("flowpersist.Reference", 1, False, 3), ("array.array", 1, False, 3)):
        refused(zoned(*parts), (MalformedPayload, UnknownType), CODEC)
    for text in ("R", "R====", "Rx", "R" + "A" * 100_000, "R\ud800"):
        data = document(root=[LEAF, 4, column(f"2026-01-01T00:00:00;0;{text.encode('ascii', 'replace').decode()}")])
        refused(data, MalformedPayload, CODEC)
