"""Tools that ask, against a model: which questions are open after each answer, what the tools return, and how often
what they keep is made. They run side by side, fail, are tried again and are cancelled, and answers come in any order.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from returns.result import Success

from flowpersist import AwaitInput, open_hub, or_raise
from flowpersist.dynamicflow import Completed, FlowRunner, ToolContext, tool
from flowpersist.tools import approve

LONG = bool(os.environ.get("FLOWPERSIST_LONG"))
made: Counter[tuple[str, int, str]] = Counter()


def question(name):
    return AwaitInput(id=name, prompt=f"{name}?", schema=int)


async def done(op: str, name: str, number: int, context: ToolContext) -> list[object]:
    if op == "ask":
        return [await context.ask(question(name))]
    if op == "careless":
        try:
            return [await context.ask(question(name))]
        except BaseException:  # noqa: BLE001 - the point of it
            return ["swallowed"]
    if op == "link":
        assert (await context.link(question(name))).startswith("https://x.test/df_susp_")
    if op == "fail" and context.attempt == 1:
        raise RuntimeError("it broke")
    if op == "memo":

        async def make() -> str:
            await asyncio.sleep(0)
            made[context.path, context.attempt, str(number)] += 1
            return f"{number} of {context.attempt}"

        return [await context.memo(str(number), make)]
    return []


@tool()
async def play(script: list[Any], context: ToolContext) -> list[Any]:
    said: list[object] = []
    for number, (op, name) in enumerate(script):
        said += await done(op, name, number, context)
    return said


@define
class Model:
    """One step: what it has been told in this attempt."""

    script: list[tuple[str, str]]
    attempt: int = 1
    told: dict[str, int] = field(factory=dict)
    #: Which questions are open, or the result.
    open: set[str] = field(factory=set)
    result: list[object] | None = None

    def answer(self, name, value):
        self.told[name] = value
        self.play()

    def play(self):
        used: set[str] = set()
        self.open, said = set(), []
        for number, (op, name) in enumerate(self.script):
            unused = next(one for one in (name, *(f"{name}[{n}]" for n in range(1, 9))) if one not in used)
            if op in {"ask", "careless"}:
                used.add(unused)
                if unused not in self.told:
                    self.open.add(unused)
                    return
                said.append(self.told[unused])
            elif op == "link" and unused not in self.told:
                self.open.add(unused)
            elif op == "memo":
                said.append(f"{number} of {self.attempt}")
            elif op == "fail" and self.attempt == 1:
                self.attempt, self.told = 2, {}
                self.play()
                return
        # What it has opened and never asked closes.
        self.open, self.result = set(), said


OPS = st.tuples(st.sampled_from(["ask", "ask", "careless", "link", "memo", "fail"]), st.sampled_from("ab"))
SCRIPTS = st.lists(st.lists(OPS, min_size=1, max_size=5), min_size=1, max_size=3)


async def cancelled(going, turns):
    """Cancel a run after some turns of the event loop, as one does whose process is told to end."""
    task = asyncio.create_task(going)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@settings(max_examples=2_000 if LONG else 40, deadline=None)
@given(scripts=SCRIPTS, guarded=st.booleans(), data=st.data())
def test_tools_that_ask_do_as_the_model_says(scripts, guarded, data):
    asyncio.run(run(scripts, data, guarded=guarded))


async def run(scripts, data, *, guarded):
    made.clear()
    models = {f"p[{number}].t{number}": Model(script) for number, script in enumerate(scripts)}
    branches = [
        [{"id": f"t{number}", "tool": "play", "args": {"script": script}, "retry": 1}]
        for number, script in enumerate(scripts)
    ]
    document = {"metadata": {"name": "play"}, "flow": [{"id": "p", "parallel": branches}]}
    interrupted = False
    async with open_hub("memory://", keyring=None, public_url="https://x.test") as hub:
        # A rule that lets every call pass.
        which = approve(play, hub=hub, when=lambda _: False).tool if guarded else play
        runner = FlowRunner(hub, [which], backoff=lambda _: 0)
        outcome = or_raise(await runner.start(document, run_id="run"))
        for model in models.values():
            model.play()
        while not isinstance(outcome, Completed):
            names = {f"{path}.{name}" for path, model in models.items() for name in model.open}
            assert set(outcome.keys) == names
            path, _, name = data.draw(st.sampled_from(sorted(names)), label="answered").rpartition(".")
            value, key = len(made) + data.draw(st.integers(0, 99)), outcome.keys[f"{path}.{name}"]
            turns = data.draw(st.one_of(st.none(), st.integers(0, 40)), label="cancelled after")
            if turns is not None:
                interrupted = True
                await cancelled(runner.resume(key, answer=value), turns)
                await hub.answer(key, value)
                outcome = or_raise(await runner.start(document, run_id="run"))
            else:
                outcome = or_raise(await runner.resume(key, answer=value))
            models[path].answer(name, value)
        assert outcome.result == [model.result for model in models.values()]
        assert isinstance(await hub.outcome((await ids(hub))[0]), Success)
    if not interrupted:
        assert set(made.values()) <= {1}


async def ids(hub):
    return [found.id for found in or_raise(await hub.query()).items]
