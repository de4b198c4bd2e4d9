"""Tokens, their secrets and values: in no frame of ours that a traceback shows, in nothing that a view is taken apart
to, and nothing told by how much work a refusal takes.
"""

from __future__ import annotations

import copy
import gc
import hmac
import json
import pickle
import pprint
import traceback
from collections import Counter
from contextlib import aclosing
from datetime import timedelta
from types import SimpleNamespace

import attrs
import msgspec
import pytest
from click.testing import CliRunner
from returns.result import Failure

from canaries import forms
from flowpersist import AwaitInput, KeyRing, PersistenceHub, RaisingHub, SuspensionKey, or_raise
from flowpersist.backends.base import Where
from flowpersist.cli.commands import command
from flowpersist.dynamicflow import FlowRunner, tool
from flowpersist.errors import (
    BackendUnavailable,
    ConfigurationError,
    PermissionDenied,
    PersistenceError,
    SuspensionNotFound,
)
from flowpersist.keys.suspension_key import generate_key
from flowpersist.lifecycle import model
from flowpersist.lifecycle.model import secret_digest
from flowpersist.sealed.envelope import Sealer
from flowpersist.sealed.heads import HeadCodec
from flowpersist.testing.hubs import open_test_hub

CANARY = "canary-of-the-value-4Hq9Zt"
WORD = AwaitInput(id="word", prompt="A word?", schema=str)
LEASE = timedelta(seconds=30)


