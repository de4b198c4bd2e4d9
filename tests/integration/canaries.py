"""Secrets that are easily found again, a hub's full cycle with them, and the search for them in what was stored."""

from __future__ import annotations

import base64
import zlib
from contextlib import suppress
from datetime import timedelta

import zstandard

from flowpersist import AwaitInput, Maintenance, or_raise
from flowpersist.testing.hubs import travel

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
    kept = or_raise(await hub.checkpoint(run, {"kept": STATE}))
    second = or_raise(await hub.suspend_next(kept, {"next": STATE}, awaiting=WORD))
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
