"""Who acts, and who may answer: principals, assignees, groups, and quorums."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, cast

from attrs import field, frozen

from flowpersist.backends.base import MAX_TEXT_BYTES, check_text
from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_choice, check_moment, check_optional, out_of_range

__all__ = [
    "KINDS",
    "PERSONS",
    "By",
    "Kind",
    "Principal",
    "Quorum",
    "Via",
    "checked_people",
    "people_data",
    "persons_of",
    "principal_data",
    "principal_from",
    "quorum_in",
    "quorum_of",
    "subject_of",
]

#: What a principal is.
Kind: TypeAlias = Literal["person", "model", "agent", "policy", "system"]
KINDS: Final = ("person", "model", "agent", "policy", "system")
#: The kinds that answer unless a question says otherwise.
PERSONS: Final[tuple[Kind, ...]] = ("person",)
#: Of the names in one field: assignees, groups, or ``of``.
MAX_NAMES: Final = 100
#: Of the votes that a quorum needs.
MAX_QUORUM: Final = 50
MAX_ROLES: Final = 64
#: Bytes of all texts of a principal together, which a suspension keeps with each answer.
MAX_PRINCIPAL: Final = 4 * 1024
_TEXTS: Final = ("name", "issuer", "method", "on_behalf_of")


def names_of(given: object, what: str, *, most: int = MAX_NAMES) -> tuple[str, ...]:
    """The names of a field, as they were given. Raises ``ConfigurationError`` that names the field."""
    if isinstance(given, str) or not isinstance(given, Collection) or isinstance(given, Mapping):
        raise ConfigurationError(f"Invalid {what}: expected a collection of names, not {type(given).__name__}", what)
    names = tuple(given)
    if len(names) > most:
        out_of_range(what, f"at most {most} names", len(names))
    for name in names:
        _check_name(name, what)
    if len(set(names)) < len(names):
        out_of_range(what, "different names", "one of them twice")
    return names


def _check_name(name: object, what: str) -> None:
    takes = f"names of 1 to {MAX_TEXT_BYTES} bytes of UTF-8 without NUL"
    try:
        named = bool(check_text(name, what))
    except (TypeError, ValueError):
        raise ConfigurationError(f"Invalid {what}: expected {takes}", what) from None
    if not named:
        raise ConfigurationError(f"Invalid {what}: expected {takes}, not an empty one", what)


def _roles(given: Collection[str]) -> Collection[str]:
    return names_of(given, "roles", most=MAX_ROLES)


def _of(given: Collection[str]) -> Collection[str]:
    return names_of(given, "of")


@frozen
class Principal:
    """Who acts. It is kept as the caller gives it: the application says who signed in, and how.

    - ``subject``: the name by which one and the same actor is known. A quorum counts each subject once.
    - ``name``: the printed name.
    - ``issuer``: who vouches for the subject, such as an identity provider.
    - ``roles``: what the actor is entitled to at this moment. A group of an ``AwaitInput`` is one of them.
    - ``kind``: person, model, agent, policy or system.
    - ``authenticated_at``, ``method``: when and how the actor signed in.
    - ``on_behalf_of``: the subject that the actor stands for.
    """

    subject: str
    name: str | None = None
    issuer: str | None = None
    roles: Collection[str] = field(default=(), converter=_roles)
    kind: Kind = "person"
    authenticated_at: datetime | None = None
    method: str | None = None
    on_behalf_of: str | None = None

    def __attrs_post_init__(self) -> None:
        _check_name(self.subject, "subject")
        for what in _TEXTS:
            check_optional(getattr(self, what), what, _check_name)
        check_choice(self.kind, "kind", KINDS)
        check_optional(self.authenticated_at, "authenticated_at", check_moment)
        texts = (self.subject, *(getattr(self, what) or "" for what in _TEXTS), *self.roles)
        size = sum(len(text.encode()) for text in texts)
        if size > MAX_PRINCIPAL:
            out_of_range("roles", f"at most {MAX_PRINCIPAL} bytes of all texts of a Principal", size)


def persons_of(who: Principal) -> frozenset[str]:
    """The subjects that an act of this principal is an act of."""
    return frozenset({who.subject} if who.on_behalf_of is None else {who.subject, who.on_behalf_of})


def principal_data(who: Principal) -> dict[str, object]:
    """A principal as JSON data; what was not given is left out."""
    moment = None if who.authenticated_at is None else who.authenticated_at.astimezone(UTC).isoformat()
    data = {"subject": who.subject, "kind": who.kind, "roles": list(who.roles), "authenticated_at": moment}
    data |= {what: getattr(who, what) for what in _TEXTS}
    return {what: one for what, one in data.items() if one is not None}


def principal_from(data: Mapping[str, Any]) -> Principal:
    """The principal of such data."""
    moment = data.get("authenticated_at")
    return Principal(**{**data, "authenticated_at": None if moment is None else datetime.fromisoformat(moment)})


@frozen
class Via:
    """How an answer came: the channel, such as ``email`` or ``slack``, and the id of its delivery there."""

    channel: str
    delivery: str | None = None

    def __attrs_post_init__(self) -> None:
        _check_name(self.channel, "channel")
        check_optional(self.delivery, "delivery", _check_name)


#: Who is acting: a str is the subject of a person.
By: TypeAlias = str | Principal


def subject_of(by: By | None) -> str | None:
    """The subject of who is acting."""
    return by.subject if isinstance(by, Principal) else by


@frozen
class Quorum:
    """How many different people must give the same answer.

    - ``votes``: how many.
    - ``of``: the groups and subjects whose votes count; empty: of everybody who may answer.
    - ``veto``: whether one rejection decides.
    - ``self_approval``: whether whoever asked may vote.
    """

    votes: int
    of: Collection[str] = field(default=(), converter=_of)
    veto: bool = False
    self_approval: bool = False

    def __attrs_post_init__(self) -> None:
        if type(self.votes) is not int or not 1 <= self.votes <= MAX_QUORUM:
            message = f"Invalid quorum: expected a number of votes, a whole number from 1 to {MAX_QUORUM}"
            raise ConfigurationError(message, "quorum")
        for what in ("veto", "self_approval"):
            if type(getattr(self, what)) is not bool:
                kind = type(getattr(self, what)).__name__
                raise ConfigurationError(f"Invalid {what} of a quorum: expected a bool, not {kind}", what)

    def voters(self, assignees: Collection[str], groups: Collection[str], requester: str | None) -> int | None:
        """How many people may vote at most; None where groups make that unknown."""
        if groups or not assignees:
            return None
        known = set(assignees)
        return len(known if self.self_approval else known - {requester})

    def to_data(self) -> dict[str, object]:
        """As JSON data."""
        data = {"votes": self.votes, "of": list(self.of), "veto": self.veto, "self_approval": self.self_approval}
        return {what: one for what, one in data.items() if one}


def quorum_of(given: object, of: object = ()) -> Quorum | None:
    """A quorum as an ``AwaitInput`` takes it: a number of votes, their ``Quorum``, its data, or None."""
    if given is None:
        if of != ():
            raise ConfigurationError("Invalid of: expected a quorum beside it", "of")
        return None
    if isinstance(given, Mapping):
        unknown = sorted(set(map(str, given)) - {"votes", "of", "veto", "self_approval"})
        if unknown or "votes" not in given:
            message = "Invalid quorum: expected an object with votes, and of, veto or self_approval"
            raise ConfigurationError(message, "quorum")
        given = Quorum(**cast("Any", given))
    if not isinstance(given, Quorum):
        given = Quorum(cast("Any", given), cast("Any", of))
    elif of != ():
        if given.of:
            raise ConfigurationError("Invalid of: expected it once, in the Quorum or beside it", "of")
        given = Quorum(given.votes, cast("Any", of), given.veto, given.self_approval)
    return given


def quorum_in(awaiting: Mapping[str, Any] | None) -> Quorum | None:
    """The quorum of what ``AwaitInput.to_data`` gave."""
    data = None if awaiting is None else awaiting.get("quorum")
    return None if data is None else Quorum(**data)


def checked_people(question: str, given: Mapping[str, Any]) -> dict[str, object]:
    """The fields of a question that say who may answer, in one form each. Raises ``ConfigurationError``."""
    assignees, groups = names_of(given["assignees"], "assignees"), names_of(given["groups"], "groups")
    kinds = names_of(given["answerable_by"], "answerable_by")
    quorum = quorum_of(given["quorum"])
    ends = given["timeout"] is not None or given["deadline"] is not None
    if not set(kinds) <= set(KINDS) or not (kinds or ends):
        known = ", ".join(KINDS)
        message = (
            f"Invalid answerable_by of {question!r}: expected at least one of {known}; or none, with a timeout or a "
            "deadline, for a wait that only time ends"
        )
        raise ConfigurationError(message, "answerable_by")
    if not kinds and (assignees or groups or quorum is not None):
        message = (
            f"Invalid answerable_by of {question!r}: nobody may answer, and assignees, groups or a quorum are given"
        )
        raise ConfigurationError(message, "answerable_by")
    voters = None if quorum is None else quorum.voters(assignees, groups, None)
    if quorum is not None and voters is not None and voters < quorum.votes:
        message = f"Invalid quorum of {question!r}: it takes {quorum.votes} votes, and there are {voters} assignees"
        raise ConfigurationError(message, "quorum")
    return {"assignees": assignees, "groups": groups, "quorum": quorum, "answerable_by": kinds}


def people_data(
    assignees: Collection[str], groups: Collection[str], quorum: object, kinds: Collection[str]
) -> dict[str, object]:
    """The same as JSON data; None for what is as usual."""
    return {
        "assignees": list(assignees) or None,
        "groups": list(groups) or None,
        "quorum": quorum.to_data() if isinstance(quorum, Quorum) else None,
        "answerable_by": None if tuple(kinds) == PERSONS else list(kinds),
    }
