"""What an approval approves: one call of one tool, with its arguments."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from returns.result import Failure

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_optional, check_str
from flowpersist.inputs.json_schema import check_json

__all__ = ["Action"]


@frozen
class Action:
    """The call that a person approves. It is part of the question's digest: another call is another question.

    - ``tool``: the name of the tool.
    - ``arguments``: JSON data, as the tool would be called with.
    - ``version``: the tool's version.
    - ``policy``: the version of the policy that asks for the approval.
    """

    tool: str
    arguments: Mapping[str, object] = field(factory=dict)
    version: str | None = None
    policy: str | None = None

    def __attrs_post_init__(self) -> None:
        check_str(self.tool, "tool")
        check_optional(self.version, "version", check_str)
        check_optional(self.policy, "policy", check_str)
        if not self.tool:
            raise ConfigurationError("Invalid tool of an Action: expected a name, not an empty text", "tool")
        if not isinstance(self.arguments, Mapping):
            kind = type(self.arguments).__name__
            raise ConfigurationError(f"Invalid arguments of {self.tool!r}: expected a mapping, not {kind}", "arguments")
        # The caller's own may change after the question was asked.
        checked = check_json(dict(self.arguments), what="the arguments")
        if isinstance(checked, Failure):
            raise ConfigurationError(f"Invalid arguments of {self.tool!r}: {checked.failure()}", "arguments")
        object.__setattr__(self, "arguments", copy.deepcopy(checked.unwrap()))

    def to_data(self) -> dict[str, object]:
        """As JSON data; what was not given is left out."""
        data: dict[str, object] = {"tool": self.tool, "arguments": dict(self.arguments)}
        named = {"version": self.version, "policy": self.policy}
        return data | {name: value for name, value in named.items() if value is not None}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Action:
        """What ``to_data`` gave. Raises ``TypeError`` or ``ConfigurationError`` where it is not that."""
        return cls(**data)
