"""Values: every character that is allowed comes back as it was, in every place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from flowpersist.backends.base import MAX_TEXT_BYTES, Record, StorageBackend, Where
from flowpersist.testing.suite.ground import NAMESPACE, Ground, change, make, ref, stored

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
