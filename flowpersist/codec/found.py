"""The plans of classes that are registered in bulk."""

from __future__ import annotations

from collections.abc import Iterable

from flowpersist.codec.fields import ASIDE
from flowpersist.codec.native import NATIVE
from flowpersist.codec.planning import plan_for
from flowpersist.codec.plans import Plan
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_choice, check_items, check_str

__all__ = ["FoundPlans", "tolerance"]


def tolerance(fields: str, unknown_fields: str) -> tuple[bool, bool]:
    """Whether fields come and go, and whether those that a class does not declare are kept."""
    check_choice(fields, "fields", ("exact", "tolerant"))
    check_choice(unknown_fields, "unknown_fields", ("drop", "keep"))
    if unknown_fields == "keep" and fields != "tolerant":
        raise ConfigurationError("unknown_fields='keep' is for fields='tolerant'; give both", "unknown_fields")
    return fields == "tolerant", unknown_fields == "keep"


class FoundPlans(dict[type, Plan | None]):
    """The plans of classes that the caller has not named; None for one that has none, or needs none."""

    def __init__(self, attributes: Iterable[str], fields: str, unknown_fields: str) -> None:
        super().__init__()
        check_items(attributes, "attributes", "names of attributes")
        self._attributes = tuple(attributes)
        for name in self._attributes:
            check_str(name, "attributes, of which each one,")
        self.is_tolerant, self.keeps_unknown = tolerance(fields, unknown_fields)
        if self.keeps_unknown:
            self._attributes += (ASIDE,)

    def __missing__(self, cls: type) -> Plan | None:
        try:
            plan = None if cls in NATIVE else plan_for(cls, self._attributes)
        except ConfigurationError:
            plan = None
        self[cls] = plan
        return plan
