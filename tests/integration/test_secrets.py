"""Whoever reads the store or the logs finds no state, answer, outcome, token or secret, in no common form."""

from __future__ import annotations

import base64
import gzip
import logging
import random
import zlib
from contextlib import suppress
from datetime import timedelta

import pytest
import zstandard

from flowpersist import AwaitInput, KeyRing, Maintenance, RaisingHub, or_raise
from flowpersist.errors import PersistenceError
from flowpersist.testing.hubs import open_test_hub, travel

STATE = "canary-of-the-state-5Zq8vWn2"
PROMPT = "canary-of-the-prompt-9Kd3Lx"
ANSWER = "canary-of-the-answer-7Tb4Rm"
OUTCOME = "canary-of-the-outcome-1Hc6Pf"
PERSON = "canary-of-the-person-8Gj2Sy"
CANARIES = (STATE, PROMPT, ANSWER, OUTCOME, PERSON)
WORD = AwaitInput(id="word", prompt=PROMPT, schema=str)
HOUR = timedelta(hours=1)


async def full_cycle(hub):
    """Every way that a suspension goes, with canaries in all that is to be secret; gives all keys that there were."""
    keys = []
    first = or_raise(await hub.suspend({"n": STATE, "more": [STATE] * 100}, awaiting=WORD, metadata={"run": "r"}))
    keys += first.keys.values()
    waiting = or_raise(await hub.suspend(STATE, awaiting={"a": WORD, "b": WORD}, idempotency_key="k", timeout=9 * HOUR))
    keys += waiting.keys.values()
    expiring = or_raise(await hub.suspend([STATE], awaiting=WORD, timeout=HOUR))
    keys += expiring.keys.values()
    reserved = or_raise(await hub.reserve(WORD))
    keys += reserved.keys.values()
    await hub.answer(first.key, 7)
    or_raise(await hub.answer(first.key, ANSWER, by=PERSON))
    await hub.answer(first.key, "another", by=PERSON)
    run = or_raise(await hub.claim(first.key))
    second = or_raise(await hub.suspend_next(run, {"next": STATE}, awaiting=WORD))
    keys += second.keys.values()
    await hub.resume(first.key, ANSWER)
    async with hub.running(second.key, ANSWER, by=PERSON) as outcome:
        or_raise(await hub.complete(or_raise(outcome), OUTCOME))
    or_raise(await hub.answer(waiting.keys["a"], ANSWER, by=PERSON))
    or_raise(await hub.suspend(STATE, key=reserved.key))
    or_raise(await hub.cancel(reserved.key, PERSON))
    travel(hub, 2 * HOUR)
    or_raise(await Maintenance(hub).tick())
    await hub.inspect(str(first.key)[:-1])
    await hub.inspect(str(first.key) + "x")
    return keys


def forms(text):
    """A secret as it may lie in a file: as it is, and in the encodings that are easily undone."""
    raw = text if isinstance(text, bytes) else text.encode()
    found = {
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "utf-16": raw.decode("latin-1").encode("utf-16-le"),
    }
    for shift in range(3):
        # Base64 of a longer text that holds it begins at any of three places; its ends depend on the neighbours.
        coded = base64.b64encode(b"\0" * shift + raw)[shift + 1 : -4]
        found[f"base64+{shift}"] = coded
        found[f"base64url+{shift}"] = coded.translate(bytes.maketrans(b"+/", b"-_"))
    return {"raw": raw, "zlib": zlib.compress(raw)[2:-4], **found}


def inflated(data):
    """What any compressed stream in the bytes holds."""
    for magic, inflate in (
        (b"\x28\xb5\x2f\xfd", lambda at: zstandard.ZstdDecompressor().decompressobj().decompress(data[at:])),
        (b"\x1f\x8b\x08", lambda at: zlib.decompressobj(31).decompress(data[at:])),
        (b"\x78\x9c", lambda at: zlib.decompressobj().decompress(data[at:])),
    ):
        at = data.find(magic)
        while at >= 0:
            with suppress(zstandard.ZstdError, zlib.error):
                yield inflate(at)
            at = data.find(magic, at + 1)