def exceptions_of(error):
    """The error, and all that is chained to it or grouped in it."""
    seen, waiting = {}, [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen[id(one)] = one
            waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return seen.values()


def shown(error):
    """What a reporter with locals shows of an error, but for the frames of this file, which are a user's."""
    text = []
    for one in exceptions_of(error):
        frames = [entry for entry in traceback.walk_tb(one.__traceback__) if entry[0].f_code.co_filename != __file__]
        stack = traceback.StackSummary.extract(iter(frames), capture_locals=True)
        text += [repr(one), str(one), repr(one.args), repr(getattr(one, "__notes__", ()))]
        text += [f"{frame.name} {name}={value}" for frame in stack for name, value in (frame.locals or {}).items()]
    return "\n".join(text)


def found(text, *secrets):
    data = text.encode("utf-8", "surrogatepass")
    return {name for secret in secrets for name, form in all_forms(secret).items() if form in data}


def all_forms(secret):
    return {**forms(secret), **({"repr": repr(secret)[2:-1].encode()} if isinstance(secret, bytes) else {})}


class Unkeepable:
    """A state that can't be encoded, and says what it holds."""

    def __repr__(self):
        return CANARY


class Failing:
    """A state whose class fails while it is encoded."""

    def __init__(self):
        self.held = CANARY

    def __repr__(self):
        return CANARY

    def __getstate__(self):
        raise LookupError


# What is called with a token and a value; ``run`` is one that is held.
VERBS = {
    "suspend": lambda hub, key, run: hub.suspend({"n": CANARY}, awaiting=WORD),
    "suspend, large": lambda hub, key, run: hub.suspend([CANARY] * 5000, awaiting=WORD),
    "suspend, reserved": lambda hub, key, run: hub.suspend({"n": CANARY}, key=key),
    "suspend, unkeepable": lambda hub, key, run: hub.suspend({"n": Unkeepable()}),
    "suspend, failing": lambda hub, key, run: hub.suspend({"n": Failing(), "more": [CANARY] * 5000}),
    "inspect": lambda hub, key, run: hub.inspect(key),
    "answer": lambda hub, key, run: hub.answer(key, CANARY),
    "answer, by names": lambda hub, key, run: hub.answer(key=key, value=CANARY),
    "answer, refused": lambda hub, key, run: hub.answer(key, [CANARY]),
    "resume": lambda hub, key, run: hub.resume(key, CANARY),
    "claim": lambda hub, key, run: hub.claim(key, CANARY),
    "outcome": lambda hub, key, run: hub.outcome(key),
    "cancel": lambda hub, key, run: hub.cancel(key, reason=CANARY),
    "extend": lambda hub, key, run: hub.extend(key, timeout=LEASE),
    "renew": lambda hub, key, run: hub.renew(run),
    "release": lambda hub, key, run: hub.release(run, CANARY),
    "fail": lambda hub, key, run: hub.fail(run, CANARY),
    "park": lambda hub, key, run: hub.park(run, {"n": CANARY}, error=CANARY),
    "retry": lambda hub, key, run: hub.retry(run.suspension.id, {"n": CANARY}),
    "peek": lambda hub, key, run: hub.peek(run.suspension.id),
    "complete": lambda hub, key, run: hub.complete(run, [CANARY]),
    "complete, large": lambda hub, key, run: hub.complete(run, [CANARY] * 5000),
    "suspend_next": lambda hub, key, run: hub.suspend_next(run, {"n": CANARY}, awaiting=WORD),
    "checkpoint": lambda hub, key, run: hub.checkpoint(run, {"n": CANARY}, awaiting=WORD),
    "running": lambda hub, key, run: block(hub, key),
    "wrong arguments": lambda hub, key, run: hub.answer(key, CANARY, nothing=CANARY),
    "wrong claim": lambda hub, key, run: hub.claim(key, CANARY, lease=-LEASE),
    "wrong running": lambda hub, key, run: block(hub, key, lease=-LEASE),
    "wrong class of key": lambda hub, key, run: hub.answer(key.encode(), CANARY),
    "a cut token": lambda hub, key, run: hub.answer(key[:-1], CANARY),
}


async def block(hub, key, **options):
    async with hub.running(key, CANARY, **options) as outcome:
        return outcome


# What goes wrong below the verbs.


def nothing_wrong(hub):
    """The verb itself refuses, or does what it should."""


def authorizer_raises(hub):
    def authorizer(verb, suspension, by):
        raise LookupError

    hub.suspensions._authorizer = authorizer


def store_is_down(hub):
    async def down(*_args, **_kwargs):
        message = "the store is down"
        raise BackendUnavailable(message, "memory") from OSError()

    hub.backend.get = hub.backend.put = down


def store_has_a_fault(hub):
    async def broken(*_args, **_kwargs):
        raise ZeroDivisionError

    hub.backend.get = hub.backend.put = broken


WAYS = [nothing_wrong, authorizer_raises, store_is_down, store_has_a_fault]


async def failure(call):
    """What a verb raises or returns as a failure; None where it succeeds."""
    try:
        result = await call
    except Exception as error:  # noqa: BLE001 - any
        return error
    return result.failure() if isinstance(result, Failure) else None


async def failed(hub, door, verb, way):
    new = or_raise(await hub.suspend(1, awaiting=WORD) if "reserved" not in verb else await hub.reserve(WORD))
    other = or_raise(await hub.suspend(1))
    run = or_raise(await hub.claim(other.id))
    way(hub)
    return new.key, await failure(VERBS[verb](door(hub), str(new.key), run))


def same(hub):
    return hub


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("door", [same, RaisingHub])
async def test_no_frame_of_ours_holds_a_token_or_a_value(door, verb, way):
    async with open_test_hub() as hub:
        key, error = await failed(hub, door, verb, way)
    if way in {authorizer_raises, store_is_down, store_has_a_fault} or "wrong" in verb or "," in verb:
        assert error is not None or verb in {
            "suspend, large",
            "suspend, reserved",
            "answer, by names",
            "complete, large",
        }
    if error is not None:
        assert found(shown(error), str(key), str(key)[12:40], key.secret, CANARY) == set()


async def test_each_verb_was_made_to_fail():
    failures = Counter()
    for verb in VERBS:
        for way in WAYS:
            async with open_test_hub() as hub:
                failures[verb] += (await failed(hub, RaisingHub, verb, way))[1] is not None
    assert min(failures.values()) >= 1


async def test_the_search_finds_what_is_not_forgotten(monkeypatch):
    """With the frames left as they are, the test above must fail for every verb that takes a token or a value."""
    monkeypatch.setattr("flowpersist.errors.secrecy.forget", lambda error: None)
    for verb in ("suspend", "answer", "resume", "claim", "complete", "suspend_next", "running", "wrong running"):
        async with open_test_hub() as hub:
            key, error = await failed(hub, RaisingHub, verb, store_has_a_fault)
        assert found(shown(error), str(key), CANARY), verb


async def test_frames_keep_their_files_lines_and_functions():
    async with open_test_hub() as hub:
        _, error = await failed(hub, RaisingHub, "answer", authorizer_raises)
    assert isinstance(error, PermissionDenied)
    outer = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert (outer[0], outer.count("answer")) == ("failure", 1)
    frames = traceback.extract_tb(error.__cause__.__traceback__)
    assert [frame.name for frame in frames] == ["authorized", "authorizer"]
    assert [frame.line for frame in frames if frame.name == "authorized"] == ["answer = ask(*asked)"]


async def test_frames_of_users_code_keep_their_locals():
    def authorizer(verb, suspension, by):
        mine = "seen by its author"
        raise LookupError(mine[:0])

    async with open_test_hub(authorizer=authorizer) as hub:
        error = await failure(hub.suspend(CANARY, awaiting=WORD))
    innermost, _ = list(traceback.walk_tb(error.__cause__.__traceback__))[-1]
    assert innermost.f_locals["mine"] == "seen by its author"


async def test_nothing_that_the_frames_held_is_kept_alive_by_an_error():
    class Kept:
        pass

    async with open_test_hub() as hub:
        store_has_a_fault(hub)
        error = await failure(RaisingHub(hub).answer(generate_key(), Kept()))
        gc.collect()
        assert not [one for one in gc.get_objects() if isinstance(one, Kept)]
    assert isinstance(error, ZeroDivisionError)


# ------------------------------------------------------------------------------------------------------------ flows


@tool()
async def breaking(text: str) -> str:
    raise LookupError(len(text))


@tool()
async def misfit(text: str) -> int:
    return text


ASKING = {
    "name": "f",
    "flow": [
        {"id": "ok", "tool": "await_input", "args": {"prompt": "?", "schema": {"type": "string"}}},
        {"id": "b", "tool": "breaking", "args": {"text": "$ok"}},
    ],
}
BREAKING = {"name": "f", "flow": [{"id": "b", "tool": "breaking", "args": {"text": "$input.text"}}]}
MISFIT = {"name": "f", "flow": [{"id": "b", "tool": "misfit", "args": {"text": "$input.text"}}]}


async def followed(events):
    async with aclosing(events):
        return [event async for event in events]


FLOWS = {
    "start": lambda runner, key: runner.start(BREAKING, input={"text": CANARY}),
    "start, misfit": lambda runner, key: runner.start(MISFIT, input={"text": CANARY}),
    "start, no document": lambda runner, key: runner.start({"name": CANARY, "flow": [{"id": CANARY}]}, input=CANARY),
    "resume": lambda runner, key: runner.resume(key, answer=CANARY),
    "resume, refused": lambda runner, key: runner.resume(key, answer=[CANARY]),
    "stream": lambda runner, key: followed(runner.stream(BREAKING, input={"text": CANARY})),
    "stream_resume": lambda runner, key: followed(runner.stream_resume(key, answer=CANARY)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FLOWS)
async def test_no_frame_of_the_runner_holds_a_token_or_a_value(name, way):
    async with open_test_hub() as hub:
        runner = FlowRunner(hub, [breaking, misfit])
        key = or_raise(await runner.start(ASKING)).waits[0].key
        way(hub)
        error = await failure(FLOWS[name](runner, str(key)))
    if error is not None:
        text = "\n".join(line for line in shown(error).split("\n") if "=" in line)
        assert found(text, str(key), key.secret, CANARY) == set()
    assert error is not None or "stream" in name


# ------------------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    "line",
    [["answer", "--value", f'"{CANARY}"'], ["show"], ["cancel"], ["resume", "--value", f'"{CANARY}"'], ["answer"]],
)
@pytest.mark.parametrize("way", ["unknown", "raises", "interrupted"])
def test_the_command_shows_neither(tmp_path, monkeypatch, line, way):
    key = generate_key()

    def broken(*_args, **_kwargs):
        raise LookupError if way == "raises" else KeyboardInterrupt

    if way != "unknown":
        monkeypatch.setattr("flowpersist.cli.session.open_hub", broken)
    url = f"sqlite:///{tmp_path}/flows.db"
    done = CliRunner().invoke(command, ["--url", url, line[0], str(key), *line[1:]])
    assert done.exit_code
    assert found(done.output + done.stderr, str(key), key.secret, CANARY) == set()
    ours = [one for one in exceptions_of(done.exception) if not isinstance(one, SystemExit)]
    for error in ours:
        frames = list(traceback.walk_tb(error.__traceback__))
        text = repr([frame.f_locals for frame, _ in frames if "click/testing" not in frame.f_code.co_filename])
        assert found(text, str(key), CANARY) == set()


# -------------------------------------------------------------------------------------------------------- the keyring


RING_TEXT = KeyRing.generate("k").export()


@pytest.mark.parametrize(
    "make",
    [
        lambda path: KeyRing.parse(RING_TEXT + ",nonsense"),
        lambda path: KeyRing.from_env({"FLOWPERSIST_KEYS": f"{RING_TEXT},{RING_TEXT}"}),
        KeyRing.from_file,
        lambda path: KeyRing.parse(RING_TEXT).add("k", KeyRing.parse(RING_TEXT).keys["k"].root),
        lambda path: KeyRing.parse(RING_TEXT).add("l", KeyRing.parse(RING_TEXT).keys["k"].root[:-1]),
    ],
)
def test_no_frame_holds_a_key_of_the_ring(tmp_path, make):
    path = tmp_path / "keys.txt"
    path.write_text(RING_TEXT + "\nnonsense")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as raised:
        make(path)
    root = KeyRing.parse(RING_TEXT).keys["k"].root
    assert found(shown(raised.value), RING_TEXT.split(":")[1], root[:-1]) == set()


def test_no_frame_holds_a_secret_of_a_wrong_length():
    key = generate_key()
    with pytest.raises(ConfigurationError) as raised:
        SuspensionKey(key.id, key.secret + b"\0")
    assert found(shown(raised.value), key.secret) == set()


# ------------------------------------------------------------------------------------------------ views, taken apart


def every_value(data):
    """All texts and bytes in what a view was taken apart to."""
    waiting, texts = [data], []
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += one
        elif isinstance(one, bytes):
            texts += [one.hex(), repr(one), one.decode("latin-1")]
        else:
            texts.append(repr(one))
    return "\n".join(texts)


WAYS_APART = {
    "asdict": attrs.asdict,
    "astuple": attrs.astuple,
    "asdict, one level": lambda view: attrs.asdict(view, recurse=False),
    "vars": vars,
    "repr": repr,
    "str": str,
    "format": "{}".format,
    "pprint": pprint.pformat,
    "json": lambda view: json.dumps(attrs.asdict(view), default=repr),
    "json of itself": json.dumps,
    "msgspec": msgspec.json.encode,
    "msgspec builtins": msgspec.to_builtins,
    "pickle": pickle.dumps,
    "copy": lambda view: repr(copy.copy(view)),
    "deepcopy": lambda view: repr(copy.deepcopy(view)),
    "state": lambda view: view.__getstate__(),
    "reduce": lambda view: view.__reduce_ex__(4),
}


async def views():
    """Each kind of view that a hub or runner gives, with the keys that are secret."""
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend({"n": 1}, awaiting={"a": WORD, "b": WORD}))
        keys = [*new.keys.values()]
        receipt = or_raise(await hub.answer(keys[0], "x"))
        or_raise(await hub.answer(keys[1], "y"))
        resumption = or_raise(await hub.claim(new.id))
        suspended = or_raise(await FlowRunner(hub, [breaking]).start(ASKING))
        keys.append(suspended.waits[0].key)
        seen = or_raise(await hub.inspect(new.id))
        page = or_raise(await hub.query())
    made = [new, receipt, resumption, resumption.suspension, seen, seen.waits[0], suspended, suspended.waits[0], page]
    return made, keys


