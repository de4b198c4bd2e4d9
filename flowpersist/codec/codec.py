"""Any Python value to bytes and back, with identity kept, and nothing executed that the bytes name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from attrs import field, frozen
from returns.result import Failure, Result, Success

from flowpersist.codec.collector import collector_paused
from flowpersist.codec.decoder import decode_graph
from flowpersist.codec.encoder import encode_graph, encode_watched
from flowpersist.codec.limits import Limits
from flowpersist.codec.packing import Cell
from flowpersist.codec.paths import path_to
from flowpersist.codec.refusals import Halted, Refused, RefusedClass, state_changed
from flowpersist.codec.registry import TypeRegistry
from flowpersist.codec.small import decode_small, encode_small
from flowpersist.codec.watching import Watch
from flowpersist.errors import MalformedPayload, PersistenceError, SerializationError, UnsupportedType
from flowpersist.errors.arguments import check_bytes, check_classes, check_instance, check_items

__all__ = ["Codec", "Watched"]

T = TypeVar("T")
#: Cells that are looked at again in the event loop: it takes three milliseconds or so.
BRIEF_CELLS: Final = 2**17


def _registry(types: TypeRegistry | Iterable[type]) -> TypeRegistry:
    if isinstance(types, TypeRegistry):
        return types
    check_items(types, "types", "a TypeRegistry, or the classes for one")
    classes = tuple(types)
    check_classes(classes, "types", "a TypeRegistry, or the classes for one")
    return TypeRegistry(*classes)


@frozen
class Codec:
    """Values to bytes and back.

    ``types``: the classes that may be in a value, besides Python's own (a registry, or classes to register as they
    are).
    ``limits`` hold both ways. What was one object is one object again, cycles included; what can't be kept faithfully
    is refused. A codec has no state of its own and may be shared by threads.
    """

    types: TypeRegistry = field(factory=TypeRegistry, converter=_registry)
    limits: Limits = field(factory=Limits)

    def __attrs_post_init__(self) -> None:
        check_instance(self.limits, "limits", Limits, "a Limits")

    def encode(self, value: object) -> Result[bytes, PersistenceError]:
        """The bytes of a value and of all that it reaches: the same graph gives the same bytes.

        Fails with ``UnsupportedType``, whose path says where, ``StateTooLarge`` or ``StateTooDeep``.
        """
        return self._guarded(value, self._encoded)

    def encode_watched(self, value: object) -> Result[Watched, PersistenceError]:
        """The bytes of a value that others may change meanwhile, and what tells whether they did.

        ``StateChanged`` where that is seen at once.
        """
        return self._guarded(value, self._watched)

    def _encoded(self, value: object) -> bytes:
        small = encode_small(value, self.types, self.limits)
        return encode_graph(value, self.types, self.limits) if small is None else small

    def _watched(self, value: object) -> Watched:
        try:
            data, watch = encode_watched(value, self.types, self.limits)
        except (ValueError, LookupError, StopIteration) as error:
            # Parts that were read one after the other do not fit each other.
            raise Halted(state_changed()) from error
        return Watched(data, watch, self)

    def _guarded(self, value: object, encode: Callable[[Cell], T]) -> Result[T, PersistenceError]:
        try:
            with collector_paused():
                return Success(encode(value))
        except RefusedClass as refused:
            return Failure(self._unsupported(value, _is_of(refused.refused), _about(refused.refused)))
        except Refused as refused:
            error = self._unsupported(value, _is(refused.value), refused.reason)
            error.__cause__ = refused.__cause__
            return Failure(error)
        except Halted as halted:
            return Failure(halted.error)
        except (RuntimeError, MemoryError) as error:
            failed = _unencodable(error)
            failed.__cause__ = error
            return Failure(failed)

    def encode_brief(self, value: object) -> bytes | None:
        """The same bytes, if a bounded look (some tenths of a millisecond) tells that they are few; else None, whatever
        there is to say of the value.
        """
        try:
            with collector_paused():
                return encode_small(value, self.types, self.limits, brief=True)
        except Exception:  # noqa: BLE001 - what the error is a sign of is for encode to say
            return None

    def _unsupported(self, root: Cell, is_it: Callable[[Cell], bool], reason: str) -> PersistenceError:
        try:
            path = path_to(root, is_it, self.types)
        except RuntimeError:
            # It changes meanwhile.
            path = None
        return UnsupportedType(f"{path or 'a value within'}: {reason}", path)

    def decode(self, data: bytes) -> Result[object, PersistenceError]:
        """The value of these bytes, which may come from anywhere.

        Fails with ``MalformedPayload``, ``UnknownType``, ``UnsupportedVersion``, ``StateTooLarge`` or
        ``StateTooDeep``; nothing is imported, and of registered classes only fields are set, or the registered
        ``decode=`` and upgrades called.
        """
        check_bytes(data, "data")
        try:
            with collector_paused():
                small = decode_small(data, self.types, self.limits)
                value, size = small or decode_graph(data, self.types, self.limits)
                if size > self.limits.max_depth:
                    # Nothing but another walk tells how deep the value is; it is a setting that few lower.
                    encode_graph(value, self.types, self.limits)
                return Success(value)
        except Halted as halted:
            return Failure(halted.error)
        except Exception as error:  # noqa: BLE001 - hostile bytes reach constructors, users' __hash__ and decode=
            return Failure(_undecodable(error))


@frozen
class Watched:
    """The bytes of a value, and whether it still is what it was when it was read."""

    _data: bytes = field(repr=False)
    _watch: Watch = field(repr=False)
    _codec: Codec = field(repr=False)

    @property
    def is_brief(self) -> bool:
        """Whether to look takes a few milliseconds at most, and runs no code of users' classes."""
        return not self._watch.calls and self._is_short

    @property
    def _is_short(self) -> bool:
        return self._watch.cells <= BRIEF_CELLS

    def settled(self) -> Result[bytes, PersistenceError]:
        """The bytes, where nothing has changed since they were made; else ``StateChanged``.

        Of many cells only equality is asked, since identity would take three times as long.
        """

        def encode(value: object) -> bytes | None:
            return self._codec.encode(value).value_or(None)

        with collector_paused():
            unchanged = self._watch.unchanged(encode, strictly=self._is_short)
        return Success(self._data) if unchanged else Failure(state_changed())


def _unencodable(cause: RuntimeError | MemoryError) -> SerializationError:
    if isinstance(cause, RecursionError | MemoryError):
        reason = type(cause).__name__
        return SerializationError(
            f"the value could not be encoded ({reason}); flatten it, or keep parts of it elsewhere"
        )
    # What Python says where a dict, set or deque changes under an iterator.
    return state_changed()


def _undecodable(cause: Exception) -> MalformedPayload:
    reason = type(cause).__name__
    error = MalformedPayload(f"the bytes can't be decoded ({reason}); restore them from a backup")
    error.__cause__ = cause
    return error


def _is(value: Cell) -> Callable[[Cell], bool]:
    return lambda other: other is value


def _is_of(cls: type) -> Callable[[Cell], bool]:
    return lambda other: type(other) is cls


def _about(cls: type) -> str:
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return (
        f"an object of class {name}, which is not registered; register it with TypeRegistry.register, or leave it out"
    )
