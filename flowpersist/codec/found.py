"""The plans of classes that are registered in bulk."""

from __future__ import annotations

from collections.abc import Iterable

from flowpersist.codec.native import NATIVE
from flowpersist.codec.planning import plan_for
from flowpersist.codec.plans import Plan
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_choice, check_items, check_str

__all__ = ["FoundPlans"]


class FoundPlans(dict[type, Plan | None]):
    """The plans of classes that the caller has not named; None for one that has none, or needs none."""

    def __init__(self, attributes: Iterable[str], fields: str) -> None:
        super().__init__()
        check_items(attributes, "attributes", "names of attributes")
        self._attributes = tuple(attributes)
        for name in self._attributes:
            check_str(name, "attributes, of which each one,")
        check_choice(fields, "fields", ("exact", "tolerant"))
        self.is_tolerant = fields == "tolerant"

    def __missing__(self, cls: type) -> Plan | None:
        try:
            plan = None if cls in NATIVE else plan_for(cls, self._attributes)
        except ConfigurationError:
            plan = None
        self[cls] = plan
        return plan
