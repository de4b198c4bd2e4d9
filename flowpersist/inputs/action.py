"""What an approval approves: one call of one tool, with its arguments."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, cast

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success

from flowpersist.errors import ConfigurationError, InputValidationError, PersistenceError, Problem
from flowpersist.errors.arguments import check_instance, check_optional, check_str
from flowpersist.inputs.json_patch import patched
from flowpersist.inputs.json_schema import JsonSchema, check_json
from flowpersist.inputs.redaction import check_pointers, masked, masked_action

__all__ = ["DECISIONS", "Action", "Decision"]

#: What a person may decide about a call.
Decision: TypeAlias = Literal["approve", "edit", "reject", "respond"]
DECISIONS: Final = ("approve", "edit", "reject", "respond")


@frozen(repr=False)
class Action:
    """The call that a person approves. It is part of the question's digest: another call is another question.

    - ``tool``: the name of the tool.
    - ``arguments``: JSON data, as the tool would be called with.
    - ``version``: the tool's version.
    - ``policy``: the version of the policy that asks for the approval.
    - ``schema``: the JSON Schema of the tool's arguments. An edit of them is checked against it.
    - ``redact``: JSON pointers of the arguments that are masked where the call is not shown to be decided.
    """

    tool: str
    arguments: Mapping[str, object] = field(factory=dict)
    version: str | None = None
    policy: str | None = None
    schema: Mapping[str, object] | None = None
    redact: Sequence[str] = ()

    def __attrs_post_init__(self) -> None:
        check_str(self.tool, "tool")
        check_optional(self.version, "version", check_str)
        check_optional(self.policy, "policy", check_str)
        check_instance(self.schema, "schema", (Mapping, type(None)), "a mapping or None")
        if not self.tool:
            raise ConfigurationError("Invalid tool of an Action: expected a name, not an empty text", "tool")
        if not isinstance(self.arguments, Mapping):
            kind = type(self.arguments).__name__
            raise ConfigurationError(f"Invalid arguments of {self.tool!r}: expected a mapping, not {kind}", "arguments")
        # The caller's own may change after the question was asked.
        checked = check_json(dict(self.arguments), what="the arguments")
        self._require(checked)
        object.__setattr__(self, "arguments", copy.deepcopy(checked.unwrap()))
        object.__setattr__(self, "redact", check_pointers(self.redact, "redact", self.arguments))
        if self.schema is not None:
            JsonSchema.of(self.schema, what=f"the schema of {self.tool!r}")
            object.__setattr__(self, "schema", copy.deepcopy(dict(self.schema)))
            self._require(self.check(self.arguments))

    def _require(self, checked: Result[object, PersistenceError]) -> None:
        if isinstance(checked, Failure):
            raise ConfigurationError(f"Invalid arguments of {self.tool!r}: {checked.failure()}", "arguments")

    def check(self, arguments: object) -> Result[object, PersistenceError]:
        """Whether arguments fit the tool's schema; ``InputValidationError`` names each place.

        - ``arguments``: JSON data.
        """
        what = f"the arguments of {self.tool!r}"
        if not isinstance(arguments, Mapping):
            problem = Problem("", "must be an object")
            return Failure(InputValidationError(f"{what} {problem.message}", [problem]))
        return JsonSchema.of(self.schema or {}).check(dict(arguments), what=what)

    def decided(self, answer: object) -> Result[Action | None, PersistenceError]:
        """What was approved: the call as it was asked, or as it was edited; None where it was refused.

        An edit replaces the arguments (``arguments``) or changes them (``patch``, a JSON Patch). Only a decision to
        approve or to edit, or a plain true, approves.

        - ``answer``: JSON data: a bool, or an object with ``decision``.
        """
        if answer is True:
            return Success(self)
        decision = answer.get("decision") if isinstance(answer, Mapping) else None
        if decision == "approve":
            return Success(self)
        if decision != "edit" or not isinstance(answer, Mapping):
            return Success(None)
        return self._edited(answer).bind(self.check).map(lambda found: evolve(self, arguments=cast("Any", found)))

    def _edited(self, answer: Mapping[str, Any]) -> Result[object, PersistenceError]:
        if ("arguments" in answer) == ("patch" in answer):
            problem = Problem("", "must have either arguments or patch, since it edits the call")
            return Failure(InputValidationError(f"the answer {problem.message}", [problem]))
        return Success(answer["arguments"]) if "arguments" in answer else patched(self.arguments, answer["patch"])

    def __repr__(self) -> str:
        arguments = masked(self.arguments, self.redact)
        return f"Action(tool={self.tool!r}, arguments={arguments!r}, version={self.version!r}, policy={self.policy!r})"

    def masked(self) -> Action:
        """The same with what it redacts masked. It has no schema, which the masked arguments need not fit."""
        return Action.from_data(masked_action(self.to_data())) if self.redact else self

    def to_data(self) -> dict[str, object]:
        """As JSON data; what was not given is left out."""
        data: dict[str, object] = {"tool": self.tool, "arguments": dict(self.arguments)}
        redact = list(self.redact) or None
        named = {"version": self.version, "policy": self.policy, "schema": self.schema, "redact": redact}
        return data | {name: value for name, value in named.items() if value is not None}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Action:
        """What ``to_data`` gave. Raises ``TypeError`` or ``ConfigurationError`` where it is not that."""
        return cls(**data)
