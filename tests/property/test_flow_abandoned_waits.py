"""What a run awaits is what the branches that are alive await: after each put, against a model of who is alive.

Documents of sequences, parallels, maps, loops, retries, handlers and timeouts, with questions in all of them, are
answered, left to expire, and answered several at once, in any order.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import selectors
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from returns.result import Failure

from flowpersist import or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, Suspended, tool
from flowpersist.errors import AlreadyResumed, FlowError, SuspensionClosed, SuspensionExpired, WaitSuperseded
from flowpersist.testing.hubs import open_test_hub, travel

MINUTE = timedelta(minutes=1)
ROUNDS = 8
LONG = bool(os.environ.get("FLOWPERSIST_LONG"))


@tool()
async def ok() -> str:
    return "done"


@tool()
async def boom() -> str:
    raise RuntimeError("it broke")


@tool()
async def must(value: object) -> object:
    if value == "no":
        raise RuntimeError("refused")
    return value


@tool()
async def hang() -> None:
    await asyncio.Event().wait()


# ------------------------------------------------------------------------------------------------------------ documents
#
# A step is (kind, id, blocks, options); a block is a list of steps. Options: retry, handler (a block), expires (of a
# question), hangs (of a parallel, whose last branch ends in a tool that never returns, until its timeout).

ITEMS = {"m": 3, "l": 2}


def height(step):
    """How many levels of steps it has, itself included."""
    return 1 + max((height(one) for block in step[2] for one in block), default=0)


def written(step):
    """The step as a document has it."""
    kind, name, blocks, options = step
    common = {"id": name, "retry": options.get("retry", 0)}
    if "handler" in options:
        common["onError"] = [written(inner) for inner in options["handler"]]
    inner = [[written(one) for one in block] for block in blocks]
    if kind == "ask":
        more = {"timeout": 60_000} if options.get("expires") else {}
        return {**common, "tool": "await_input", "args": {"prompt": "?", **more}}
    if kind == "must":
        return {**common, "tool": "must", "args": {"value": f"${options['of']}"}}
    if kind == "p":
        # What stands around another one has the longer timeout: of two that pass at once either may be first.
        until = {"until": {"count": options["needed"]}} if "needed" in options else {}
        return {
            **common,
            **until,
            "parallel": inner,
            **({"timeout": 100 ** (height(step) - 1)} if options.get("hangs") else {}),
        }
    if kind == "m":
        return {**common, "map": [1, 2, 3], "with": inner[0], "concurrency": 3}
    if kind == "l":
        return {**common, "loop": "for", "over": [1, 2], "body": inner[0]}
    return {**common, "sequence": inner[0]} if kind == "s" else {**common, "tool": kind}


class Writer:
    """Draws a document, each of its steps under a name of its own."""

    def __init__(self, draw):
        self.draw, self.numbers = draw, itertools.count()

    def name(self, kind):
        return f"{kind}{next(self.numbers)}"

    def leaf(self, kind):
        return [(kind, self.name(kind), [], {})]

    def question(self):
        flag = st.booleans()
        step = ("ask", self.name("ask"), [], {"expires": self.draw(flag), "retry": self.draw(st.integers(0, 1))})
        if self.draw(flag):
            step[3]["handler"] = self.leaf("ok")
        return [step, ("must", self.name("must"), [], {"of": step[1]})] if self.draw(flag) else [step]

    def block(self, depth):
        return [one for _ in range(self.draw(st.integers(1, 2))) for one in self.part(depth)]

    def part(self, depth):
        kind = self.draw(st.sampled_from(["ask", "ask", "boom", *("ppmls" if depth else ())]))
        if kind in {"ask", "boom"}:
            return self.question() if kind == "ask" else self.leaf(kind)
        return self.container(kind, depth)

    def container(self, kind, depth):
        options = {"retry": self.draw(st.integers(0, 2))}
        if self.draw(st.booleans()):
            options["handler"] = self.question() if self.draw(st.booleans()) else self.leaf("ok")
        blocks = [self.block(depth - 1) for _ in range(self.draw(st.integers(2, 3)) if kind == "p" else 1)]
        if kind == "p" and self.draw(st.integers(0, 5)) == 0:
            options["hangs"] = True
            blocks[-1] += self.leaf("hang")
        elif kind == "p" and self.draw(st.booleans()):
            options["needed"] = self.draw(st.integers(1, len(blocks)))
        return [(kind, self.name(kind), blocks, options)]


@st.composite
def documents(draw):
    return Writer(draw).block(2)


# ---------------------------------------------------------------------------------------------------------- the model


class ModelAsk:
    """One question, asked once: a further attempt makes another of these."""

    numbers = itertools.count()

    def __init__(self, step, path):
        self.path, self.expires, self.number = path, step[3].get("expires", False), next(self.numbers)

    def advance(self, told, _answers):
        event = told.get(self.number)
        if event is None:
            return "pending"
        return "failed" if event == "expired" else ("done", event)

    def alive(self):
        return [self]


class ModelBlock:
    def __init__(self, block, path):
        self.steps = [ModelStep(step, f"{path}.{step[1]}" if path else step[1]) for step in block]
        self.results = {}

    def advance(self, told, answers):
        names = {**answers, **self.results}
        for step in self.steps:
            outcome = step.advance(told, names)
            if isinstance(outcome, str):
                return outcome
            self.results[step.name] = names[step.name] = outcome[1]
        return ("done", "some result")

    def alive(self):
        return next((found for step in self.steps if (found := step.alive())), [])


class ModelMany:
    """Blocks side by side, of which some must be done, or one after another."""

    def __init__(self, blocks, path, at_once, needed=None):
        self.blocks = [ModelBlock(block, f"{path}[{index}]") for index, block in enumerate(blocks)]
        self.at_once, self.needed = at_once, len(blocks) if needed is None else needed
        self.failed = set()

    def advance(self, told, answers):
        outcomes = []
        for block in self.blocks:
            outcomes.append("failed" if block in self.failed else block.advance(told, answers))
            if outcomes[-1] == "failed":
                self.failed.add(block)
            if not self.at_once and isinstance(outcomes[-1], str):
                return outcomes[-1]
        if sum(not isinstance(outcome, str) for outcome in outcomes) >= self.needed:
            return ("done", "some result")
        return "failed" if len(self.blocks) - len(self.failed) < self.needed else "pending"

    def alive(self):
        found = [[] if block in self.failed else block.alive() for block in self.blocks]
        return list(itertools.chain(*found)) if self.at_once else next((one for one in found if one), [])


class ModelLeaf:
    def __init__(self, step):
        self.step = step

    def advance(self, _told, answers):
        kind, _, _, options = self.step
        refused = kind in {"boom", "hang"} or (kind == "must" and answers[options["of"]] == "no")
        return "failed" if refused else ("done", answers.get(options.get("of"), "some result"))

    def alive(self):
        return []


def body_of(step, path):
    kind, _, blocks, _ = step
    if kind == "ask":
        return ModelAsk(step, path)
    if kind in {"p", "m"}:
        needed = step[3].get("needed")
        return ModelMany(blocks if kind == "p" else blocks * ITEMS["m"], path, at_once=True, needed=needed)
    if kind == "l":
        return ModelMany(blocks * ITEMS["l"], path, at_once=False)
    return ModelBlock(blocks[0], path) if kind == "s" else ModelLeaf(step)


class ModelStep:
    def __init__(self, step, path):
        self.step, self.path, self.name = step, path, step[1]
        self.failures, self.running, self.result = 0, None, None
        self.handler = None

    def advance(self, told, answers):
        while self.result is None and self.failures <= self.step[3].get("retry", 0):
            self.running = self.running or body_of(self.step, self.path)
            outcome = self.running.advance(told, answers)
            if outcome == "pending":
                return outcome
            self.running = None
            if outcome == "failed":
                self.failures += 1
            else:
                self.result = outcome
        if self.result is None:
            if "handler" not in self.step[3]:
                return "failed"
            self.handler = self.handler or ModelBlock(self.step[3]["handler"], self.path)
            outcome = self.handler.advance(told, answers)
            if isinstance(outcome, str):
                return outcome
            self.result = outcome
        self.handler = None
        return self.result

    def alive(self):
        return [] if self.result else (self.running or self.handler or ModelLeaf(None)).alive()


# ------------------------------------------------------------------------------------------------------- the comparison


class IdleSelector(selectors.DefaultSelector):
    """Passes to a timer's time where nothing can happen before it, and waits for what threads work at."""

    def __init__(self):
        super().__init__()
        self.now, self.threaded = 0.0, set()

    def select(self, timeout=None):
        if timeout and self.threaded:
            return super().select()
        self.now += timeout or 0.0
        return super().select(None if timeout is None else 0)


