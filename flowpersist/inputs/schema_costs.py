"""Bounds on the work that a JSON Schema can make of an instance, computed before validation.

A schema may apply several of its parts to one value, each part several more, and as many again to each child, so the
work can double with every step or level. This module follows the parts as a validator does, through every keyword that
applies a schema and through every reference, and counts how often, at most, each part is applied to one value at each
depth. These counts and the sizes of an instance (values and text at each depth) give a bound on the steps.

A step takes about 25 ns. ``tests/property/test_schema_exponential.py`` measures that the bound holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import Factory, define, field, frozen

from flowpersist.inputs.schema_graph import ERROR, Graph, Part, SchemaCostError

__all__ = ["MAX_WORK", "Costs", "Measure", "SchemaCostError", "costs_of"]

#: The steps for one instance: about 50 ms.
MAX_WORK: Final = 2_000_000
#: The cost limit of counting a schema: the ways from parts to those of a child, and these at all depths.
MAX_EDGES: Final = 20_000
MAX_COUNTING: Final = 200_000
#: The limit of a validator's own recursion, which uses the stack of a thread.
MAX_FRAMES: Final = 2_000
#: The steps of an integer of more than 64 bits, which is compared as decimal text.
BIG: Final = 2_000


@define
class Measure:
    """The sizes of an instance: values and characters at each depth. Keys count one level below their object."""

    values: defaultdict[int, int] = Factory(lambda: defaultdict(int))
    text: defaultdict[int, int] = Factory(lambda: defaultdict(int))
    big: int = 0
    fractions: int = 0

    @property
    def depth(self) -> int:
        """The depth of the deepest value."""
        return max(self.values, default=0)

    @property
    def size(self) -> int:
        """The number of values."""
        return sum(self.values.values())

    def add(self, depth: int, item: object) -> None:
        """Add a value at this depth; the children of a container are added separately."""
        self.values[depth] += 1
        if type(item) is str:
            self.text[depth] += len(item)
        elif type(item) is dict:
            if item:
                self.values[depth + 1] += len(item)
                self.text[depth + 1] += sum(len(key) for key in item if isinstance(key, str))
        elif type(item) is int and item.bit_length() > 63:  # noqa: PLR2004 - what fits a register
            self.big += 1
            self.values[depth] += BIG
        elif type(item) is float:
            self.fractions += 1


@frozen
class _Level:
    """The maxima at one depth: steps for a value, steps for a character, and steps where errors are made."""

    value: float
    text: float
    errors: float


_NOTHING: Final = _Level(0, 0, 0)


@frozen(eq=False)
class Costs:
    """The bounds of one schema. ``max_depth`` is the greatest depth of an instance."""

    max_depth: int
    graph: Graph = field(repr=False)
    _levels: tuple[_Level, ...] = field(repr=False)

    def work(self, measure: Measure) -> float:
        """The most steps that it takes to find out whether an instance is valid."""
        steps = self._sum(measure, lambda level: level.value)
        steps += sum(self._at(depth).text * size for depth, size in measure.text.items())
        return steps + (_unique_work(measure) if self.graph.unique else 0)

    def error_work(self, measure: Measure) -> float:
        """The most steps that it takes to find all the errors of an instance."""
        copied = sum((depth + 1) * (4 * n + measure.text[depth] / 16) for depth, n in dict(measure.values).items())
        most = max((self._at(depth).errors for depth in measure.values), default=0)
        # An error about a key holds a copy of its object, so there are as many copies as keys.
        copies = most / ERROR + (2 * measure.size if self.graph.named else 0)
        work = self.work(measure) * (measure.depth + 1)
        return work + self._sum(measure, lambda level: level.errors) + copied * copies

    @property
    def error_steps(self) -> float:
        """The most steps that the errors of one value take."""
        return max(level.errors for level in self._levels)

    def _sum(self, measure: Measure, cost: Callable[[_Level], float]) -> float:
        return sum(cost(self._at(depth)) * n for depth, n in measure.values.items())

    def _at(self, depth: int) -> _Level:
        # No part is applied beyond the last level that was counted.
        return self._levels[min(depth, len(self._levels) - 1)]


def _unique_work(measure: Measure) -> float:
    # Large integers share one hash; fractions, and nested values in short arrays, are compared in pairs.
    nested = 8 if measure.depth > 1 else 1
    pairs = measure.big**2 * 125 + nested * (100 * measure.fractions + measure.size)
    return pairs * (measure.depth + 1)


def costs_of(schema: Mapping[str, Any], most: int, weigh: Callable[[str], float]) -> Costs:
    """Compute the bounds of a schema for instances of at most that depth. ``weigh`` gives a pattern's steps for a
    character.

    ``SchemaCostError`` if the schema can't be bounded, or applies too many parts to one value.
    """
    graph = Graph.of(schema, weigh)
    levels, deepest = _levels(_Entries.of(graph), graph.root, most)
    if deepest < 0:
        msg = "it applies its parts too often to one value"
        raise SchemaCostError(msg)
    return Costs(deepest, graph, tuple(levels))


@frozen(eq=False)
class _Entry:
    """A part that is applied to a child, with all parts that it applies to the same value added up.

    ``below`` gives for each kind of child (properties by name, other properties, keys, items by position and elsewhere)
    how often which entry is checked where this one is checked, checked where its errors are collected, and collected
    where its errors are collected.
    """

    own: _Level
    height: int
    below: dict[tuple[str, object], dict[Part, tuple[float, float, float]]]

    @classmethod
    def of(cls, graph: Graph, part: Part) -> _Entry:
        """Add up a part's costs."""
        value = text = errors = 0.0
        below: dict[tuple[str, object], dict[Part, tuple[float, float, float]]] = {}
        for one, (asked, again, told) in graph.closure(part).items():
            value += asked * one.steps
            text += asked * one.text_steps
            errors += again * one.steps + told * (one.steps + one.error_steps)
            for other, kind, which, times, twice in one.below:
                uses = below.setdefault((kind, which), {})
                before = uses.get(other, (0.0, 0.0, 0.0))
                more = (asked * times, (again + (told if twice else 0)) * times, told * times)
                uses[other] = (before[0] + more[0], before[1] + more[1], before[2] + more[2])
        return cls(_Level(value, text, errors), part.height, below)

    def under(self, levels: Mapping[Part, _Level]) -> _Level:
        """The costs one level down, for the child with the most."""
        sums = {kind: _summed(uses, levels) for kind, uses in self.below.items()}
        most = _NOTHING
        for (kind, which), one in sums.items():
            anywhere = _NOTHING if which is None else sums.get((kind, None), _NOTHING)
            most = _Level(
                max(most.value, one.value + anywhere.value),
                max(most.text, one.text + anywhere.text),
                max(most.errors, one.errors + anywhere.errors),
            )
        return most

    def frames_under(self, frames: Mapping[Part, int]) -> int:
        """The depth of the recursion with one more level."""
        return self.height + max((frames[other] for uses in self.below.values() for other in uses), default=0)


