"""A call of a tool as rules see it, and the rule that says whether a person is asked."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from attrs import asdict, field, frozen

from flowpersist.errors.arguments import mistyped
from flowpersist.errors.tracebacks import Tracebacks
from flowpersist.hub.cancellation import is_cancelled, is_fault
from flowpersist.lifecycle.shown import canonical_digest, digest_text
from flowpersist.tools.patterns import check_pattern, fitting

__all__ = ["Call", "Check", "Rule", "When", "digest_of", "said"]

log = logging.getLogger("flowpersist.tools")


@frozen
class Call:
    """One call of a tool.

    - ``tool``: its name. ``version``: its version. ``policy``: the version of the policy that it is called under.
    - ``arguments``: JSON data, with the defaults of those that were not given.
    - ``requested_by``: who asks for it. ``scope``: what for, such as a conversation.
    """

    tool: str
    arguments: Mapping[str, object] = field(repr=False)
    version: str | None = None
    policy: str | None = None
    requested_by: str | None = None
    scope: str | None = None

    def to_data(self) -> dict[str, object]:
        """As JSON data: the arguments of a ``Call``."""
        return {**asdict(self, recurse=False), "arguments": dict(self.arguments)}

    @property
    def digest(self) -> str:
        """SHA-256 over tool, version, policy and arguments as canonical JSON (RFC 8785): another call has another."""
        named = {"tool": self.tool, "version": self.version, "policy": self.policy, "arguments": dict(self.arguments)}
        return digest_of(named)


def digest_of(data: object) -> str:
    """A digest of JSON data as text."""
    return digest_text(canonical_digest(data))


#: A function of a call, plain or async, that gives a bool.
Check: TypeAlias = Callable[[Call], bool | Awaitable[bool]]
#: Which calls need an approval: a function, all or none of them, or a JSON Schema of their arguments.
When: TypeAlias = Check | bool | Mapping[str, object]


async def said(check: Check, call: Call, what: str, tracebacks: Tracebacks) -> bool | str:
    """What a user's function says of a call; where it says neither True nor False, in words why not."""
    try:
        given = check(call)
        told: object = await given if inspect.isawaitable(given) else given
    except BaseException as error:
        if not is_fault(error, cancelled=is_cancelled()):
            raise
        tracebacks.log(log, error, "%s raised for a call of %s", what, call.tool)
        return f"raised {type(error).__name__}"
    if told is True or told is False:
        return told
    log.error("%s returned %s for a call of %s, and not a bool", what, type(told).__name__, call.tool)
    return f"returned {type(told).__name__} instead of a bool"


@frozen
class Rule:
    """Whether a call needs an approval. What it can't say, a person is asked."""

    when: When = field(repr=False)
    tracebacks: Tracebacks = field(factory=Tracebacks, repr=False)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.when, Mapping):
            object.__setattr__(self, "when", check_pattern(self.when, "when"))
        elif not isinstance(self.when, bool) and not callable(self.when):
            mistyped("when", "a function of a Call, a bool, or a JSON Schema of the arguments", self.when)

    async def asks(self, call: Call) -> bool:
        """False only where the rule says so for certain."""
        when = self.when
        if isinstance(when, bool):
            return when
        if isinstance(when, Mapping):
            return fitting(when, call.arguments) is not False
        return await said(when, call, "when", self.tracebacks) is not False
