"""The codecs that are compared, each with the options with which it keeps most."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from importlib.util import find_spec
from typing import Any, TypeAlias

from attrs import frozen
from returns.result import Failure, Result

from flowpersist import Codec, PersistenceError

__all__ = ["PEERS", "Peer", "make_peers", "missing"]

Types: TypeAlias = tuple[type, ...]


@frozen
class Peer:
    """A codec: to bytes and back, and whether Python's collector runs meanwhile."""

    name: str
    encode: Callable[[object], Any]
    decode: Callable[[Any], object]
    collector: bool = True


def _raised(result: Result[Any, PersistenceError]) -> Any:  # noqa: ANN401 - bytes or any value
    if isinstance(result, Failure):
        raise result.failure()
    return result.unwrap()


def _ours(types: Types) -> Peer:
    codec = Codec(types=types)
    return Peer("ours", lambda value: _raised(codec.encode(value)), lambda data: _raised(codec.decode(data)))


def _dumps(value: object) -> bytes:
    return pickle.dumps(value, protocol=5)


def _pickle(_: Types) -> Peer:
    return Peer("pickle", _dumps, pickle.loads)


def _pickle_alone(_: Types) -> Peer:
    return Peer("pickle, collector off", _dumps, pickle.loads, collector=False)


def _cloudpickle(_: Types) -> Peer:
    import cloudpickle

    return Peer("cloudpickle", lambda value: cloudpickle.dumps(value, protocol=5), cloudpickle.loads)


def _dill(_: Types) -> Peer:
    import dill

    return Peer("dill", lambda value: dill.dumps(value, protocol=5), dill.loads)


def _jsonpickle(_: Types) -> Peer:
    import jsonpickle

    return Peer(
        "jsonpickle",
        lambda value: jsonpickle.encode(value, keys=True).encode(),
        lambda data: jsonpickle.decode(data.decode(), keys=True),
    )


def _msgspec(_: Types) -> Peer:
    import msgspec

    return Peer("msgspec", msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode)


def _plain(value: object) -> object:
    """For ormsgpack, which takes dataclasses and most leaves, what it does not."""
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)


def _ormsgpack(_: Types) -> Peer:
    import ormsgpack

    option = ormsgpack.OPT_NON_STR_KEYS
    return Peer(
        "ormsgpack",
        lambda value: ormsgpack.packb(value, default=_plain, option=option),
        lambda data: ormsgpack.unpackb(data, option=option),
    )


def _langgraph(types: Types) -> Peer:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    serializer = JsonPlusSerializer(allowed_msgpack_modules=types or None)
    return Peer(
        "LangGraph JsonPlus",
        lambda value: serializer.dumps_typed(value)[1],
        lambda data: serializer.loads_typed(("msgpack", data)),
    )


#: By the name for ``--peers``: what must be installed, and what makes the codec for some classes.
PEERS: Mapping[str, tuple[str, Callable[[Types], Peer]]] = {
    "ours": ("flowpersist", _ours),
    "pickle": ("pickle", _pickle),
    "pickle-alone": ("pickle", _pickle_alone),
    "cloudpickle": ("cloudpickle", _cloudpickle),
    "dill": ("dill", _dill),
    "jsonpickle": ("jsonpickle", _jsonpickle),
    "msgspec": ("msgspec", _msgspec),
    "ormsgpack": ("ormsgpack", _ormsgpack),
    "langgraph": ("langgraph", _langgraph),
}


def missing(names: Iterable[str]) -> list[str]:
    """Those of the named codecs that are not installed."""
    return [name for name in names if find_spec(PEERS[name][0]) is None]


def make_peers(names: Iterable[str], types: Types) -> list[Peer]:
    """Those that are, for these classes."""
    wanted = list(names)
    absent = set(missing(wanted))
    return [PEERS[name][1](types) for name in wanted if name not in absent]
