"""What the forms need of a question."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from returns.result import Result

from flowpersist.errors import PersistenceError
from flowpersist.inputs.action import Action

__all__ = ["Question", "call_members", "members_of", "text_of"]


class Question(Protocol):
    """An ``AwaitInput``, of which the forms are made."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def prompt(self) -> str:
        """What a person is asked."""
        ...

    @property
    def title(self) -> str | None:
        """A heading."""
        ...

    @property
    def parameters(self) -> Mapping[str, object] | None:
        """The schema of what a calling model supplies."""
        ...

    @property
    def shown(self) -> Mapping[str, object] | None:
        """JSON data that is shown with it."""
        ...

    @property
    def ui(self) -> Mapping[str, Mapping[str, object]] | None:
        """Hints for a form, by JSON pointer of the answer."""
        ...

    @property
    def action(self) -> Action | None:
        """The call that the answer approves."""
        ...

    @property
    def deadline(self) -> datetime | None:
        """Until when."""
        ...

    @property
    def json_schema(self) -> Mapping[str, object]:
        """The answer's schema."""
        ...

    def fill(self, arguments: Mapping[str, object] | str) -> Result[Any, PersistenceError]:
        """The question with a model's arguments."""
        ...


def text_of(asked: Question) -> str:
    """Title and prompt in one text."""
    return asked.prompt if asked.title is None else f"{asked.title}: {asked.prompt}"


def members_of(given: object) -> Mapping[str, Any] | None:
    """The members of a mapping, or of a pydantic model as an SDK makes them; None for anything else."""
    if isinstance(given, Mapping):
        return given
    dump = getattr(given, "model_dump", None)
    dumped = dump(mode="json", by_alias=True) if callable(dump) else None
    return dumped if isinstance(dumped, dict) else None


def call_members(given: object) -> Mapping[str, Any] | None:
    """As ``members_of``, and the fields of a dataclass too: some SDKs have calls and messages as such."""
    found, own = members_of(given), getattr(given, "__dict__", None)
    return dict(own) if found is None and isinstance(own, dict) else found