async def test_no_part_of_a_head_shows_what_is_hidden():
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend(1, awaiting=AwaitInput(id="word", prompt=CANARY, schema=str)))
        key = new.key
        or_raise(await hub.answer(key, CANARY, by="ann"))
        run = or_raise(await hub.claim(key))
        or_raise(await hub.suspend_next(run, 2, awaiting=WORD))
        (head,) = [one.head for one in or_raise(await hub.suspensions.records.page(Where(), limit=10)).items]
    shown = repr(head) + pprint.pformat(head)
    secrets = [key.secret, head.waits[0].secret, secret_digest(key.secret), head.trail.mac, head.receipts[0].answer]
    assert head.receipts[0].wait in shown
    assert CANARY not in shown
    assert not [secret for secret in secrets if repr(secret) in shown or secret.hex() in shown]


@pytest.mark.parametrize("way", WAYS_APART)
async def test_no_view_taken_apart_gives_a_secret(way):
    made, keys = await views()
    for view in made:
        try:
            text = every_value(WAYS_APART[way](view))
        except (TypeError, AttributeError) as error:
            text = str(error)
        for key in keys:
            assert found(text, str(key), key.secret) == set(), type(view)


@pytest.mark.parametrize(
    "way", ["asdict", "astuple", "vars", "msgspec", "msgspec builtins", "pickle", "state", "reduce"]
)
def test_a_key_is_not_taken_apart(way):
    with pytest.raises((TypeError, ValueError)):
        WAYS_APART[way](generate_key())


