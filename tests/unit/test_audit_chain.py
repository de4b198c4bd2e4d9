"""The chain of audit entries alone: specs/persistence/audit.md."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import re
import sys
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import pytest
from returns.result import Failure, Success

from flowpersist import KeyRing
from flowpersist.errors import EncryptionError, IntegrityError, TamperedEnvelope, UnknownKey
from flowpersist.keys.crypto import hkdf_expand
from flowpersist.lifecycle.entries import Facts, GivenAnswer, Noted, Private, WaitFacts
from flowpersist.lifecycle.model import Status
from flowpersist.sealed.chain import MAC_BYTES, Chain, origin_of, without_private

SPEC = Path(__file__).parents[2] / "specs/persistence/audit.md"
RING = KeyRing.parse("a:" + "A" * 43)
NOW = datetime(2026, 5, 4, tzinfo=UTC)
ORIGIN = origin_of(b"one suspension", b"made then")


def entropy(size: int) -> bytes:
    return bytes(range(size))


def chained(count: int, keyring: KeyRing | None = RING) -> list[bytes]:
    chain, mac, links = Chain(keyring, entropy), ORIGIN, []
    for number in range(1, count + 1):
        private = None if number % 3 == 0 else b"ann: because of %d" % number
        links.append(chain.linked(mac, number, b"fact %d" % number, private).unwrap())
        mac = links[-1][:MAC_BYTES]
    return links


def verified(links: list[bytes], whole: list[bytes], keyring: KeyRing | None = RING, origin: bytes = ORIGIN):
    """What is said of these links, where the head knows how many the ``whole`` chain has, and the MAC of its last."""
    mac = whole[-1][:MAC_BYTES] if whole else b""
    return Chain(keyring, entropy).verified(origin, links, count=len(whole), mac=mac, what="the trail")


@pytest.mark.parametrize("keyring", [RING, None], ids=["sealed", "plain"])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_a_chain_gives_its_links(count, keyring):
    links = chained(count, keyring)
    found = verified(links, links, keyring).unwrap()
    assert [one.number for one in found] == [*range(1, count + 1)]
    assert [one.facts for one in found] == [b"fact %d" % number for number in range(1, count + 1)]
    assert [one.private for one in found[:3]] == [b"ann: because of 1", b"ann: because of 2", None][:count]
    assert [one.previous for one in found[1:]] == [one.mac for one in found[:-1]]
    assert not any(one.removed for one in found)


def test_each_clause_has_a_test():
    clauses = set(re.findall(r"^- (FPA-\d+):", SPEC.read_text(), re.MULTILINE))
    tests = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    # These are about writers, stores and other modules, and name their own tests.
    assert clauses == {
        "FPA-1",
        *(f"FPA-{number}" for number in range(8, 16)),
        *re.findall(r"FPA-\d+", " ".join(inspect.getdoc(one) or "" for _, one in tests)),
    }


def framed(part):
    return len(part).to_bytes(4, "big") + part


def test_a_link_is_made_as_the_table_says():
    """FPA-6"""
    assert hashlib.sha256(b"flowpersist/v1/audit" + framed(b"one suspension") + framed(b"made then")).digest() == ORIGIN
    key = hkdf_expand(RING.subkey("a", "control").unwrap(), b"flowpersist/v1/audit")
    private = entropy(16) + b"ann: because of 1"
    digest = hashlib.sha256(private).digest()
    signed = (1).to_bytes(8, "big") + framed(b"a") + digest + framed(b"fact 1")
    assert chained(1) == [hmac.digest(key, ORIGIN + signed, "sha256") + signed + private]
    signed = (1).to_bytes(8, "big") + framed(b"") + bytes(32) + framed(b"fact")
    plain = Chain(None, entropy).linked(ORIGIN, 1, b"fact", None).unwrap()
    assert plain == hmac.digest(b"", ORIGIN + signed, "sha256") + signed


def test_an_entry_has_a_bounded_size():
    """FPA-7"""
    waits = tuple(WaitFacts("w" * 512, "opened", question="q" * 512, tool="t" * 9000) for _ in range(8))
    answers = tuple(GivenAnswer("w" * 512, bytes(32), "i" * 512, value=bytes(1024)) for _ in range(8))
    by = {"subject": "s" * 512, "roles": ["r" * 50] * 64}
    noted = Noted(Facts(NOW, "v", Status.WAITING, 1, waits=waits, more=2), Private(by, "r" * 4000, None, answers))
    facts, private = noted.packed().unwrap()
    assert len(facts) < 4 * 1024
    assert private is not None
    assert len(private) < 20 * 1024


def test_every_bit_that_is_flipped_is_detected():
    """FPA-2"""
    links = chained(3)
    for place, link in enumerate(links):
        for bit in range(len(link) * 8):
            flipped = bytearray(link)
            flipped[bit // 8] ^= 1 << bit % 8
            told = verified([*links[:place], bytes(flipped), *links[place + 1 :]], links)
            assert isinstance(told, Failure)
            assert isinstance(told.failure(), IntegrityError | EncryptionError)


def test_each_of_many_entries_that_is_removed_altered_or_moved_is_detected():
    """FPA-2"""
    links = chained(120)
    for place in range(len(links)):
        removed = verified(links[:place] + links[place + 1 :], links)
        assert type(removed.failure()) is IntegrityError
        assert f"entry {place + 1} of the trail is missing" in str(removed.failure())
        twice = verified([*links[: place + 1], links[place], *links[place + 1 :]], links)
        assert isinstance(twice.failure(), TamperedEnvelope)
        truncated = verified(links[:place], links)
        assert type(truncated.failure()) is IntegrityError
    for one, other in combinations(range(0, len(links), 9), 2):
        moved = [*links]
        moved[one], moved[other] = moved[other], moved[one]
        assert isinstance(verified(moved, links).failure(), IntegrityError)


@pytest.mark.parametrize("keyring", [RING, None], ids=["sealed", "plain"])
def test_a_link_of_another_chain_or_an_older_end_is_detected(keyring):
    """FPA-3"""
    links, longer = chained(5, keyring), chained(6, keyring)
    assert isinstance(verified(longer, links, keyring).failure(), TamperedEnvelope)
    assert type(verified(links, longer, keyring).failure()) is IntegrityError
    other = origin_of(b"another suspension", b"made then")
    assert isinstance(verified(links, links, keyring, other).failure(), TamperedEnvelope)


def test_whoever_has_no_key_makes_no_link():
    """FPA-4"""
    links = chained(2)
    forged = Chain(KeyRing.parse("a:" + "B" * 43), entropy).linked(links[-1][:MAC_BYTES], 3, b"fact", None).unwrap()
    assert isinstance(verified([*links, forged], [*links, forged]).failure(), TamperedEnvelope)
    plain = Chain(None, entropy).linked(links[-1][:MAC_BYTES], 3, b"fact", None).unwrap()
    assert isinstance(verified([*links, plain], [*links, plain]).failure(), UnknownKey)
    assert isinstance(verified(links, links, None).failure(), UnknownKey)


def test_a_key_is_replaced_and_older_links_need_the_older_one():
    both = RING.add("b", bytes(32)).promote("b")
    links = chained(2)
    links.append(Chain(both, entropy).linked(links[-1][:MAC_BYTES], 3, b"fact", None).unwrap())
    assert [one.kid for one in verified(links, links, both).unwrap()] == ["a", "a", "b"]
    assert isinstance(verified(links, links, both.retire("a")).failure(), UnknownKey)
    assert isinstance(verified(links, links, both.control_only()), Success)


def test_what_is_personal_can_be_removed_and_the_chain_still_verifies():
    """FPA-5"""
    links = chained(6)
    less = [without_private(link) for link in links]
    found = verified(less, links).unwrap()
    assert [one.removed for one in found] == [True, True, False] * 2
    assert all(one.private is None for one in found)
    assert [one.facts for one in found] == [one.facts for one in verified(links, links).unwrap()]
    assert b"ann" not in b"".join(less)
    # Nor is what was removed confirmed by a guess: its digest has a salt, which has gone with it.
    assert links[0][len(less[0]) :].startswith(entropy(16))
    with pytest.raises(ValueError, match="no link"):
        without_private(b"short")
