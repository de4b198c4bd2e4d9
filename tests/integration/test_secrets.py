"""Whoever reads the store or the logs finds no state, answer, outcome, token or secret, in no common form."""

from __future__ import annotations

import base64
import gzip
import logging
import random
import zlib

import pytest

from canaries import ANSWER, OUTCOME, PERSON, PROMPT, STATE, WORD, all_secrets, dumped, full_cycle, hits
from flowpersist import KeyRing, RaisingHub, or_raise
from flowpersist.errors import PersistenceError
from flowpersist.testing.hubs import open_test_hub


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