def _summed(uses: Mapping[Part, tuple[float, float, float]], levels: Mapping[Part, _Level]) -> _Level:
    value = text = errors = 0.0
    for other, (asked, again, told) in uses.items():
        level = levels[other]
        value += asked * level.value
        text += asked * level.text
        errors += again * level.value + told * level.errors
    return _Level(value, text, errors)


@frozen(eq=False)
class _Entries:
    by_part: Mapping[Part, _Entry]
    edges: int

    @classmethod
    def of(cls, graph: Graph) -> _Entries:
        """Add up the root's costs, and those of all parts that are applied to a child."""
        found: dict[Part, _Entry] = {}
        pending, edges = [graph.root], 0
        while pending:
            part = pending.pop()
            if part in found:
                continue
            entry = found[part] = _Entry.of(graph, part)
            edges += 1 + sum(len(uses) for uses in entry.below.values())
            if edges > MAX_EDGES:
                msg = "its parts can be applied in too many combinations"
                raise SchemaCostError(msg)
            pending.extend(other for uses in entry.below.values() for other in uses)
        return cls(found, edges)


def _levels(entries: _Entries, root: Part, most: int) -> tuple[list[_Level], int]:
    """The bounds at each depth, and the depth down to which they hold."""
    here = {part: entry.own for part, entry in entries.by_part.items()}
    frames = {part: entry.height for part, entry in entries.by_part.items()}
    levels: list[_Level] = []
    while len(levels) <= most:
        level = here[root]
        counted = entries.edges * len(levels)
        if level.value > MAX_WORK or frames[root] > MAX_FRAMES or counted > MAX_COUNTING:
            return levels, len(levels) - 1
        levels.append(level)
        if not level.errors:
            break
        here = {part: entry.under(here) for part, entry in entries.by_part.items()}
        frames = {part: entry.frames_under(frames) for part, entry in entries.by_part.items()}
    return levels, most
