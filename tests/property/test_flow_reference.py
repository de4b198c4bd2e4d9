"""Flows against a second evaluator, which computes from the document and the answers what a run gives.

Documents of both forms have questions that are answered in any order, delays, sub-flows, retries, handlers, failures,
and edges that a tool decides. Their runs are cut off and go on with another runner. Results, outputs, calls, open
questions and open delays must be those of the evaluator.
``FLOWPERSIST_LONG=5000`` tries that many documents.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections import Counter
from datetime import timedelta
from unittest.mock import patch

import pytest
from attrs import define, field
from flow_evaluator import INPUT, expected
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from returns.result import Failure

from flowpersist import or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, ToolContext, apart, grouping, tool
from flowpersist.dynamicflow.results import delays_of
from flowpersist.errors import FlowError
from flowpersist.lifecycle import paging
from flowpersist.testing.hubs import open_test_hub, travel

LONG = os.environ.get("FLOWPERSIST_LONG", "")
DOCUMENTS = int(LONG) if LONG.isdecimal() and int(LONG) > 1 else (1000 if LONG else 60)
MOST_KILLS = 3
#: The seconds of a delay.
HOUR = 3600
#: What a sub-flow may get in the place of the run's input.
OTHER_INPUT = {"on": "$input.off", "off": "$input.on", "items": ["p", "q"]}


# -------------------------------------------------------------------------------------------------------------- tools


@define
class Machine:
    """What the tools have been called for, and the calls at which the process that runs the flow is killed."""

    keys: Counter[tuple[str, str]] = field(factory=Counter)
    kills: list[int] = field(factory=list)
    calls: int = 0
    killed: int = 0
    task: asyncio.Task[object] | None = None

    async def called(self, context):
        self.keys[context.path, context.key] += 1
        self.calls += 1
        if self.calls in self.kills and self.task is not None:
            self.killed += 1
            self.task.cancel()
            await asyncio.sleep(60)


machine = Machine()


@tool()
async def say(value: object, context: ToolContext) -> object:
    await machine.called(context)
    return value


@tool()
async def flaky(value: object, fails: int, context: ToolContext) -> object:
    await machine.called(context)
    if context.attempt <= fails:
        raise RuntimeError("not yet")
    return value


@tool()
async def must(value: object, context: ToolContext) -> object:
    await machine.called(context)
    if value == "no":
        raise RuntimeError("refused")
    return value


TOOLS = [say, flaky, must]

# ---------------------------------------------------------------------------------------------------------- documents


class Writer:
    """Draws documents. Where branches run side by side, what fails in one has a handler: which calls another one has
    made by then is a matter of chance.
    """

    def __init__(self, draw):
        self.draw, self.numbers = draw, itertools.count()
        self.races = False

    def name(self, kind):
        return f"{kind}{next(self.numbers)}"

    def flag(self, of=2):
        return self.draw(st.integers(1, of)) == 1

    def block(self, depth, names, alone, least=1):
        """Steps; ``names`` can be referred to, ``alone``: nothing runs beside them."""
        names = list(names)
        steps = []
        for _ in range(self.draw(st.integers(least, 2))):
            step = self.step(depth, names, alone)
            steps.append(step)
            names.append(step["id"])
        return steps

    def step(self, depth, names, alone):
        kinds = ["say", "say", "ask", "ask", "flaky", "must", "filter", "delay"]
        inner = (
            ["sub", "sub", "seq", "par", "par", "map", "map", "red", "loop", "if", "race", "switch"] if depth else []
        )
        kind = self.draw(st.sampled_from(kinds + inner))
        step = {"id": self.name(kind), **getattr(self, f"_{kind}")(depth, names, alone)}
        fails = kind not in {"say", "ask", "filter", "delay"}
        if fails and self.flag(3):
            step["retry"] = self.draw(st.integers(1, 2))
        if fails and (not alone or self.flag(3)):
            step["onError"] = self.block(0, names, False) if self.flag() else self.quiet(names)
        return step

    def quiet(self, names):
        return [{"id": self.name("say"), **self._say(0, names, True)}]

    def value(self, names):
        choices = ["$previousOutput", "$input.items.1", "$input", 7, *(f"${name}" for name in names)]
        return self.draw(st.sampled_from(choices))

    def _say(self, _depth, names, _alone):
        return {"tool": "say", "args": {"value": [self.value(names), self.value(names)]}}

    def _ask(self, _depth, _names, _alone):
        return {"tool": "await_input", "args": {"prompt": "?"}}

    def _delay(self, _depth, _names, _alone):
        return {"delay": {"seconds": self.draw(st.sampled_from([0, HOUR, HOUR]))}}

    def _sub(self, depth, names, alone):
        """A flow of its own, which sees nothing but its input."""
        seen = self.draw(st.sampled_from(["$input", OTHER_INPUT]))
        return {"flow": written(self.block(depth - 1, [], alone), self.flag()), "input": seen}

    def _flaky(self, _depth, names, _alone):
        return {"tool": "flaky", "args": {"value": self.value(names), "fails": self.draw(st.integers(0, 2))}}

    def _must(self, _depth, names, _alone):
        asked = [name for name in names if name.startswith("ask")]
        return {"tool": "must", "args": {"value": f"${asked[-1]}" if asked else "no"}}

    def _filter(self, _depth, names, _alone):
        asked = [name for name in names if name.startswith("ask")]
        condition = f"${asked[-1]} == 'yes'" if asked else self.draw(st.sampled_from(["$input.on", "$input.off"]))
        return {"filter": "$input.items", "condition": condition}

    def condition(self, names):
        asked = [name for name in names if name.startswith("ask")]
        return (
            f"${asked[-1]} == 'yes'"
            if asked and self.flag()
            else self.draw(st.sampled_from(["$input.on", "$input.off"]))
        )

    def _seq(self, depth, names, alone):
        return {"sequence": self.block(depth - 1, names, alone)}

    def _if(self, depth, names, alone):
        otherwise = self.block(depth - 1, names, alone) if self.flag() else []
        return {"condition": self.condition(names), "then": self.block(depth - 1, names, alone), "else": otherwise}

    def _switch(self, depth, names, alone):
        asked = [name for name in names if name.startswith("ask")]
        branches = {"yes": self.block(depth - 1, names, alone)}
        return {
            "switch": f"${asked[-1]}" if asked else "'yes'",
            "branches": branches,
            "default": self.block(0, names, alone),
        }

    def _par(self, depth, names, _alone):
        return {"parallel": [self.block(depth - 1, names, False) for _ in range(self.draw(st.integers(2, 3)))]}

    def _race(self, _depth, names, _alone):
        """Branches that each wait first, for an answer or for time: the order in which these come says who wins."""
        self.races = True
        branches = []
        for number in range(self.draw(st.integers(2, 3))):
            ask = {"id": self.name("ask"), **self._ask(0, names, False)}
            # One delay at most, since several may pass at once.
            if number == 0 and self.flag(3):
                ask = {"id": self.name("delay"), "delay": {"seconds": HOUR}}
            branches.append([ask, *(self.quiet([*names, ask["id"]]) if self.flag() else [])])
        return {"parallel": branches, "until": self.draw(st.sampled_from(["any", {"count": 2}]))}

    def _map(self, depth, names, alone):
        one_by_one = alone and self.flag()
        body = self.block(depth - 1, [*names, "item"], one_by_one)
        more = {"continueOnError": True} if one_by_one and self.flag() else {}
        return {"map": "$input.items", "with": body, "concurrency": 1 if one_by_one else 3, **more}

    def _red(self, depth, names, alone):
        body = self.block(depth - 1, [*names, "item", "acc"], alone)
        return {"reduce": ["x", "y"], "initial": 0, "with": body}

    def _loop(self, depth, names, alone):
        return {"loop": "for", "over": [1, 2], "body": self.block(depth - 1, [*names, "item"], alone)}


@st.composite
def documents(draw):
    """The steps of a document, whether its result depends on the order of answers, whether it is in graph form, and if
    so, whether a tool decides its edges.
    """
    writer = Writer(draw)
    steps = writer.block(2, [], True, least=2)
    return steps, writer.races, *draw(st.sampled_from([(False, False), (True, False), (True, True)]))


def written(steps, graph, decided=False):
    if not graph:
        return {"flow": steps}
    condition = {"condition": {"type": "tool", "tool": "say", "args": {"value": True}}} if decided else {}
    pairs = itertools.pairwise(["START", *(one["id"] for one in steps)])
    return {"nodes": steps, "edges": [{"from": one, "to": other, **condition} for one, other in pairs]}


# ------------------------------------------------------------------------------------------------------- the comparison


@define
class Trial:
    hub: object
    steps: list[dict[str, object]]
    races: bool
    graph: bool
    decided: bool
    data: object
    durability: str
    answers: dict[str, list[tuple[int, str]]] = field(factory=dict)
    order: object = field(factory=itertools.count)
    used: set[object] = field(factory=set)

    def runner(self):
        return FlowRunner(self.hub, TOOLS, backoff=lambda _: 0, durability=self.durability)

    async def leg(self, begin):
        """One leg, by as many processes as are killed on the way."""
        while True:
            machine.task = asyncio.create_task(begin(self.runner()))
            killed = machine.killed
            try:
                return await machine.task
            except asyncio.CancelledError:
                assert machine.killed > killed
            page = or_raise(await self.hub.query())
            run_id = page.items[0].id

            def begin(runner, run_id=run_id):
                return runner.resume(run_id)

    async def run(self):
        document = written(self.steps, self.graph, self.decided)
        outcome = await self.leg(lambda runner: runner.start(document, input=INPUT))
        while await self.compare(outcome):
            outcome = await self.gone_on(or_raise(outcome))

    async def gone_on(self, paused):
        delays = delays_of(or_raise(await self.hub.inspect(paused.suspension_id)))
        keys = await self.keys(paused)
        if keys and not (delays and self.data.draw(st.booleans())):
            return await self.answered(keys)
        for path in delays:
            self.answers.setdefault(path, []).append((next(self.order), None))
        travel(self.hub, timedelta(seconds=2 * HOUR))
        return await self.leg(lambda runner: runner.resume(paused.suspension_id))

    async def keys(self, paused):
        """The keys of all open waits, of which a run with pages of them lists some."""
        if not paused.further:
            return paused.keys
        keys = or_raise(await self.hub.keys(paused.suspension_id))
        assert paused.keys.items() <= keys.items()
        assert paused.further == len(keys) - len(paused.keys)
        return keys

    async def answered(self, keys):
        most = 1 if self.races else 3
        paths = self.data.draw(st.lists(st.sampled_from(sorted(keys)), min_size=1, max_size=most, unique=True))
        for path in paths:
            given = self.data.draw(st.sampled_from(["yes", "yes", "no"]))
            self.used.add(keys[path])
            self.answers.setdefault(path, []).append((next(self.order), given))
            if path != paths[0]:
                or_raise(await self.hub.answer(keys[path], given))
        first = self.answers[paths[0]][-1][1]
        return await self.leg(lambda runner: runner.resume(keys[paths[0]], answer=first))

    async def compare(self, outcome):
        """Whether it goes on; that it stands where the second evaluator does."""
        end, what, calls = expected(self.steps, self.answers, decided=self.decided)
        assert Counter(path for path, _ in machine.keys) == calls
        # What was finished at a pause, and what no kill has cut off, was called once.
        assert all(1 <= times <= 1 + machine.killed for times in machine.keys.values())
        if end == "fails":
            assert isinstance(outcome, Failure), outcome
            assert isinstance(outcome.failure(), FlowError)
            assert outcome.failure().step == what
            return False
        ended = or_raise(outcome)
        if end == "waits":
            assert isinstance(ended, Suspended)
            delays = delays_of(or_raise(await self.hub.inspect(ended.suspension_id)))
            keys = await self.keys(ended)
            assert set(keys) == {path for path in what if not is_delay(path)}
            assert set(delays) == {path for path in what if is_delay(path)}
            assert ended.due == min(delays.values(), default=None)
            # What is asked again is asked under a new key.
            assert self.used.isdisjoint(keys.values())
            return True
        assert isinstance(ended, Completed)
        assert (marked(ended.result), marked(dict(ended.outputs))) == what
        return False


def is_delay(path):
    return path.rpartition(".")[2].startswith("delay")


def marked(value):
    """A value with the name of the failed step in the place of an error."""
    if isinstance(value, dict):
        error = value.get("error")
        return (
            {"error": error["step"]} if isinstance(error, dict) else {name: marked(one) for name, one in value.items()}
        )
    return [marked(one) for one in value] if isinstance(value, list) else value


@pytest.fixture(autouse=True)
def quiet():
    """Without the log of each tool that fails, which takes longer than the flows."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=DOCUMENTS, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    document=documents(),
    durability=st.sampled_from(["pause", "step"]),
    kills=st.lists(st.integers(1, 12), max_size=MOST_KILLS, unique=True),
    large=st.sampled_from([1, 2, 200]),
    groups=st.sampled_from([(1, 1), (2, 3), (128, 64)]),
    pages=st.sampled_from([(1, 2), (2, 2), (4, 3), (128, 64)]),
    data=st.data(),
)
def test_a_flow_gives_what_a_second_evaluator_gives(document, durability, kills, large, groups, pages, data):
    """Whatever is so large that it stands apart in the state, however many iterations are dormant together, and however
    few waits are read at a time.
    """
    many, per_group = groups
    paged_from, per_page = pages
    with (
        patch.object(apart, "_LARGE", large),
        patch.object(grouping, "MANY", many),
        patch.object(grouping, "PER_GROUP", per_group),
        patch.object(paging, "PAGED_FROM", paged_from),
        patch.object(paging, "PER_PAGE", per_page),
    ):
        asyncio.run(compared(document, durability, kills, data))


async def compared(document, durability, kills, data):
    global machine  # noqa: PLW0603 - the tools' own
    machine = Machine(kills=kills)
    async with open_test_hub(keyring=None) as hub:
        await Trial(hub, *document, data, durability).run()
