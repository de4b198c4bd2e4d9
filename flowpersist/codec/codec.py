"""Any Python value to bytes and back, with identity kept, and nothing executed that the bytes name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from attrs import Factory, evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.codec.checking import problems_in, unsupported_class, unsupported_value
from flowpersist.codec.collector import collector_paused
from flowpersist.codec.encoder import Encoded, encode_document
from flowpersist.codec.forms import decode_any, encode_short
from flowpersist.codec.limits import Limits
from flowpersist.codec.native import NATIVE
from flowpersist.codec.packing import Cell
from flowpersist.codec.refusals import Halted, Refused, RefusedClass, state_changed
from flowpersist.codec.registry import TypeRegistry
from flowpersist.codec.remedies import class_name
from flowpersist.codec.trees import encode_tree
from flowpersist.codec.trial import refuse_loss
from flowpersist.codec.typed_writing import encode_typed
from flowpersist.codec.watching import Watch
from flowpersist.errors import (
    MalformedPayload,
    PersistenceError,
    SerializationError,
    StateProblem,
    UnknownType,
    UnsupportedType,
)
from flowpersist.errors.arguments import check_bytes, check_classes, check_flag, check_instance, check_items

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
    ``limits`` hold both ways. ``verify``: all that is encoded is decoded at once and compared with the value, which
    takes about three times as long; else only values of which nothing else tells that they come back as they are.
    ``encrypted``: whoever calls encrypts the bytes, so that objects of classes registered as secret may be in them; a
    ``Sealer`` sets it by its keyring.
    What was one object is one object again, cycles included; what can't be kept faithfully
    is refused. A codec has no state of its own and may be shared by threads.
    """

    types: TypeRegistry = field(factory=TypeRegistry, converter=_registry)
    limits: Limits = field(factory=Limits)
    verify: bool = field(default=False)
    encrypted: bool = field(default=False)

    _written: TypeRegistry = field(
        init=False,
        eq=False,
        repr=False,
        default=Factory(lambda self: self.types if self.encrypted else self.types.unencrypted(), takes_self=True),
    )

    def __attrs_post_init__(self) -> None:
        check_instance(self.limits, "limits", Limits, "a Limits")
        check_flag(self.verify, "verify")
        check_flag(self.encrypted, "encrypted")

    def encode(self, value: object) -> Result[bytes, PersistenceError]:
        """The bytes of a value and of all that it reaches: the same graph gives the same bytes.

        Fails with ``UnsupportedType``, which names each class that is missing and where it is, ``StateTooLarge`` or
        ``StateTooDeep``.
        """
        tree = None if self.verify else encode_tree(value, self.limits)
        return self._guarded(value, self._encoded) if tree is None else Success(tree)

    def encode_watched(self, value: object) -> Result[Watched, PersistenceError]:
        """The bytes of a value that others may change meanwhile, and what tells whether they did.

        ``StateChanged`` where that is seen at once.
        """
        return self._guarded(value, self._watched)

    def verifying(self) -> Codec:
        """The same codec, which verifies all that it encodes."""
        return self if self.verify else evolve(self, verify=True)

    def _encoded(self, value: object) -> bytes:
        data = encode_tree(value, self.limits) if self.verify else None
        data = data or encode_typed(value, self._written, self.limits)
        suspects: Sequence[Cell] = ()
        if data is None:
            encoded = encode_document(value, self._written, self.limits)
            data, suspects = encoded.data, encoded.suspects
        if self.verify or suspects:
            refuse_loss(value, data, suspects, self.types, self.limits)
        return data

    def _watched(self, value: object) -> Watched:
        try:
            encoded = self._short(value) or encode_document(value, self._written, self.limits, watched=True)
        except (ValueError, LookupError, StopIteration) as error:
            # Parts that were read one after the other do not fit each other.
            raise Halted(state_changed()) from error
        watched = Watched(encoded.data, encoded.watch, self)
        if self.verify or encoded.suspects:
            self._try(value, encoded, watched)
        return watched

    def _short(self, value: object) -> Encoded | None:
        watch = Watch()
        data = encode_tree(value, self.limits, watch)
        if data is not None:
            return Encoded(data, watch, ())
        data = encode_typed(value, self._written, self.limits)
        if data is None:
            return None
        return Encoded(data, Watch.of_document(lambda: encode_typed(value, self._written, self.limits) == data), ())

    def _try(self, value: object, encoded: Encoded, watched: Watched) -> None:
        try:
            refuse_loss(value, encoded.data, encoded.suspects, self.types, self.limits)
        except Refused:
            # The copy was compared with a value that may have changed meanwhile.
            changed = watched.settled()
            if isinstance(changed, Failure):
                raise Halted(state_changed()) from None
            raise

    def _guarded(self, value: object, encode: Callable[[Cell], T]) -> Result[T, PersistenceError]:
        try:
            with collector_paused():
                return Success(encode(value))
        except RefusedClass as refused:
            return Failure(unsupported_class(value, refused.refused, self._written))
        except Refused as refused:
            error = unsupported_value(value, refused, self._written)
            error.__cause__ = refused.__cause__
            return Failure(error)
        except Halted as halted:
            return Failure(halted.error)
        except (RuntimeError, MemoryError) as error:
            failed = _unencodable(error)
            failed.__cause__ = error
            return Failure(failed)
        except Exception as error:  # noqa: BLE001 - users' classes run code while they are read and hashed
            name = type(error).__name__
            message = (
                f"the value could not be encoded, because reading a part of it raised {name}; mend the class of it"
            )
            failed = SerializationError(f"{message}, or register it with encode= and decode=")
            failed.__cause__ = error
            return Failure(failed)

    def encode_brief(self, value: object) -> bytes | None:
        """The same bytes, if a bounded look (some tenths of a millisecond) tells that they are few; else None, whatever
        there is to say of the value.
        """
        try:
            brief = encode_short(value, self._written, self.limits, brief=True)
            if brief is not None and self.verify:
                with collector_paused():
                    refuse_loss(value, brief, (), self.types, self.limits)
        except Exception:  # noqa: BLE001 - what the error is a sign of is for encode to say
            return None
        return brief

    def takes(self, cls: type) -> bool:
        """Whether objects of a class may be in a value: it is one of Python's own that need no registration, or it is
        registered. An object may be refused all the same, for what is in it.
        """
        check_instance(cls, "cls", type, "a class")
        return cls in NATIVE or self._written.by_class(cls) is not None

    def check(self, value: object) -> tuple[StateProblem, ...]:
        """All that keeps a value from being encoded; nothing where ``encode`` takes it.

        Each class that is not registered is named once, and each reason for which objects of a registered class can't
        be kept, with the path of the first instance and what to do. At most 100 are told.
        """
        try:
            found = problems_in(value, self._written, self.limits)
        except Exception:  # noqa: BLE001 - it changes meanwhile, or runs code of users' classes: encode tells
            found = ()
        if found:
            return found
        result = self.encode(value)
        return () if isinstance(result, Success) else _as_problems(value, result.failure())

    def decode(self, data: bytes) -> Result[object, PersistenceError]:
        """The value of these bytes, which may come from anywhere.

        Fails with ``MalformedPayload``, ``UnknownType``, ``UnsupportedVersion``, ``StateTooLarge`` or
        ``StateTooDeep``; nothing is imported, and of registered classes only fields are set, or the registered
        ``decode=`` and upgrades called.
        """
        check_bytes(data, "data")
        try:
            return Success(decode_any(data, self.types, self.limits))
        except Halted as halted:
            return Failure(halted.error)
        except (MalformedPayload, UnknownType) as error:
            # A ready registry says itself what is wrong.
            return Failure(error)
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


def _as_problems(value: Cell, error: PersistenceError) -> tuple[StateProblem, ...]:
    if isinstance(error, UnsupportedType):
        return error.problems
    reason, _, remedy = error.message.partition("; ")
    return (StateProblem(getattr(error, "path", None), class_name(type(value)), reason, remedy),)
