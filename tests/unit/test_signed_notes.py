"""Signed notes and checkpoints in C2SP's form."""

from __future__ import annotations

import pytest
from returns.result import Success

from flowpersist.errors import ConfigurationError, MalformedPayload, TamperedEnvelope
from flowpersist.keys.signed_note import NoteSigner, NoteVerifier
from flowpersist.sealed.checkpoints import LogCheckpoint, export_text, opened_checkpoint, origin_name, signed_checkpoint

#: The example of Go's golang.org/x/mod/sumdb/note, whose form C2SP's is.
SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    f"{TEXT}\n\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
KEY = NoteSigner.generate("example.com/pay", entropy=bytes)
CHECKPOINT = LogCheckpoint("example.com/pay/default", 7, bytes(range(32)))


def test_keys_and_notes_are_those_of_go():
    signer = NoteSigner.parse(SIGNER)
    assert (signer.export(), signer.verifier.export()) == (SIGNER, VERIFIER)
    assert NoteVerifier.parse(f" {VERIFIER}\n") == signer.verifier
    assert signer.signed(TEXT) == NOTE
    assert NoteVerifier.parse(VERIFIER).opened(NOTE) == Success(TEXT)


def test_signatures_of_others_are_passed_over():
    witnessed = NOTE + KEY.signed(TEXT).rpartition("\n\n")[2]
    assert NoteVerifier.parse(VERIFIER).opened(witnessed) == Success(TEXT)
    assert KEY.verifier.opened(witnessed) == Success(TEXT)
    assert isinstance(KEY.verifier.opened(NOTE).failure(), TamperedEnvelope)


def test_each_flipped_bit_of_a_note_is_detected():
    signed = signed_checkpoint(KEY, CHECKPOINT)
    assert opened_checkpoint(signed, KEY.verifier) == Success(CHECKPOINT)
    data = signed.encode()
    for place in range(len(data) - 1):
        altered = (data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]).decode("utf-8", "replace")
        assert isinstance(opened_checkpoint(altered, KEY.verifier).failure(), TamperedEnvelope | MalformedPayload)


@pytest.mark.parametrize("text", ["", "\n\n", "x\n\n", "x\n\nno signature\n", "x" * 70_000, "x\n\n" + "y\n" * 101])
def test_what_is_no_note_is_refused(text):
    assert isinstance(KEY.verifier.opened(text).failure(), MalformedPayload | TamperedEnvelope)


@pytest.mark.parametrize("size", ["-1", "01", "1" * 20, "x", ""])
def test_a_signed_text_that_is_no_checkpoint_is_refused(size):
    root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    note = KEY.signed(f"example.com/pay/default\n{size}\n{root}\n")
    assert isinstance(opened_checkpoint(note, KEY.verifier).failure(), MalformedPayload)
    other = KEY.signed(f"example.com/other/default\n1\n{root}\n")
    assert isinstance(opened_checkpoint(other, KEY.verifier).failure(), MalformedPayload)
    export = KEY.signed(export_text(CHECKPOINT.origin, bytes(32)))
    assert isinstance(opened_checkpoint(export, KEY.verifier).failure(), MalformedPayload)


def test_the_name_of_a_log_has_no_character_that_ends_a_line():
    assert origin_name("example.com/pay", "a b\n2\u00e9/x") == "example.com/pay/a%20b%0A2%C3%A9%2Fx"


@pytest.mark.parametrize(
    "text",
    ["", "x", VERIFIER, SIGNER[:-4], SIGNER.replace("c74f20a3", "c74f20a4"), SIGNER.replace("+AYE", "+BYE"), "\u00e9"],
)
def test_what_is_no_signing_key_is_refused_without_repeating_it(text):
    with pytest.raises(ConfigurationError) as refused:
        NoteSigner.parse(text)
    assert refused.value.setting == "FLOWPERSIST_AUDIT_KEY"
    assert len(text) < 5 or text not in str(refused.value)


@pytest.mark.parametrize("text", ["", "x", SIGNER, VERIFIER[:-4], VERIFIER.replace("Peter", "Paul")])
def test_what_is_no_public_key_is_refused(text):
    with pytest.raises(ConfigurationError):
        NoteVerifier.parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "x" * 257])
def test_a_name_that_a_signature_could_not_hold_is_refused(name):
    with pytest.raises(ConfigurationError):
        NoteSigner.generate(name)


def test_the_secret_is_shown_nowhere(tmp_path):
    assert repr(KEY) == "<NoteSigner 'example.com/pay'>"
    path = tmp_path / "key"
    path.write_text(SIGNER + "\n")
    assert NoteSigner.from_file(path).export() == SIGNER
    with pytest.raises(ConfigurationError, match="can't be read"):
        NoteSigner.from_file(tmp_path / "none")
