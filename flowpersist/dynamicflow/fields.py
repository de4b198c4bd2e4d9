"""Readers of a step's fields: each gives a value of the right type, and notes what is wrong with the document's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeVar

from attrs import frozen
from returns.result import Failure

from flowpersist.dynamicflow import expressions
from flowpersist.dynamicflow.document import Document
from flowpersist.dynamicflow.expressions import Expression
from flowpersist.dynamicflow.forms import Draft
from flowpersist.dynamicflow.ir import Block
from flowpersist.dynamicflow.naming import check_name
from flowpersist.dynamicflow.problems import shown
from flowpersist.dynamicflow.references import is_reference
from flowpersist.errors import FlowCode

__all__ = ["TRUE", "Fields"]

#: Stands where an expression could not be read.
TRUE: Final = expressions.parse("true").unwrap()
_MAX_TOOL_BYTES: Final = 128
_T = TypeVar("_T")


class _RefusedError(Exception):
    """Ends a reader whose problem is noted."""


@frozen
class Fields:
    """The fields of one draft, by their canonical names. What is wrong becomes a problem of the document, and a reader
    gives a value that stands for the field.
    """

    draft: Draft
    document: Document

    def report(self, field: str, message: str, expected: str | None = None, code: FlowCode = "invalid-value") -> None:
        """Note what is wrong with a field, or with what a path of names leads to inside it; empty: with the step."""
        pointer, text = self._pointer(field), f"step {self.draft.id!r}: {message}"
        self.document.problems.add(pointer, code, text, expected=expected, step=self.draft.id)

    def refuse(
        self, field: str, message: str, expected: str | None = None, code: FlowCode = "invalid-value"
    ) -> NoReturn:
        """The same, and end the reader that ``tried`` has called."""
        self.report(field, message, expected, code)
        raise _RefusedError

    def _pointer(self, field: str) -> str:
        if not field:
            return self.draft.place.pointer
        name, *inside = field.split("/")
        return "/".join((self.draft.place.at(name), *inside))

    def tried(self, read: Callable[[], _T], default: _T) -> _T:
        """What a reader gives, or the default if it refuses, so that the other fields are read too."""
        try:
            return read()
        except _RefusedError:
            return default

    def block(self, name: str) -> Block:
        """The ids of a block's steps."""
        return tuple(child.id for child in self.draft.blocks.get(name, ()))

    @property
    def cases(self) -> list[str]:
        """The options of a switch that have a branch."""
        return [name.removeprefix("case ") for name in self.draft.blocks if name.startswith("case ")]

    def needed_block(self, name: str, written: str) -> Block:
        """The same for a block that must have steps; ``written`` is the field's usual name."""
        # Of a block that holds something, its own problems say why there are no steps.
        if not self.draft.fields.get(name):
            self._lacking(name, written, "a step, or a list of steps")
        return self.block(name)

    def needed(self, name: str, written: str) -> object:
        """A field that must be there."""
        if name not in self.draft.fields:
            self._lacking(name, written)
        return self.draft.fields.get(name)

    def _lacking(self, name: str, written: str, expected: str | None = None) -> None:
        message = f"needs {written!r}" + (f": {expected}" if expected else "")
        if name in self.draft.fields:
            self.report(name, message, expected)
        else:
            self.report("", message, expected or f"the field {written!r}", "missing-field")

    def name(self, field: str, default: str) -> str:
        """The name of a variable."""
        return check_name(self.draft.fields.get(field, default), field, self.draft, self.document, default)

    def condition(self, name: str = "condition") -> Expression:
        """An expression that must be there."""
        needed = self.needed(name, name)
        return TRUE if name not in self.draft.fields else self.expression(needed, name)

    def expression(self, value: object, written: str) -> Expression:
        """An expression, given as a string, a boolean, or an object with its type."""
        return self.tried(lambda: self._expression(value, written), TRUE)

    def _expression(self, value: object, written: str) -> Expression:
        if isinstance(value, Mapping):
            value = value.get("expression")
        if isinstance(value, bool):
            value = "true" if value else "false"
        if not isinstance(value, str):
            message = f"{written!r} must be an expression, a string, not {type(value).__name__}"
            self.refuse(written, message, "an expression", "wrong-type")
        parsed = expressions.parse(value, self.document.room)
        if isinstance(parsed, Failure):
            message = f"{written!r} can't be read: {parsed.failure()}"
            self.refuse(written, message, "an expression", "invalid-expression")
        return parsed.unwrap()

    def tool_id(self, value: object, written: str) -> str:
        """The id of a tool; empty if it can't be one."""
        if isinstance(value, str) and value and value.isprintable() and len(value.encode()) <= _MAX_TOOL_BYTES:
            return value
        expected = f"the id of a tool, of at most {_MAX_TOOL_BYTES} printable bytes"
        self.report(written, f"Invalid {written!r}: expected {expected}, got {shown(value)}", expected)
        return ""

    def arguments(self, value: object, written: str) -> object:
        """A tool's arguments: an object, or a reference to one; refused if they are none."""
        if not (value is None or isinstance(value, Mapping) or is_reference(value)):
            expected = "an object, or a reference to one"
            self.refuse(written, f"{written!r} must be {expected}", expected, "wrong-type")
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number."""
        value = self.draft.fields.get(name, default)
        return self.tried(lambda: self.whole(value, name, least, most), least)

    def seconds(self, value: object, written: str, most: int) -> float:
        """Milliseconds of the document as seconds; refused if they are none."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            expected = f"a number of milliseconds from 0 to {most}"
            self.refuse(
                written.replace(".", "/"), f"Invalid {written!r}: expected {expected}, got {shown(value)}", expected
            )
        return value / 1000

    def flag(self, name: str) -> bool:
        """True or false; false where it is left out."""
        value = self.draft.fields.get(name, False)
        if isinstance(value, bool):
            return value
        message = f"Invalid {name!r}: expected true or false, got {shown(value)}"
        self.report(name, message, "true or false", "wrong-type")
        return False

    def whole(self, value: object, written: str, least: int, most: int) -> int:
        """A whole number, which a field inside the field ``written`` may give; refused if it is none."""
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            expected = f"a whole number from {least} to {most}"
            self.refuse(
                written.replace(".", "/"), f"Invalid {written!r}: expected {expected}, got {shown(value)}", expected
            )
        return value
