"""``RoleAuthorizer``: who may do what, by roles, by the names of a wait's assignees and groups, and by tenant.

It decides on what ``by`` says, which the application vouches for: see docs/how-to/decide-who-may-do-what.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Final

from attrs import field, frozen

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_callable, check_flag, check_mapping
from flowpersist.inputs.people import Principal, names_of, persons_of
from flowpersist.lifecycle.model import WaitStatus
from flowpersist.lifecycle.views import Suspension, Wait

__all__ = ["ALL_VERBS", "VERBS", "WORKER_VERBS", "RoleAuthorizer", "tenants_in_roles"]

#: The verbs that an authorizer is asked about.
VERBS: Final = frozenset(
    (
        *("suspend", "reserve", "inspect", "history", "keys", "query", "outcome", "failure", "peek"),
        *("answer", "resume", "claim", "cancel", "extend", "retry"),
        *("renew", "complete", "fail", "park", "release", "suspend_next", "checkpoint"),
    )
)
#: In a mapping of roles: every verb.
ALL_VERBS: Final = "*"
#: What workers and runners call in nobody's name.
WORKER_VERBS: Final = frozenset(
    (
        *("claim", "renew", "complete", "fail", "park", "release", "suspend_next", "checkpoint"),
        *("peek", "outcome", "failure"),
    )
)
#: The verbs that can bring an answer.
_ANSWERING: Final = frozenset({"answer", "resume", "claim"})
#: What whoever may answer a wait may do with its suspension beside answering.
_LOOKING: Final = frozenset({"inspect", "query"})
_TENANT: Final = "tenant:"


def tenants_in_roles(principal: Principal) -> frozenset[str]:
    """The tenants that a principal belongs to: ``acme`` by the role ``tenant:acme``."""
    return frozenset(role.removeprefix(_TENANT) for role in principal.roles if role.startswith(_TENANT))


def _verbs(given: Collection[str]) -> frozenset[str]:
    verbs = frozenset(names_of(given, "verbs"))
    unknown = sorted(verbs - VERBS - {ALL_VERBS})
    if unknown:
        known = ", ".join(sorted(VERBS))
        raise ConfigurationError(f"Invalid verbs: expected some of {known}, or {ALL_VERBS}, not {unknown[0]}", "verbs")
    return VERBS if ALL_VERBS in verbs else verbs


def _by_role(given: Mapping[str, Collection[str]]) -> Mapping[str, frozenset[str]]:
    check_mapping(given, "roles")
    names_of(tuple(given), "roles")
    return MappingProxyType({role: _verbs(verbs) for role, verbs in given.items()})


def _check_flag(_: object, attribute: object, value: object) -> None:
    check_flag(value, getattr(attribute, "name", ""))


def _check_callable(_: object, attribute: object, value: object) -> None:
    check_callable(value, getattr(attribute, "name", ""))


@frozen(kw_only=True)
class RoleAuthorizer:
    """An authorizer that grants verbs by role.

    Usage::

        roles = {"approver": {"answer", "inspect"}, "operator": {"cancel", "extend", "query", "inspect"}}
        hub = open_hub(url, authorizer=RoleAuthorizer(roles=roles))

    - A verb is granted by a role of the principal, by ``everybody``, and to whoever made the suspension by
      ``requester``.
    - The assignees of a wait and the members of its groups may ``answer`` it, and ``inspect`` and ``query`` its
      suspension, whatever their roles. Where a wait names some, nobody else may answer it.
    - ``resume`` and ``claim`` with the key of an open question are an ``answer`` too, and need both grants.
    - Whoever made the suspension never answers its questions, nor does somebody on their behalf, unless
      ``self_approval``.
    - A suspension of a tenant is for principals of that tenant alone.
    - A principal answers where the question takes its kind: a model's never answers for a person.

    - ``roles``: the verbs of each role; ``*`` stands for every verb.
    - ``everybody``: the verbs of every principal.
    - ``requester``: the verbs of whoever made the suspension.
    - ``nobody``: the verbs of calls that name nobody, as workers make them.
    - ``self_approval``: whether whoever asked may answer.
    - ``tenants``: the tenants of a principal; by default those of its roles ``tenant:NAME``.
    """

    roles: Mapping[str, Collection[str]] = field(factory=dict, converter=_by_role)
    everybody: Collection[str] = field(default=(), converter=_verbs)
    requester: Collection[str] = field(default=("inspect", "query"), converter=_verbs)
    nobody: Collection[str] = field(default=tuple(sorted(WORKER_VERBS)), converter=_verbs)
    self_approval: bool = field(default=False, validator=_check_flag)
    tenants: Callable[[Principal], Collection[str]] = field(default=tenants_in_roles, validator=_check_callable)

    def __call__(self, verb: str, suspension: Suspension, wait: Wait | None, principal: Principal | None, /) -> bool:
        """Whether the principal may do this to that suspension."""
        asked = wait if wait is not None and _answers(verb, wait) else None
        needed = {verb} if asked is None else {verb, "answer"}
        if principal is None:
            return needed <= set(self.nobody)
        if suspension.tenant is not None and suspension.tenant not in self.tenants(principal):
            return False
        granted = self._granted(suspension, principal)
        if asked is None:
            looking = verb in _LOOKING and any(_entitled(one, principal) for one in suspension.open_waits)
            return looking or verb in granted
        if not self._may_answer(suspension, asked, principal):
            return False
        return needed <= granted | ({"answer"} if _entitled(asked, principal) else set())

    def _granted(self, suspension: Suspension, principal: Principal) -> set[str]:
        granted = set(self.everybody)
        for role in principal.roles:
            granted.update(self.roles.get(role, ()))
        asked_by = suspension.requester
        if asked_by is not None and persons_of(asked_by) & persons_of(principal):
            granted.update(self.requester)
        return granted

    def _may_answer(self, suspension: Suspension, wait: Wait, principal: Principal) -> bool:
        if principal.kind not in wait.answerable_by:
            return False
        if (wait.assignees or wait.groups) and not _entitled(wait, principal):
            return False
        asked_by = suspension.requester
        own = asked_by is not None and bool(persons_of(asked_by) & persons_of(principal))
        return self.self_approval or not own


def _answers(verb: str, wait: Wait) -> bool:
    """Whether the verb can bring an answer to this wait. One that has ended only says how it ended."""
    return verb == "answer" or (verb in _ANSWERING and wait.asks and wait.status is WaitStatus.OPEN)


def _entitled(wait: Wait, principal: Principal) -> bool:
    """Whether the wait names the principal, or a group of it."""
    return principal.subject in wait.assignees or not set(principal.roles).isdisjoint(wait.groups)
