"""The kinds of operation that a node does, each with what the document says of it. ``SubFlow``, which has a whole flow,
stands beside that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import field, frozen

if TYPE_CHECKING:
    from flowpersist.dynamicflow.expressions import Expression

__all__ = [
    "Block",
    "Conditional",
    "Decision",
    "Delay",
    "Evaluate",
    "Filter",
    "Kind",
    "Loop",
    "Map",
    "Parallel",
    "Reduce",
    "Sequence",
    "Switch",
    "ToolCall",
]

#: The ids of nodes that run one after another.
Block: TypeAlias = tuple[str, ...]


@frozen
class ToolCall:
    """Call a tool. ``arguments`` may hold references; None: the previous step's result is passed on. ``prompt``, a text
    with references, is what the chooser gets to make a text of, with ``arguments`` as its input.
    """

    tool: str
    arguments: object
    prompt: str | None = None


@frozen
class Decision:
    """A choice that a tool makes: it is called, and its result must be one of the options.

    ``prompt`` is the text with references that the chooser gets, with the options that are ``offered``; None: the tool
    gets ``arguments``, or else the previous step's result.
    """

    tool: str
    arguments: object
    prompt: str | None
    options: tuple[str, ...]
    offered: tuple[Mapping[str, object], ...] = ()
    #: The field, within that of the step, in which the prompt or the arguments stand.
    written: str = field(default="", repr=False, eq=False)


@frozen
class Conditional:
    """Run one of two blocks."""

    condition: Expression | Decision
    if_true: Block
    if_false: Block


@frozen
class Switch:
    """Run the block whose id is the expression's value, else ``default``; None: a value without a block is an error."""

    selector: Expression | Decision
    cases: Mapping[str, Block]
    default: Block | None


@frozen
class Filter:
    """The items of a collection for which the condition holds.

    ``concurrency`` bounds of how many at once a tool decides.
    """

    over: object
    condition: Expression | Decision
    name: str
    concurrency: int = 1


@frozen
class Map:
    """Run a block for each item. ``concurrency`` bounds how many run at once; 1: one after another. ``keep_errors``: an
    item that fails has its error as its result.
    """

    over: object
    body: Block
    name: str
    concurrency: int
    keep_errors: bool = False
    #: Whether results that are lists become parts of the list of results.
    flatten: bool = False


@frozen
class Reduce:
    """Run a block for each item, passing the accumulator from one iteration to the next."""

    over: object
    initial: object
    body: Block
    name: str
    accumulator: str


@frozen
class Loop:
    """Run a block for each item (``condition`` is None), or while a condition holds."""

    over: object
    condition: Expression | Decision | None
    body: Block
    name: str
    limit: int


@frozen
class Parallel:
    """Run several blocks at once, until ``needed`` of them have finished; None: all."""

    branches: tuple[Block, ...]
    needed: int | None = None


@frozen
class Evaluate:
    """The value of an expression."""

    expression: Expression


@frozen
class Sequence:
    """Run a block."""

    steps: Block


@frozen
class Delay:
    """Wait for so many seconds, or until a time; the other one is None. Either may be a reference."""

    seconds: object
    until: object


Kind: TypeAlias = Literal[
    "tool",
    "conditional",
    "switch",
    "filter",
    "map",
    "reduce",
    "loop",
    "parallel",
    "sequence",
    "delay",
    "flow",
    "expression",
    "llm",
]