def test_a_key_gives_its_token_by_str_and_its_id_by_repr():
    key = generate_key()
    assert SuspensionKey.parse(str(key)).unwrap() == key
    assert f"{key}" == str(key)
    assert repr(key) == f"<SuspensionKey of {key.id}>"
    assert copy.deepcopy({"k": key})["k"] is key
    for name in ("id", "secret", "prefix", "other"):
        with pytest.raises(AttributeError):
            setattr(key, name, b"")
        with pytest.raises(AttributeError):
            delattr(key, name)


# ----------------------------------------------------------------------------------------------- what guessing tells


GUESSES = {
    "inspect": lambda hub, key: hub.inspect(key),
    "answer": lambda hub, key: hub.answer(key, "x"),
    "resume": lambda hub, key: hub.resume(key, "x"),
    "claim": lambda hub, key: hub.claim(key, "x"),
    "outcome": lambda hub, key: hub.outcome(key),
    "cancel": lambda hub, key: hub.cancel(key),
    "extend": lambda hub, key: hub.extend(key, timeout=LEASE),
    "running": block,
}


@pytest.fixture
def work(monkeypatch):
    """Counts what takes time in a refusal: round trips, heads opened and decoded, secrets compared."""
    done = Counter()

    def counted(owner, name):
        original = getattr(owner, name)

        def call(*args, **kwargs):
            done[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    counted(Sealer, "opened_bytes")
    counted(Sealer, "seal_bytes")
    counted(HeadCodec, "decoded")
    for module in ("flowpersist.lifecycle.model.hmac.compare_digest", "flowpersist.lifecycle.model.secret_digest"):
        path, _, name = module.rpartition(".")
        owner = __import__("flowpersist.lifecycle.model", fromlist=["model"])
        counted(owner.hmac if "hmac" in path else owner, name)
    return done, counted


@pytest.mark.parametrize("verb", GUESSES)
@pytest.mark.parametrize("keyed", [True, False])
async def test_a_wrong_secret_and_an_unknown_id_take_the_same_work(verb, keyed, work):
    done, counted = work
    async with open_test_hub(**({} if keyed else {"keyring": None})) as hub:
        for name in ("get", "put", "query", "delete"):
            counted(hub.backend, name)
        there = or_raise(await hub.suspend(1, awaiting=WORD, idempotency_key="order-1"))
        many = or_raise(await hub.suspend(1, awaiting={f"w{n}": WORD for n in range(300)}, idempotency_key="order-4"))
        paused = or_raise(await hub.suspend(1, awaiting=WORD, idempotency_key="order-2"))
        for _ in range(103):
            run = or_raise(await hub.claim(paused.id, "x"))
            paused = or_raise(await hub.suspend_next(run, 1, awaiting=WORD))
        assert or_raise(await hub.suspensions.look("inspect", paused.id)).head.moved_receipts
        absent = or_raise(await hub.suspend(1, idempotency_key="order-3")).id
        await hub.backend.delete(hub.suspensions.records.ref(str(absent)), if_revision=1)
        # The first one that is not there prepares what stands in for it, once for each keyring.
        await failure(GUESSES[verb](hub, generate_key()))
        tried = []
        for guessed in (there.id, absent, generate_key().id):
            done.clear()
            error = await failure(GUESSES[verb](hub, generate_key(id=guessed)))
            assert type(error) is SuspensionNotFound
            tried.append(dict(done))
        assert tried[0] == tried[1] == tried[2]
        assert tried[0]["get"] == 3
        assert tried[0]["opened_bytes"] == 2
        for guessed in (paused.id, many.id):
            done.clear()
            await failure(GUESSES[verb](hub, generate_key(id=guessed)))
            # More secrets to compare, of receipts and of a page's waits, each in a microsecond; all else is the same.
            assert {**done, "compare_digest": 0} == {**tried[0], "compare_digest": 0}


async def test_each_secret_is_compared_in_constant_time(monkeypatch):
    compared = []

    def compare(one, other):
        compared.append({one, other})
        return hmac.compare_digest(one, other)

    async with open_test_hub() as hub:
        run = or_raise(await hub.claim(or_raise(await hub.suspend(1, awaiting=WORD)).id, "x"))
        new = or_raise(await hub.suspend_next(run, 2, awaiting={"a": WORD, "b": WORD}))
        monkeypatch.setattr(model, "hmac", SimpleNamespace(compare_digest=compare))
        for guess in (generate_key(id=new.id), new.keys["a"]):
            compared.clear()
            assert (await failure(hub.inspect(guess)) is None) is (guess == new.keys["a"])
            # Two waits, and the receipt of the one before; whether or not one of them fits. A wrong one goes on.
            assert [guess.secret in pair for pair in compared[:3]] == [True, True, False]
            assert secret_digest(guess.secret) in compared[2]


async def test_the_stand_in_follows_the_keyring_and_is_sealed_once(work):
    done, _ = work
    async with open_test_hub() as hub:
        for ring in (None, KeyRing.generate(), KeyRing.generate().control_only()):
            hub.use_keyring(ring)
            done.clear()
            for _ in range(3):
                assert isinstance(await failure(hub.inspect(generate_key())), SuspensionNotFound)
            # A head and a page.
            assert (done["seal_bytes"], done["opened_bytes"]) == (2, 6)


async def test_a_store_that_fails_while_receipts_are_looked_for_says_so():
    async with open_test_hub() as hub:
        original = hub.backend.get

        async def get(ref, *, body):
            if "receipts" in ref.namespace:
                message = "the store is down"
                raise BackendUnavailable(message, "memory")
            return await original(ref, body=body)

        hub.backend.get = get
        new = or_raise(await hub.suspend(1, awaiting=WORD))
        for key in (generate_key(), generate_key(id=new.id)):
            assert isinstance(await failure(hub.answer(key, "x")), BackendUnavailable)


def test_both_doors_and_the_runner_are_discreet():
    """Whatever verb is added must be too."""
    for door, plain in (
        (PersistenceHub, {"use_keyring", "remember", "within"}),
        (RaisingHub, {"use_keyring", "remember", "open", "running", "iterate", "within"}),
    ):
        for name, verb in vars(door).items():
            if callable(verb) and not name.startswith("_") and name not in plain:
                assert verb.__globals__["__name__"] == "flowpersist.errors.secrecy", name
    assert issubclass(SuspensionNotFound, PersistenceError)