class IdleLoop(asyncio.SelectorEventLoop):
    """A loop whose timeouts pass at once where all else waits, and never because the machine is slow."""

    def __init__(self):
        self.idle = IdleSelector()
        super().__init__(self.idle)

    def time(self):
        return self.idle.now

    def run_in_executor(self, executor, func, *args):
        future = super().run_in_executor(executor, func, *args)
        self.idle.threaded.add(future)
        future.add_done_callback(self.idle.threaded.discard)
        return future


class Trial:
    def __init__(self, hub, block):
        self.hub, self.model = hub, ModelBlock(block, "")
        self.runner = FlowRunner(hub, [ok, boom, must, hang], backoff=lambda _: 0)
        self.document = {"flow": [written(step) for step in block]}
        self.told, self.keys, self.id = {}, {}, None

    async def start(self):
        outcome = await self.runner.start(self.document)
        page = or_raise(await self.hub.query())
        self.id = page.items[0].id
        return await self.compare(outcome)

    async def turn(self, data):
        alive = self.model.alive()
        if any(ask.expires for ask in alive) and data.draw(st.booleans(), label="time passes"):
            travel(self.hub, 2 * MINUTE)
            self.told.update({ask.number: "expired" for ask in alive if ask.expires})
            return await self.compare(await self.runner.resume(self.id))
        taken = data.draw(st.lists(st.sampled_from(alive), min_size=1, max_size=3, unique=True), label="answered")
        for ask in taken:
            self.told[ask.number] = data.draw(st.sampled_from(["yes", "no"]))
        for ask in taken[1:]:
            or_raise(await self.hub.answer(self.keys[ask.number], self.told[ask.number]))
        first = taken[0]
        return await self.compare(await self.runner.resume(self.keys[first.number], answer=self.told[first.number]))

    async def compare(self, outcome):
        """Whether it goes on; that it stands where the model does."""
        expected = self.model.advance(self.told, {})
        if expected == "failed":
            assert isinstance(outcome, Failure)
            assert isinstance(outcome.failure(), FlowError)
        elif expected == "pending":
            await self.compare_waits(or_raise(outcome))
        else:
            assert isinstance(or_raise(outcome), Completed)
        await self.compare_dead(ended=expected == "failed")
        return expected == "pending"

    async def compare_waits(self, outcome):
        assert isinstance(outcome, Suspended)
        alive = {ask.path: ask for ask in self.model.alive()}
        assert set(outcome.keys) == set(alive)
        for path, key in outcome.keys.items():
            number = alive[path].number
            if number not in self.keys:
                assert key not in self.keys.values(), f"{path} is asked anew under its old key"
            assert self.keys.setdefault(number, key) == key
        seen = or_raise(await self.hub.inspect(self.id))
        assert {wait.name for wait in seen.waits} == set(alive)
        # What is dead wakes nobody.
        assert (seen.deadline is not None) == any(ask.expires for ask in alive.values())

    async def compare_dead(self, *, ended):
        alive = {ask.number for ask in self.model.alive()}
        kinds = {None: WaitSuperseded, "expired": SuspensionExpired, "yes": AlreadyResumed, "no": AlreadyResumed}
        for number, key in self.keys.items():
            if ended or number not in alive:
                told = (await self.hub.answer(key, "late")).failure()
                assert type(told) is kinds[self.told.get(number)] or (ended and isinstance(told, SuspensionClosed))