def hits(data, secrets):
    texts = [data, *inflated(data)]
    return {
        (secret if isinstance(secret, str) else "a key's secret", name)
        for secret in secrets
        for name, form in forms(secret).items()
        if any(form in text for text in texts)
    }


def dumped(directory):
    return b"\0".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def all_secrets(keys):
    return [*CANARIES, *(str(key) for key in keys), *(key.secret for key in keys)]


@pytest.mark.parametrize("compression", ["auto", "none"])
@pytest.mark.parametrize("scheme", ["sqlite", "file"])
async def test_the_store_holds_no_secret_in_any_form(tmp_path, scheme, compression):
    url = f"sqlite:///{tmp_path}/flows.db" if scheme == "sqlite" else f"file://{tmp_path}/flows"
    ring = KeyRing.generate()
    async with open_test_hub(url, keyring=ring, compression=compression) as hub:
        keys = await full_cycle(hub)
        open_files = dumped(tmp_path)
    roots = [key.root for key in ring.keys.values()]
    for data in (open_files, dumped(tmp_path)):
        assert len(data) > 1000
        assert hits(data, [*all_secrets(keys), *roots]) == set()


async def test_the_search_finds_what_is_not_sealed(tmp_path):
    """Without a keyring, or with its sealing switched off, the test above must fail."""
    async with open_test_hub(f"sqlite:///{tmp_path}/flows.db", keyring=None) as hub:
        keys = await full_cycle(hub)
    found = {secret for secret, _ in hits(dumped(tmp_path), all_secrets(keys))}
    assert {STATE, PROMPT, ANSWER, OUTCOME, PERSON, "a key's secret"} <= found
    noise = random.Random(1).randbytes(1000)
    for hide in (bytes.hex, lambda b: base64.b64encode(b).decode(), lambda b: zlib.compress(b).decode("latin-1")):
        hidden = hide(b"before " + STATE.encode() + b" after").encode("latin-1")
        assert hits(noise + hidden + noise, [STATE]), hide
    assert hits(noise + gzip.compress(STATE.encode() * 9) + noise, [STATE])


async def test_two_stores_of_the_same_state_share_no_block(tmp_path):
    async with open_test_hub() as hub:
        bodies = []
        for _ in range(2):
            new = or_raise(await hub.suspend({"n": STATE * 50}, awaiting=WORD))
            read = await hub.backend.get(hub.suspensions.records.ref(str(new.id)))
            bodies.append((read.record.head, read.record.body))
    for one, other in zip(*bodies, strict=True):
        header = 4 + 1 + 1 + 2 + 4 + len(hub.suspensions.records.sealer.keyring.primary)
        blocks = {one[at : at + 16] for at in range(header, len(one) - 16)}
        assert not any(other[at : at + 16] in blocks for at in range(header, len(other) - 16))


async def test_logs_errors_and_reprs_hold_no_token_and_no_state(caplog):
    caplog.set_level(logging.DEBUG)
    said = []
    async with open_test_hub(on_event=lambda event: said.append(repr(event))) as hub:
        keys = await full_cycle(hub)
        for key in keys:
            for call in (
                lambda key=key: RaisingHub(hub).resume(key, STATE, by=PERSON),
                lambda key=key: RaisingHub(hub).claim(key, expect=int),
                lambda key=key: RaisingHub(hub).answer(str(key), 7),
                lambda key=key: RaisingHub(hub).inspect(str(key) + "0"),
            ):
                try:
                    said.append(repr(await call()))
                except PersistenceError as error:
                    said += [str(error), repr(error), repr(error.to_problem()), repr(error.args)]
        said.append(repr(keys))
    text = "\n".join([caplog.text, *said]).encode()
    assert hits(text, [STATE, ANSWER, *(str(key) for key in keys), *(key.secret for key in keys)]) == set()
    assert b"df_susp_" not in text
    assert len(said) > 20
