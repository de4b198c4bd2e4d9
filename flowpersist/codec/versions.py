"""Values of one class as bytes, which an older version of a program may have written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from attrs import evolve, frozen
from returns.result import Failure, Result, Success

from flowpersist.codec.codec import Codec
from flowpersist.codec.native import NATIVE
from flowpersist.codec.planning import plan_for
from flowpersist.codec.registering import check_upgrades
from flowpersist.codec.registration import Registration
from flowpersist.codec.registry import TypeRegistry
from flowpersist.errors import PersistenceError, SerializationError, UnexpectedType, UnsupportedVersion

__all__ = ["VersionedCodec"]


@frozen(eq=False)
class VersionedCodec:
    """A codec for values of ``cls``, which goes by a name of the owner's, so that it may be moved and renamed.

    ``upgrades``: for each older version a function to the next one: of the fields by name for objects of ``cls``, and
    of the whole value for others, such as dicts. ``base``: the codec that this one was made of.
    """

    base: Codec
    codec: Codec
    cls: type
    version: int
    upgrades: Mapping[int, Callable[[Any], Any]]

    @classmethod
    def of(
        cls, codec: Codec, kind: type, name: str, version: int, upgrades: Mapping[int, Callable[[Any], Any]]
    ) -> Self:
        """The same codec with ``kind`` under this name and version, whether its registry has it or not.

        ``ConfigurationError`` for a class that can't be registered alone.
        """
        check_upgrades(upgrades)
        types = _versioned(codec.types, kind, name, version, upgrades)
        return cls(codec, evolve(codec, types=types), kind, version, upgrades)

    def decode(self, data: bytes, version: int) -> Result[Any, PersistenceError]:
        """The value of bytes that this version wrote, upgraded to the present one."""
        missing = next((step for step in range(version, self.version) if step not in self.upgrades), None)
        if version > self.version or missing is not None:
            remedy = (
                "update this program" if missing is None else f"pass upgrades with a function for version {missing}"
            )
            message = f"the state is of schema version {version}, and this program has version {self.version}"
            return Failure(UnsupportedVersion(f"{message}; {remedy}"))
        return self.codec.decode(data).bind(lambda value: self._upgraded(value, version)).bind(self._expected)

    def _upgraded(self, value: Any, version: int) -> Result[Any, PersistenceError]:  # noqa: ANN401 - of any class
        if self.cls not in _PLAIN and isinstance(value, self.cls):
            # The codec has upgraded its fields.
            return Success(value)
        for step in range(version, self.version):
            try:
                value = self.upgrades[step](value)
            except Exception as error:  # noqa: BLE001 - the user's code
                message = f"the upgrade of the state from version {step} to {step + 1} raised {type(error).__name__}"
                failed = SerializationError(f"{message}; fix upgrades[{step}]: the stored state is intact")
                failed.__cause__ = error
                return Failure(failed)
        return Success(value)

    def _expected(self, value: Any) -> Result[Any, PersistenceError]:  # noqa: ANN401 - as above
        if isinstance(value, self.cls):
            return Success(value)
        message = f"the state is of class {type(value).__qualname__}, not {self.cls.__qualname__}"
        return Failure(UnexpectedType(f"{message}; pass its class as cls, or upgrades that make it"))


#: Classes that the codec keeps without a name and a version.
_PLAIN = NATIVE | {object}


def _versioned(
    types: TypeRegistry, cls: type, name: str, version: int, upgrades: Mapping[int, Callable[[Any], Any]]
) -> TypeRegistry:
    if cls in _PLAIN:
        return types
    known = next((one for one in types if one.cls is cls), None)
    if known is None:
        known = Registration(cls, name, version, plan_for(cls), {})
    one = evolve(known, name=name, version=version, upgrades=dict(upgrades), aliases=(), is_found=False)
    # A registry of its own, since each remembers what names in bytes stand for.
    made = TypeRegistry()
    made.__dict__ |= {
        "_by_class": {**types._by_class, cls: one},  # noqa: SLF001 - of this package
        "_by_name": {**{key: other for key, other in types._by_name.items() if other.cls is not cls}, name: one},  # noqa: SLF001
        "_references": types._references,  # noqa: SLF001
    }
    return made
