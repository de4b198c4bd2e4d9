"""``AwaitInput``: what a flow waits for, what an answer must look like, and what happens when no answer comes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Generic, Unpack, cast, overload

from attrs import evolve, field, frozen
from returns.result import Failure, Result, Success
from typing_extensions import TypeForm, TypeVar

from flowpersist.codec import Limits, TypeRegistry
from flowpersist.errors import ConfigurationError, MalformedPayload, PersistenceError
from flowpersist.errors.arguments import check_instance
from flowpersist.inputs.action import Action
from flowpersist.inputs.answer_types import type_name
from flowpersist.inputs.details import DETAILS, NO_DEFAULT, Details, check_id, check_texts, check_times, own_text
from flowpersist.inputs.filling import checked_arguments, filled_texts
from flowpersist.inputs.forms.mixin import Forms
from flowpersist.inputs.json_schema import JsonSchema, check_json
from flowpersist.inputs.json_types import json_form, schema_of, structure
from flowpersist.inputs.labels import Meaning, Risk, check_labels, labels_data
from flowpersist.inputs.people import PERSONS, Kind, Quorum, checked_people, people_data
from flowpersist.inputs.redaction import check_pointers, masked_question
from flowpersist.inputs.schedule import Escalation, OnExpiry, check_schedule, schedule_data, schedule_fields

__all__ = ["NO_DEFAULT", "AwaitInput"]

A = TypeVar("A", default=Any)
MICROSECOND: Final = timedelta(microseconds=1)
#: Characters of it all as JSON.
MAX_SIZE: Final = 1024 * 1024
#: Of the texts of an answer, which is kept as a state is.
MAX_ANSWER: Final = Limits().max_bytes


@frozen(init=False, repr=False)
class AwaitInput(Forms, Generic[A]):
    """What is awaited.

    - ``id``: its name among tools and in queries. ``prompt``, ``title``: what a person is shown; ``shown``: JSON data
    beside it.
    - ``schema``: the answer's, a JSON Schema or a type that one is derived from; None takes any JSON value.
    - ``parameters``: the schema of what a calling model supplies; ``$name`` in prompt and title is filled from it.
    - ``default``: the answer when the deadline passes; without one the wait expires.
    - ``action``: the call that the answer approves. Its default must reject it, unless ``approve_on_expiry``.
    - ``timeout`` from the pause, ``deadline``: until when; ``suspend``'s own override both.
    - ``on_expiry``: what the deadline does: ``default`` (needs one), ``expire`` (takes none) or ``escalate`` (goes to
    the next step, after the last one as if left out). ``reminders``: at most 16 offsets before the deadline;
    ``escalation``: at most 16 ``Escalation`` steps.
    - ``risk``: ``low``, ``medium``, ``high`` or ``critical``; ``priority``: 0 to 100, the higher the more urgent;
    ``metadata``: at most 32 entries. They are sealed with the question.
    - ``ui``: hints for a form, by JSON pointer of the answer: ``label``, ``help``, ``placeholder``, ``widget`` and
    ``order``.
    - ``redact``: JSON pointers of ``shown`` that are masked in lists, events, notifications and as text.
    - ``meaning``: what a person who answers does, for the audit trail: ``review``, ``approval`` or
    ``responsibility``.
    - ``checks``: names of the hub's checks that an answer must pass too; a default is not asked.
    - ``assignees``, ``groups``: who may answer, by subject or by a role; everybody where neither is given.
    - ``quorum``: how many people must agree: a number, a ``Quorum``, or its data.
    - ``answerable_by``: the kinds of principals that may answer; empty, with a timeout or deadline: nobody, only time
      ends the wait, and it has no key.

    All of it is kept as it was when this was made; ``size`` is that of its JSON text in characters.
    ``ConfigurationError`` where a schema, a default or a time makes no sense, or where it is too large.
    """

    id: str
    prompt: str
    schema: TypeForm[A] | Mapping[str, object] | None = None
    title: str | None = None
    parameters: Mapping[str, object] | None = None
    default: object = NO_DEFAULT
    timeout: timedelta | None = None
    deadline: datetime | None = None
    shown: Mapping[str, object] | None = None
    action: Action | None = None
    approve_on_expiry: bool = False
    on_expiry: OnExpiry | None = None
    reminders: Sequence[timedelta] = ()
    escalation: Sequence[Escalation] = ()
    risk: Risk | None = None
    priority: int | None = None
    meaning: Meaning | None = None
    metadata: Mapping[str, str | int | float | bool] | None = None
    ui: Mapping[str, Mapping[str, object]] | None = None
    redact: Sequence[str] = ()
    checks: Sequence[str] = ()
    assignees: Collection[str] = ()
    groups: Collection[str] = ()
    quorum: Quorum | int | Mapping[str, object] | None = None
    answerable_by: Collection[Kind] = PERSONS
    _json_schema: Mapping[str, object] = field(init=False, repr=False, eq=False)
    _data: Mapping[str, object] = field(init=False, repr=False, eq=False)
    size: int = field(init=False, repr=False, eq=False)

    # By hand, since a checker finds what a Literal or a union makes of A only where no mapping is in its way.
    @overload
    def __init__(self, id: str, prompt: str, schema: TypeForm[A], **details: Unpack[Details]) -> None: ...

    @overload
    def __init__(
        self, id: str, prompt: str, schema: Mapping[str, object] | None = None, **details: Unpack[Details]
    ) -> None: ...

    def __init__(self, id: str, prompt: str, schema: object = None, **details: Unpack[Details]) -> None:
        unknown = sorted(set(details) - set(DETAILS))
        if unknown:
            msg = f"unexpected arguments of an AwaitInput: {', '.join(unknown)}"
            raise TypeError(msg)
        make: Any = getattr(self, "__attrs_init__")  # noqa: B009 - attrs makes it, unseen by pyright
        if "title" in details:
            details["title"] = own_text(details["title"])
        make(own_text(id), own_text(prompt), schema, **details)

    def __attrs_post_init__(self) -> None:
        check_id(self.id)
        given = {name: getattr(self, name) for name in ("prompt", *DETAILS)}
        check_texts(self.id, given)
        derived = {} if self.schema is None else schema_of(self.schema)
        object.__setattr__(self, "_json_schema", derived)
        JsonSchema.of(derived, what=f"the schema of {self.id!r}")
        if self.parameters is not None:
            JsonSchema.of(self.parameters, what=f"the parameters of {self.id!r}")
        check_times(given)
        check_schedule(self.id, given, has_default=self.default is not NO_DEFAULT)
        object.__setattr__(self, "reminders", tuple(sorted(self.reminders, reverse=True)))
        object.__setattr__(self, "escalation", tuple(self.escalation))
        check_labels(self.id, given, derived)
        object.__setattr__(self, "checks", tuple(self.checks))
        for what, people in checked_people(self.id, given).items():
            object.__setattr__(self, what, people)
        default: object = NO_DEFAULT
        if self.default is not NO_DEFAULT:
            # As an answer: an instance of the schema's class will do, and the class's own rules are asked. Its bound is
            # smaller, since it is stored with the question.
            default = self.default if self.schema is None else json_form(self.default)
            self._require("default", JsonSchema.of(derived).check(default).bind(self.parse))
            self._refuse_silence(default)
        if self.shown is not None:
            self._require("shown", check_json(self.shown, what="shown"))
        object.__setattr__(self, "redact", check_pointers(self.redact, "redact", self.shown))
        # Its mappings stay the caller's, who may change them: what was checked is what is stored.
        text = json.dumps(self._given(default), ensure_ascii=False)
        if len(text) > MAX_SIZE:
            message = f"the AwaitInput {self.id!r} takes {len(text)} characters as JSON, over {MAX_SIZE}: show less"
            raise ConfigurationError(message, "shown")
        object.__setattr__(self, "size", len(text))
        object.__setattr__(self, "_data", json.loads(text))
        object.__setattr__(self, "_json_schema", self._data.get("schema", {}))
        for name in ("ui", "metadata"):
            object.__setattr__(self, name, self._data.get(name))

    def _given(self, default: object) -> dict[str, object]:
        """The fields that were given, as JSON data."""
        data: dict[str, object] = {
            "id": self.id,
            "prompt": self.prompt,
            "title": self.title,
            "parameters": None if self.parameters is None else dict(self.parameters),
            "shown": None if self.shown is None else dict(self.shown),
            "action": None if self.action is None else self.action.to_data(),
            "approve_on_expiry": self.approve_on_expiry or None,
            "timeout": None if self.timeout is None else self.timeout // MICROSECOND,
            "deadline": None if self.deadline is None else self.deadline.astimezone(UTC).isoformat(),
        }
        data |= people_data(self.assignees, self.groups, self.quorum, self.answerable_by)
        given = {name: value for name, value in data.items() if value is not None}
        given |= schedule_data({name: getattr(self, name) for name in ("on_expiry", "reminders", "escalation")})
        given |= labels_data({name: getattr(self, name) for name in DETAILS})
        if self.schema is not None:
            given["schema"] = dict(self._json_schema)
        if default is not NO_DEFAULT:
            given["default"] = default
        return given

    def _require(self, name: str, checked: Result[object, PersistenceError]) -> None:
        if isinstance(checked, Failure):
            raise ConfigurationError(f"the {name} of {self.id!r} is not valid: {checked.failure()}", name)

    def _refuse_silence(self, default: object) -> None:
        if self.action is None or self.approve_on_expiry:
            return
        decided = self.action.decided(default)
        if isinstance(decided, Success) and decided.unwrap() is not None:
            raise ConfigurationError(
                f"Invalid default of {self.id!r}: silence would approve the call of {self.action.tool!r}. Use a "
                "default that rejects it, or approve_on_expiry=True",
                "default",
            )

    def __repr__(self) -> str:
        given = masked_question(self._data)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def masked(self) -> AwaitInput[A]:
        """The same with what it redacts masked, to be shown where it is not answered. It has no default then."""
        made = masked_question(self._data)
        if made is self._data:
            return self
        action = None if self.action is None else self.action.masked()
        changes = {"shown": made.get("shown"), "action": action, "redact": ()}
        return evolve(cast("Any", self), **changes, default=NO_DEFAULT, on_expiry=None)

    @property
    def json_schema(self) -> Mapping[str, object]:
        """The answer's JSON Schema; empty where any JSON value will do."""
        return self._json_schema

    def check(self, answer: object) -> Result[object, PersistenceError]:
        """The answer as JSON data, or ``InputValidationError`` with problems, at most 100, and their JSON pointers.

        As a hub, it takes as many characters as a state may have bytes: 100 Mi, where the hub has no limits of its own.
        """
        checked = JsonSchema.of(self._json_schema).check(answer, max_text=MAX_ANSWER)
        return checked.bind(lambda value: edit_checked(self._data, value))

    def parse(self, answer: object) -> Result[A, PersistenceError]:
        """The answer as a value of the schema's class; as JSON data where the schema is a mapping."""
        # What a hub has accepted is not refused for its size.
        checked = JsonSchema.of(self._json_schema).check(answer, max_text=None)
        if self.schema is None or isinstance(self.schema, Mapping):
            return cast("Result[A, PersistenceError]", checked)
        kind = self.schema
        return checked.bind(lambda value: structure(value, kind))

    def fill(self, arguments: Mapping[str, object] | str) -> Result[AwaitInput[A], PersistenceError]:
        """With ``$name`` in prompt and title replaced by the arguments, a mapping or its JSON text, once they are
        checked.
        """
        parameters = cast("Mapping[str, object]", self._data.get("parameters") or {"type": "object"})
        texts = (self.prompt, self.title)
        filled = checked_arguments(self.id, parameters, arguments).bind(partial(filled_texts, self.id, texts))
        return filled.map(lambda new: evolve(cast("Any", self), prompt=new[0], title=new[1]))

    def to_data(self, types: TypeRegistry | None = None) -> dict[str, object]:
        """As JSON data, the way a suspension keeps it. Of the schema's type the name is kept, by which ``types`` have
        its classes: a process that has them too runs their rules on an answer.
        """
        check_instance(types, "types", (TypeRegistry, type(None)), "a TypeRegistry or None")
        given = dict(self._data)
        name = None if isinstance(self.schema, Mapping | None) else type_name(self.schema, types or TypeRegistry())
        return given if name is None else {**given, "class": name}

    @classmethod
    def from_data(cls, data: Mapping[str, object]) -> Result[AwaitInput[object], PersistenceError]:
        """What ``to_data`` gave; ``MalformedPayload`` where it is not that."""
        try:
            # The class is for whoever checks an answer; here the schema stands for it.
            made: dict[str, Any] = {name: value for name, value in data.items() if name != "class"}
            if "timeout" in made:
                made["timeout"] = made["timeout"] * MICROSECOND
            if "action" in made:
                made["action"] = Action.from_data(made["action"])
            if "deadline" in made:
                made["deadline"] = datetime.fromisoformat(made["deadline"])
            return Success(cast("AwaitInput[object]", cls(**made | schedule_fields(made))))
        except (TypeError, ValueError, OverflowError, ConfigurationError) as error:
            return Failure(_malformed(error))


def schema_in(data: Mapping[str, object]) -> Result[JsonSchema, PersistenceError]:
    """The schema of an answer to what ``to_data`` gave; ``MalformedPayload`` where it is not that."""
    try:
        return Success(JsonSchema.stored(data.get("schema", {})))
    except ConfigurationError as error:
        return Failure(_malformed(error))


def edit_checked(data: Mapping[str, object], answer: object) -> Result[object, PersistenceError]:
    """The answer, if what it edits of the action still fits the tool; ``data`` is what ``to_data`` gave."""
    if not isinstance(answer, Mapping) or answer.get("decision") != "edit" or "action" not in data:
        return Success(answer)
    try:
        action = Action.from_data(cast("Mapping[str, Any]", data["action"]))
    except (TypeError, ValueError, ConfigurationError) as error:
        return Failure(_malformed(error))
    return action.decided(answer).map(lambda _: answer)


def _malformed(error: Exception) -> PersistenceError:
    return MalformedPayload(f"not an AwaitInput that this release can read ({type(error).__name__})")
