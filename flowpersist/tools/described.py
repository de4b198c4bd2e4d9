"""A tool as ``approve`` sees it, whatever made it: its name, its schema, how it is called, and its own form again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

from attrs import field, frozen
from returns.result import Failure

from flowpersist.errors import ConfigurationError
from flowpersist.errors.arguments import check_async
from flowpersist.hub.outcome import or_raise
from flowpersist.inputs.json_schema import JsonSchema, check_json
from flowpersist.inputs.json_types import json_form
from flowpersist.inputs.signatures import Signature, signature_of
from flowpersist.inputs.tool_context import ToolContext

__all__ = ["AnyTool", "FunctionTool", "Guard", "function_tool"]

Arguments: TypeAlias = Mapping[str, object]


class Guard(Protocol):
    """Calls a tool if it may be called; gives what came of it. A ``Guarded``."""

    @property
    def terms(self) -> Any:  # noqa: ANN401 - the Terms, which know tools
        """Under which terms."""
        ...

    @property
    def approvals(self) -> Any:  # noqa: ANN401 - the Approvals, as above
        """The standing approvals."""
        ...

    async def call(self, arguments: Arguments, *, extra: object = None) -> object:
        """Call it with JSON data. ``extra``: what the ecosystem passes beside the arguments."""
        ...


class AnyTool(Protocol):
    """A tool of any ecosystem."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def description(self) -> str:
        """What it does."""
        ...

    @property
    def schema(self) -> Mapping[str, object]:
        """The JSON Schema of its arguments."""
        ...

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, object]:
        """The arguments of a call in Python as JSON data."""
        ...

    def completed(self, arguments: Arguments) -> dict[str, object]:
        """Arguments that are JSON data, with the defaults of those that were not given."""
        ...

    async def invoke(self, arguments: Arguments, context: ToolContext, extra: object) -> Any:  # noqa: ANN401 - the tool's own
        """Call it with arguments that fit the schema."""
        ...

    def guarded(self, guard: Guard) -> Any:  # noqa: ANN401 - of the ecosystem's class
        """The tool in its own form, whose calls go through the guard."""
        ...


def named_only(args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> dict[str, object]:
    """The arguments of a tool that takes them by name."""
    if args:
        msg = f"the tool {name!r} takes its arguments by name"
        raise TypeError(msg)
    return {key: json_form(value) for key, value in kwargs.items()}


@frozen(eq=False)
class FunctionTool:
    """An async function, or what ``@tool`` made of one."""

    name: str
    description: str
    schema: Mapping[str, object] = field(repr=False)
    function: Callable[..., Awaitable[Any]] = field(repr=False)
    signature: Signature = field(repr=False)
    _defaults: Mapping[str, object] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_defaults", _defaults(self.function, self.signature, self.schema))

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, object]:
        """See ``AnyTool``."""
        bound = _signature(self.function, self.signature).bind_partial(*args, **kwargs)
        found: dict[str, object] = {}
        for name, value in bound.arguments.items():
            opened = bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            found.update(value if opened else {name: value})
        return {name: json_form(value) for name, value in found.items()}

    def completed(self, arguments: Arguments) -> dict[str, object]:
        """See ``AnyTool``."""
        every = {**self._defaults, **arguments}
        known = self.schema.get("properties")
        # In the schema's order, in which a person reads them.
        names = [name for name in known if name in every] if isinstance(known, Mapping) else []
        return {name: every[name] for name in dict.fromkeys([*names, *every])}

    async def invoke(self, arguments: Arguments, context: ToolContext, extra: object) -> Any:  # noqa: ANN401 - the function's own
        """See ``AnyTool``."""
        del extra
        made = or_raise(self.signature.structured(arguments))
        if self.signature.context is not None:
            made[self.signature.context] = context
        return await self.function(**made)

    def guarded(self, guard: Guard) -> Any:  # noqa: ANN401 - a function, or a Tool
        """See ``AnyTool``."""

        @functools.wraps(self.function)
        async def call(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401 - the function's own
            return await guard.call(self.given(args, kwargs))

        shown = _signature(self.function, self.signature)
        call.__signature__ = shown  # type: ignore[attr-defined]
        call.__annotations__ = {n: kind for n, kind in call.__annotations__.items() if n != self.signature.context}
        return call


def function_tool(
    function: Callable[..., Awaitable[Any]], name: str | None, description: str | None, schema: object
) -> FunctionTool:
    """A plain async function as a tool; its schema is that of its annotations unless it is given."""
    check_async(function, "tool")
    signature = signature_of(function, ToolContext)
    documented = (inspect.getdoc(function) or "").split("\n")[0]
    derived: Any = signature.input_schema() if schema is None else schema
    return FunctionTool(
        name=getattr(function, "__name__", "tool") if name is None else name,
        description=documented if description is None else description,
        schema=dict(derived),
        function=function,
        signature=signature,
    )


def _signature(function: Callable[..., Any], signature: Signature) -> inspect.Signature:
    """The function's own, without the parameter for the context."""
    own = inspect.signature(function)
    return own.replace(parameters=[one for one in own.parameters.values() if one.name != signature.context])


def _defaults(function: Callable[..., Any], signature: Signature, schema: Mapping[str, object]) -> dict[str, object]:
    """The defaults that are JSON data and fit the schema: a person is shown them, and rules can ask for them."""
    properties = schema.get("properties")
    known: Mapping[str, Any] = properties if isinstance(properties, Mapping) else {}
    found: dict[str, object] = {}
    for name, parameter in _signature(function, signature).parameters.items():
        if parameter.default is parameter.empty or not isinstance(known.get(name), Mapping):
            continue
        value = json_form(parameter.default)
        if isinstance(check_json(value), Failure):
            continue
        try:
            within = JsonSchema.of({**known[name], **{key: schema[key] for key in ("$defs",) if key in schema}})
        except ConfigurationError:
            continue
        if within.fits(value):
            found[name] = value
    return found
