"""One registered class: its name and version in the bytes, its plan, and how older versions become newer ones."""

from __future__ import annotations

import attrs
from attrs import frozen

from flowpersist.codec.fields import FieldsPlan
from flowpersist.codec.packing import Cell
from flowpersist.codec.plans import NamedPlan, PairPlan, Plan, StatePlan, Upgrades
from flowpersist.codec.refusals import Halted
from flowpersist.errors import PersistenceError, SerializationError

__all__ = ["Registration", "default_name"]

#: The package whose functions are not the user's.
OURS = "flowpersist"


@frozen(eq=False)
class Registration:
    """One registered class: its name and version on the wire, its plan, and how older versions become newer ones."""

    cls: type
    name: str
    version: int
    plan: Plan
    upgrades: Upgrades
    aliases: tuple[str, ...] = ()
    #: Whether it was found in bulk, and so gives way to one that its class is given by name.
    is_found: bool = False
    #: Whether its objects are written only where the bytes are encrypted.
    is_secret: bool = False
    #: Whether fields may be absent in the bytes, or more than the class declares.
    is_tolerant: bool = False
    #: Whether those that the class does not declare are kept aside, and not dropped.
    keeps_unknown: bool = False

    def says_the_same(self, other: Registration) -> bool:
        """Whether objects become the same bytes and back by both."""
        ours, theirs = (attrs.astuple(one, recurse=False, filter=_counts) for one in (self, other))
        return ours == theirs and set(self.aliases) == set(other.aliases)

    def includes(self, other: Registration) -> bool:
        """Whether it keeps and takes all that the other does, and perhaps more."""
        takes = self.is_tolerant >= other.is_tolerant and self.keeps_unknown >= other.keeps_unknown
        alike = takes and (self.name, self.version, type(self.plan)) == (
            other.name,
            other.version,
            type(other.plan),
        )
        return alike and isinstance(self.plan, FieldsPlan) and set(self.plan.names).issuperset(other.plan.names)

    def tolerates(self, names: tuple[str, ...]) -> bool:
        """Whether these fields are others than its own, and are taken all the same."""
        return self.is_tolerant and isinstance(self.plan, FieldsPlan | NamedPlan) and set(names) != set(self.plan.names)

    def missing_upgrade(self, version: int) -> int | None:
        """The first version from ``version`` on that nothing upgrades; None where the way is whole."""
        return next((step for step in range(version, self.version) if step not in self.upgrades), None)

    def upgrade(self, value: Cell, version: int) -> Cell:
        """What this version has, step by step from what ``version`` had. A step that raises is named: the bytes are
        whole, and the function is to be mended.
        """
        for step in range(version, self.version):
            try:
                value = self.upgrades[step](value)
            except Exception as error:
                raise self._faulty(step, f"raised {type(error).__name__}") from error
        return value

    def upgrade_fields(self, fields: dict[str, Cell], version: int) -> dict[str, Cell]:
        """The same of fields by name."""
        upgraded = self.upgrade(fields, version)
        if not isinstance(upgraded, dict):
            raise self.misfit(f"a {type(upgraded).__name__} instead of a dict of fields")
        return upgraded

    def misfit(self, what: str) -> Halted:
        """The error where the last upgrade returned what this version can't take."""
        return self._faulty(self.version - 1, f"returned {what}")

    def decoded(self, plan: PairPlan, value: Cell) -> Cell:
        """What ``decode=`` makes of a value. A function of the user's that raises is named, as an upgrade is."""
        try:
            return plan.decode(value)
        except PersistenceError:
            raise
        except Exception as error:
            if not _is_users(plan.decode):
                raise
            raise self._raised("decode=", error) from error

    def restored(self, plan: StatePlan, one: Cell, state: Cell, *, upgraded: bool = False) -> None:
        """Hand its state to an object, by a ``__setstate__`` of its own if it has one."""
        has_own = hasattr(self.cls, "__setstate__")
        try:
            plan.restore(one, state)
        except (Halted, PersistenceError) as error:
            if upgraded and not has_own:
                raise self.misfit("a state of which no attributes can be made") from error
            raise
        except Exception as error:
            if not has_own:
                raise
            raise self._raised("__setstate__", error) from error

    def _raised(self, what: str, error: Exception) -> Halted:
        message = (
            f"the {what} of {self.name} raised {type(error).__name__}; mend it where the class is defined or "
            "registered: what is stored is whole"
        )
        return Halted(SerializationError(message, None, self.name))

    def _faulty(self, step: int, how: str) -> Halted:
        message = (
            f"the upgrade of {self.name} from version {step} to {step + 1} {how}; fix upgrades[{step}] where the "
            "class is registered: the stored data is intact"
        )
        return Halted(SerializationError(message, None, self.name))


def _counts(field: attrs.Attribute[object], _: object) -> bool:
    """Whether objects become other bytes by it, or back: a registration by name may repeat one found in bulk."""
    return field.name not in {"aliases", "is_found"}


def _is_users(function: object) -> bool:
    """Whether it is none of ours, which take all that their ``encode=`` gives: what they refuse was never written."""
    return str(getattr(function, "__module__", "")).partition(".")[0] != OURS


def default_name(cls: type) -> str:
    """The name of a class that is given none."""
    return f"{cls.__module__}.{cls.__qualname__}"
