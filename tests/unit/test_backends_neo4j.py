"""The texts that Neo4j's indexes order, and what is read of a node."""

from datetime import UTC, datetime, timedelta

import pytest

from flowpersist.backends._neo4j.naming import TOP, Names, moment_text, ordered, shard, unordered
from flowpersist.backends._neo4j.rows import Torn, body_of, changed, inserted, record_of
from flowpersist.backends.base import RecordChange, RecordRef

CHARACTERS = [*"\x01 Az~é\u0800語\ud7ff\ue000\ue001\ue002\ufeff\uffff", "\U00010000", "😀", "\U0010ffff"]
TEXTS = [a + b + c for a in CHARACTERS for b in ("", *CHARACTERS) for c in ("", "a", "\uffff")]
REF = RecordRef("n", "k")


def utf16(text):
    return text.encode("utf-16-be")


def test_texts_are_ordered_by_bytes_whatever_compares_them():
    by_bytes = sorted(set(TEXTS), key=str.encode)
    assert sorted(set(TEXTS), key=lambda text: ordered(text).encode()) == by_bytes
    assert sorted(set(TEXTS), key=lambda text: utf16(ordered(text))) == by_bytes
    assert sorted(set(TEXTS), key=utf16) != by_bytes


def test_texts_come_back():
    assert [unordered(ordered(text)) for text in TEXTS] == TEXTS
    assert ordered("plain") == "plain"


def test_the_top_is_above_every_key():
    highest = ordered("\U0010ffff" * 128)
    assert highest < TOP
    assert utf16(highest) < utf16(TOP)


def test_times_are_ordered_as_texts():
    moments = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=1),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ]
    texts = [moment_text(moment) for moment in moments]
    assert sorted(texts) == texts
    assert {len(text) for text in texts} == {19}


def test_shards_never_change():
    """A record that goes to another counter could get a revision again."""
    assert [shard(RecordRef("n", f"k{number}")) for number in range(4)] == [44, 58, 0, 22]


def test_names_of_a_prefix():
    names = Names("my_app")
    assert names.fill("(:<Record>)-[:<HAS_BODY>]->(:<Body>) < 1") == "(:My_appRecord)-[:MY_APP_BODY]->(:My_appBody) < 1"


def snapshot(parameters):
    return "7\n10\n20\n" + parameters["lines"]


def test_a_node_of_one_write_is_a_record():
    change = RecordChange("w\n1", attributes={"a": 1}, head=b"head", body=b"body")
    parameters = inserted(REF, change)
    record, tag = record_of(REF, snapshot(parameters), parameters["properties"]["head"])
    assert (record.revision, record.write_id, record.attributes, record.head) == (7, "w\n1", {"a": 1}, b"head")
    assert body_of(record, tag, [(tag, 0, parameters["parts"][0])]) == b"body"


@pytest.mark.parametrize("head", [None, b"", b"other678head"])
def test_a_head_of_another_write_is_seen(head):
    parameters = inserted(REF, RecordChange("w", head=b"head"))
    with pytest.raises(Torn):
        record_of(REF, snapshot(parameters), head)


def test_parts_of_another_write_are_seen():
    size = 2 * 1024 * 1024 + 1
    parameters = inserted(REF, RecordChange("w", body=bytes(size)))
    record, tag = record_of(REF, snapshot(parameters), parameters["properties"]["head"])
    parts = [(tag, number, data) for number, data in enumerate(parameters["parts"])]
    assert len(parts) == 3
    assert body_of(record, tag, parts[::-1]) == bytes(size)
    for torn in (parts[:2], [*parts[:2], ("other", 2, parts[2][2])], [*parts, ("other", 0, b"")], []):
        with pytest.raises(Torn):
            body_of(record, tag, torn)


def test_what_is_kept_is_left_to_the_server():
    """By None in the lines of the snapshot: due, write id, attributes, tag of the head, tag and size of the body."""
    kept = changed(REF, RecordChange("w"))
    assert kept == {"key": "k", "lines": [None, '"w"', None, None, None], "properties": {}}
    dropped = changed(REF, RecordChange("w", attributes=None, head=None, body=None, due_at=None))
    due, _, attributes, head_tag, body = dropped["lines"]
    assert (due, attributes, body) == ("", "{}", "")
    assert dropped["properties"] == {"by_due": None, "head": head_tag.encode()}
    assert "parts" not in dropped