def asks(name, **options):
    return ("ask", name, [], options)


#: The document of the fault: A's branch fails, and B's question stood for ever.
LEFT = [("p", "p", [[asks("a"), ("boom", "b", [], {})], [asks("q")]], {"handler": [asks("h")]})]
RETRIED = [("p", "p", [[asks("a"), ("must", "u", [], {"of": "a"})], [asks("q")]], {"retry": 2})]
EXPIRING = [("p", "p", [[asks("a", expires=True)], [asks("q")]], {"retry": 1, "handler": [asks("h")]})]
RACED = [("p", "p", [[asks("a")], [asks("q")], [("boom", "b", [], {})]], {"needed": 1}), asks("z")]
TIMED = [("p", "p", [[asks("a"), ("hang", "n", [], {})], [asks("q")]], {"hangs": True, "handler": [asks("h")]})]


@settings(max_examples=200 if LONG else 40, deadline=None)
@given(block=documents(), data=st.data())
def test_open_waits_are_those_of_the_branches_that_are_alive(block, data):
    with asyncio.Runner(loop_factory=IdleLoop) as loop:
        loop.run(compared(block, data))


async def compared(block, data):
    async with open_test_hub(keyring=None) as hub:
        trial = Trial(hub, block)
        more = await trial.start()
        for _ in range(ROUNDS):
            if not more:
                return
            more = await trial.turn(data)


#: For the documents that are spelt out: the answer that is given to the first question, or None where it expires.
@pytest.mark.parametrize(
    ("block", "event"),
    [(LEFT, "yes"), (RETRIED, "no"), (EXPIRING, None), (TIMED, "yes"), (RACED, "yes")],
    ids=["a branch fails", "an attempt fails", "a sibling expires", "a timeout passes", "one of several is enough"],
)
def test_a_branch_that_is_given_up_takes_its_questions_along(block, event):
    with asyncio.Runner(loop_factory=IdleLoop) as loop:
        loop.run(given_up(block, event))


async def given_up(block, event):
    async with open_test_hub(keyring=None) as hub:
        trial = Trial(hub, block)
        assert await trial.start()
        (first, other) = trial.model.alive()
        trial.told[first.number] = event or "expired"
        if event is None:
            travel(hub, 2 * MINUTE)
            outcome = await trial.runner.resume(trial.id)
        else:
            outcome = await trial.runner.resume(trial.keys[first.number], answer=event)
        assert await trial.compare(outcome)
        assert other.number not in {ask.number for ask in trial.model.alive()}
        assert type((await hub.answer(trial.keys[other.number], "yes")).failure()) is WaitSuperseded
