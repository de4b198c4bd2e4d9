"""Values: every character that is allowed comes back as it was, in every place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from flowpersist.backends.base import (
    MAX_TEXT_BYTES,
    NamespaceSchema,
    Range,
    Record,
    RecordRef,
    StorageBackend,
    Where,
)
from flowpersist.testing.suite.ground import LONG, NAMESPACE, Ground, all_pages, change, fill, make, ref, stored

__all__ = ["Values"]

#: All of ASCII but NUL, and the first and last characters of each length in UTF-8 and of each border in between.
CHARACTERS: Final = [chr(code) for code in range(1, 128)] + list(
    "\x80\xa0ÿ\u0130\u07ff\u0800\u200b\u2028\u2029\ud7ff\ue000\ufeff\ufffd\ufffe\uffff\U00010000\U0010ffffÅÅéé"
)
AWKWARD: Final = (
    "' OR 1=1 --", '"', "\\", "%", "_", "*", "?", "$.a", '{"a":"b"}', '","status":"sx', "../../etc/passwd", "/", ".",
    "..", " ", "  lead", "trail  ", "\n", "\r\n", "null", "NULL", "None", "é" * 256, "x" * MAX_TEXT_BYTES, "😀" * 128,
)  # fmt: skip


class Values(Ground):
    """Nothing is escaped, trimmed, folded, normalized or mistaken for syntax."""

    async def test_every_character_in_keys_and_attributes(self, backend: StorageBackend) -> None:
        chunk = 16
        groups = ["".join(CHARACTERS[start : start + chunk]) for start in range(0, len(CHARACTERS), chunk)]
        for text in groups:
            await make(backend, text, write_id=text[:16], attributes={"status": text, text: text})
        for text in groups:
            await self._assert_kept(backend, text, text[:16])

    @pytest.mark.parametrize("text", AWKWARD)
    async def test_awkward_texts(self, backend: StorageBackend, text: str) -> None:
        await make(backend, text, write_id=text[:16], attributes={"status": text, text: text})
        await make(backend, f"{text[:500]}."[:500] if len(text) < 100 else "other", attributes={"status": "sx"})
        await self._assert_kept(backend, text, text[:16])

    async def _assert_kept(self, backend: StorageBackend, text: str, write_id: str) -> None:
        record = await stored(backend, text)
        self._assert_same(record, text, write_id)
        for where in (Where({"status": text}), Where({text: text}), Where({"status": text, text: text})):
            (found,) = (await backend.query(NAMESPACE, where, limit=2)).items
            self._assert_same(found, text, write_id)

    def _assert_same(self, record: Record, text: str, write_id: str) -> None:
        assert (record.ref, record.write_id) == (ref(text), write_id)
        assert record.attributes == {"status": text, text: text}

    async def test_every_character_that_there_is(self, backend: StorageBackend) -> None:
        """All of the basic plane; in the long form those of the others too."""
        codes = [code for code in range(1, 0x110000 if LONG else 0x10000) if not 0xD800 <= code < 0xE000]
        texts = ["".join(map(chr, codes[start : start + 128])) for start in range(0, len(codes), 128)]
        records = [texts[start : start + 50] for start in range(0, len(texts), 50)]
        expected = [{f"t{number}": text for number, text in enumerate(record)} for record in records]
        for number, attributes in enumerate(expected):
            await make(backend, f"k{number:04}", attributes=attributes)
        for number, attributes in enumerate(expected):
            assert (await stored(backend, f"k{number:04}")).attributes == attributes

    async def test_pages_and_ranges_of_awkward_keys(self, backend: StorageBackend) -> None:
        keys = sorted({*CHARACTERS, *AWKWARD}, key=str.encode)
        await fill(backend, keys, tasks=8, attributes={"status": "x"})
        assert await all_pages(backend, Where({"status": "x"}), limit=9) == keys
        assert await all_pages(backend, limit=11, descending=True) == keys[::-1]
        for number in range(0, len(keys) - 5, 17):
            within = Range("key", keys[number], keys[number + 5])
            assert await all_pages(backend, Where(range=within), limit=3) == keys[number : number + 5]
        assert await backend.purge(NAMESPACE, Where(range=Range("key", keys[10], keys[20])), limit=100) == 10
        assert await all_pages(backend, limit=100) == keys[:10] + keys[20:]

    @pytest.mark.parametrize("name", ["' \"", "%", "é", "a.b:c/d", "{x}", "a\x01", "*", "x" * MAX_TEXT_BYTES])
    async def test_awkward_namespaces(self, backend: StorageBackend, name: str) -> None:
        await backend.put(RecordRef(name, "a"), change(head=b"here", attributes={"status": "x"}), if_revision=0)
        await make(backend, "a", head=b"there", attributes={"status": "x"})
        (record,) = (await backend.query(name, Where({"status": "x"}), limit=5)).items
        assert (record.ref, record.head) == (RecordRef(name, "a"), b"here")
        assert await backend.purge(name, Where(), limit=5) == 1
        assert (await stored(backend, "a")).head == b"there"

    @pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "a\udfffb", "x" * (MAX_TEXT_BYTES + 1), "é" * 257])
    async def test_what_no_store_can_keep_is_refused(self, backend: StorageBackend, text: str) -> None:
        """It is refused where it is said, and so by no driver."""
        for build in (
            lambda: ref(text),
            lambda: RecordRef(text, "a"),
            lambda: change(attributes={text: "x"}),
            lambda: change(attributes={"status": text}),
            lambda: change(write_id=text),
            lambda: Where({text: "x"}),
            lambda: Where({"status": text}),
            lambda: Range("key", text),
            lambda: NamespaceSchema(text),
        ):
            with pytest.raises(ValueError, match=r"surrogate|at most|bytes"):
                build()
        with pytest.raises(ValueError, match=r"surrogate|at most"):
            await backend.query(text, Where(), limit=1)
        with pytest.raises(ValueError, match=r"surrogate|at most"):
            await backend.purge(text, Where(), limit=1)
        assert (await backend.query(NAMESPACE, Where(), limit=1)).items == ()

    async def test_composed_and_decomposed_are_two(self, backend: StorageBackend) -> None:
        await make(backend, "é", head=b"composed")
        await make(backend, "e\u0301", head=b"decomposed")
        assert (await stored(backend, "é")).head == b"composed"
        assert (await stored(backend, "e\u0301")).head == b"decomposed"

    async def test_every_byte_in_head_and_body(self, backend: StorageBackend) -> None:
        data = bytes(range(256)) * 3
        await make(backend, "a", head=data, body=data[::-1])
        record = await stored(backend, "a")
        assert (record.head, record.body) == (data, data[::-1])

    async def test_as_many_attributes_as_are_allowed(self, backend: StorageBackend) -> None:
        attributes = {f"name-{number}": f"{number}" * 8 for number in range(64)}
        await make(backend, "a", attributes=attributes)
        assert (await stored(backend, "a")).attributes == attributes

    @pytest.mark.parametrize(
        "moment",
        [
            datetime(1970, 1, 1, tzinfo=UTC) - timedelta(microseconds=1),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            datetime(2038, 1, 19, 3, 14, 8, 1, tzinfo=UTC),
        ],
    )
    async def test_times_to_the_microsecond(self, backend: StorageBackend, moment: datetime) -> None:
        await make(backend, "a", due_at=moment)
        assert (await stored(backend, "a")).due_at == moment
        (found,) = (await backend.query(NAMESPACE, Where(), order="due", limit=1)).items
        assert found.due_at == moment

    async def test_a_change_of_one_record_may_be_used_again(self, backend: StorageBackend) -> None:
        again = change(head=b"h")
        for key in "ab":
            await backend.put(ref(key), again, if_revision=0)
        assert (await stored(backend, "a")).write_id == (await stored(backend, "b")).write_id
