"""A second evaluator of flow documents, for tests: recursive, without state, always from the beginning."""

from __future__ import annotations

from collections import Counter

from attrs import frozen

#: What the documents refer to as their input.
INPUT = {"on": True, "off": False, "items": ["a", "b", "c"]}


class Waits(Exception):
    """Something awaits an answer; ``open`` are the paths of the questions."""

    def __init__(self, questions):
        super().__init__(questions)
        self.open = questions


class Fails(Exception):
    def __init__(self, step):
        super().__init__(step)
        self.step = step


@frozen
class Names:
    """What a block sees: names, the result before it, and the input of its flow."""

    known: dict[str, object]
    previous: object
    input: object = INPUT


class Evaluator:
    """Evaluates a document from its beginning, with the answers so far: by path, in the order in which they came. A
    delay that has passed is an answer too.
    """

    def __init__(self, answers, decided):
        #: Whether a tool decides each edge between the outermost steps.
        self.decided = decided
        self.left = {path: list(given) for path, given in answers.items()}
        self.calls = Counter()

    def block(self, steps, path, names):
        """The last result, and the results of all steps within."""
        made: dict[str, object] = {}
        previous, before = names.previous, "START"
        for step in steps:
            if self.decided and not path:
                self.calls[f"{before}>{step['id']}"] += 1
                before = step["id"]
            within = Names({**names.known, **made}, previous, names.input)
            previous, inner = self.step(step, f"{path}.{step['id']}" if path else step["id"], within)
            made.update(inner)
            made[step["id"]] = previous
        return previous, made

    def step(self, step, path, names):
        for attempt in range(1, step.get("retry", 0) + 2):
            try:
                return self.operate(step, path, names, attempt)
            except Fails as failed:
                last = failed
        if "onError" not in step:
            raise last
        return self.block(step["onError"], path, names)

    def operate(self, step, path, names, attempt):
        kind = next(name for name in KINDS if name in step)
        return getattr(self, f"_{kind}")(step, path, names, attempt)

    def value(self, text, names):
        if isinstance(text, list):
            return [self.value(one, names) for one in text]
        if isinstance(text, dict):
            return {name: self.value(one, names) for name, one in text.items()}
        if not isinstance(text, str) or not text.startswith("$"):
            return text
        name, *rest = text[1:].split(".")
        found = {**names.known, "input": names.input, "previousOutput": names.previous}[name]
        for part in rest:
            found = found[int(part)] if isinstance(found, list) else found[part]
        return found

    def holds(self, condition, names):
        name, _, compared = condition.partition(" == ")
        return self.value(name, names) == compared.strip("'") if compared else self.value(name, names)

    def _tool(self, step, path, names, attempt):
        if step["tool"] == "await_input":
            if not self.left.get(path):
                raise Waits({path})
            return self.left[path].pop(0)[1], {}
        args = {name: self.value(one, names) for name, one in step["args"].items()}
        self.calls[path] += 1
        refused = args["value"] == "no" if step["tool"] == "must" else attempt <= args.get("fails", 0)
        if refused:
            raise Fails(step["id"])
        return args["value"], {}

    def _delay(self, step, path, names, _attempt):
        if step["delay"]["seconds"]:
            if not self.left.get(path):
                raise Waits({path})
            self.left[path].pop(0)
        return names.previous, {}

    def _flow(self, step, path, names, _attempt):
        inner = step["flow"]
        given = self.value(step["input"], names)
        result, _ = self.block(inner.get("flow") or inner["nodes"], path, Names({}, given, given))
        return result, {}

    def _filter(self, step, _path, names, _attempt):
        return (names.input["items"] if self.holds(step["condition"], names) else []), {}

    def _sequence(self, step, path, names, _attempt):
        return self.block(step["sequence"], path, names)

    def _condition(self, step, path, names, _attempt):
        return self.block(step["then" if self.holds(step["condition"], names) else "else"], path, names)

    def _switch(self, step, path, names, _attempt):
        chosen = step["switch"].strip("'") if step["switch"][0] == "'" else self.value(step["switch"], names)
        return self.block(step["branches"].get(chosen, step["default"]), path, names)

    def _together(self, runs):
        """The results of what runs side by side."""
        ended, questions = [], set()
        for run in runs:
            try:
                ended.append(run())
            except Waits as waits:
                questions |= waits.open
        if questions:
            raise Waits(questions)
        return ended

    def _parallel(self, step, path, names, _attempt):
        blocks = step["parallel"]
        if "until" in step:
            return self._raced(step, path, names)
        ended = self._together(
            [lambda block=block, n=n: self.block(block, f"{path}[{n}]", names) for n, block in enumerate(blocks)]
        )
        return [value for value, _ in ended], {name: one for _, made in ended for name, one in made.items()}

    def _raced(self, step, path, names):
        blocks, needed = step["parallel"], 1 if step["until"] == "any" else step["until"]["count"]
        asks = [f"{path}[{n}].{block[0]['id']}" for n, block in enumerate(blocks)]
        # Of all answers that are left, those of this attempt are the first ones.
        firsts = sorted((self.left[ask][0][0], n) for n, ask in enumerate(asks) if self.left.get(ask))[:needed]
        won = [n for _, n in firsts]
        ended = {n: self.block(blocks[n], f"{path}[{n}]", names) for n in won}
        if len(won) < needed:
            raise Waits({ask for n, ask in enumerate(asks) if n not in won})
        exported = {name: one for n in sorted(won) for name, one in ended[n][1].items()}
        return [ended[n][0] if n in won else None for n in range(len(blocks))], exported

    def _map(self, step, path, names, _attempt):
        def each(n, item):
            within = Names({**names.known, "item": item}, item, names.input)
            try:
                return self.block(step["with"], f"{path}[{n}]", within)
            except Fails as failed:
                if not step.get("continueOnError"):
                    raise
                return {"error": failed.step}, {}

        items = list(enumerate(names.input["items"]))
        if step["concurrency"] == 1:
            ended = [each(n, item) for n, item in items]
        else:
            ended = self._together([lambda n=n, item=item: each(n, item) for n, item in items])
        named = {name for _, made in ended for name in made}
        return [value for value, _ in ended], {name: [made.get(name) for _, made in ended] for name in named}

    def _reduce(self, step, path, names, _attempt):
        value, made = step["initial"], {}
        for n, item in enumerate(step["reduce"]):
            within = Names({**names.known, "item": item, "acc": value}, item, names.input)
            value, made = self.block(step["with"], f"{path}[{n}]", within)
        return value, made

    def _loop(self, step, path, names, _attempt):
        values, exported = [], {}
        for n, item in enumerate(step["over"]):
            before = values[-1] if values else names.previous
            within = Names({**names.known, **exported, "item": item}, before, names.input)
            value, made = self.block(step["body"], f"{path}[{n}]", within)
            values.append(value)
            exported.update(made)
        return values, exported


KINDS = ("tool", "delay", "flow", "filter", "sequence", "condition", "switch", "parallel", "map", "reduce", "loop")


def expected(steps, answers, *, decided):
    """How the flow stands: its result and outputs, the questions that are open, or the step that failed. ``decided``:
    a tool decides each edge between the outermost steps, which is taken.
    """
    evaluator = Evaluator(answers, decided)
    try:
        result, outputs = evaluator.block(steps, "", Names({}, INPUT))
    except Waits as waits:
        return "waits", waits.open, evaluator.calls
    except Fails as failed:
        return "fails", failed.step, evaluator.calls
    return "done", (result, outputs), evaluator.calls
