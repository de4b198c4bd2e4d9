"""The items of OpenAI's Agents SDK in a state: ``register(types, agents=[…])``. Needs the extra ``openai-agents``."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from attrs import field, frozen

from flowpersist.codec import TypeRegistry
from flowpersist.codec.refusals import Halted
from flowpersist.errors import ConfigurationError, UnknownType
from flowpersist.errors.arguments import check_items
from flowpersist.integrations import openai
from flowpersist.integrations._packages import modules
from flowpersist.integrations._refusals import malformed, unsupported

__all__ = ["register"]


def register(types: TypeRegistry, *, agents: Iterable[Any] = ()) -> TypeRegistry:
    """Add the items, model responses, usage and errors of runs, and OpenAI's own classes, to a registry.

    The registry is given back. ``agents`` are those that items belong to: an agent is kept by its name, and comes back
    as the one of that name here. ``ConfigurationError`` where openai-agents is missing, two agents have one name, or
    one of these classes is registered with other arguments.
    """
    sdk, items, tool, exceptions = modules(
        "openai_agents", "agents", "agents.items", "agents.tool", "agents.exceptions"
    )
    check_items(agents, "agents", "agents, one after the other")
    known = _named(tuple(agents))
    found = TypeRegistry.tree(
        items.ModelResponse, sdk.Usage, tool.ToolOrigin, fields="tolerant"
    ) | TypeRegistry.subclasses(exceptions.AgentsException)
    for cls in {sdk.Agent, *map(type, known)}:
        found.register(cls, encode=_NameOf(known), decode=_OfName(known))
    for cls in vars(items).values():
        if isinstance(cls, type) and issubclass(cls, items.RunItemBase) and cls is not items.RunItemBase:
            found.register(cls, encode=_fields, decode=_item_of(cls))
    types |= openai.register(found)
    return types


def _named(agents: tuple[Any, ...]) -> tuple[Any, ...]:
    names = [agent.name for agent in agents]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two agents have the name {name!r}; give each its own", "agents")
    return agents


def _identities(agents: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(map(id, agents))


@frozen
class _NameOf:
    """The name of an agent: a function that equals another one of the same agents."""

    agents: tuple[Any, ...] = field(eq=_identities)

    def __call__(self, agent: Any) -> str:  # noqa: ANN401 - the SDK is imported when it is asked for
        if not any(agent is one for one in self.agents):
            raise unsupported(
                "an agent that is not registered",
                "give it to openai_agents.register(types, agents=[…]), which keeps it by its name",
            )
        name: str = agent.name
        return name


@frozen
class _OfName:
    """The agent of a name."""

    agents: tuple[Any, ...] = field(eq=_identities)

    def __call__(self, name: str) -> Any:  # noqa: ANN401 - as above
        for agent in self.agents:
            if agent.name == name:
                return agent
        message = f"no agent {name!r:.80} is registered; give it to openai_agents.register(types, agents=[…])"
        raise Halted(UnknownType(message))


def _fields(item: Any) -> object:  # noqa: ANN401 - as above
    # Weak references stand beside the agents that they refer to; one that is released is read through its reference.
    names = [name for name in vars(item) if not name.endswith("_ref")]
    return {name: getattr(item, name) for name in names}


@cache
def _item_of(cls: type) -> Callable[[dict[str, Any]], Any]:
    declared = {one.name for one in dataclasses.fields(cls)}

    def load(fields: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
        if not declared.issuperset(fields):
            raise malformed("an item of a run has fields that its class does not")
        item: Any = object.__new__(cls)
        for name, value in fields.items():
            item.__dict__[name] = value
            if name == "agent" or name.endswith("_agent"):
                item.__dict__[f"_{name}_ref"] = None if value is None else weakref.ref(value)
        return item

    return load
