// The statements on records. Each begins with a line that names it; <names> are filled in by naming.py.
//
// A statement is a transaction of its own. Neo4j reads without locks, property by property, so three rules hold:
// - What decides is read after `SET r.lock = true`. That takes the record's lock; the value is always the same, so that
//   whoever then loses has written nothing. (REMOVE, or SET of null, of what is not there takes no lock at all.)
// - What a reader needs as of one revision stands in one property, `snapshot`: eight lines of revision, created, updated,
//   due (microseconds), write id, attributes (both JSON), tag of the head, tag and size of the body. Head and body
//   carry the tag of the write that set them, so that a reader sees when they are not those of the snapshot.
// - The clock is datetime.realtime(), read once the lock is there: datetime() is that of the statement's beginning.
//
// `key`, `by_created`, `by_updated` and `by_due` are in the order of their texts (naming.py): the latter three are the
// time, in as many digits for every time, and the key. They are the times' only properties: each costs a tenth of a put.

// name: insert_record
// A record where none is. MERGE holds the lock of the index entry; `tag` tells whether it is ours. What comes too late
// is taken back. A new record begins above whatever was deleted in its shard.
MERGE (r:<Record> {namespace: $namespace, key: $key})
ON CREATE SET r.lock = true, r.tag = $tag
WITH r, r.tag = $tag AS made, datetime.realtime() AS t
WITH r, made, t.epochSeconds * 1000000 + t.nanosecond / 1000 + $offset AS now
OPTIONAL MATCH (f:<Floor> {shard: $shard})
WITH r, made, now, f.revision + 1 AS revision
WITH *, made AND now <= $not_after AND revision IS NOT NULL AS done
FOREACH (_ IN CASE WHEN made AND NOT done THEN [1] ELSE [] END | DELETE r)
FOREACH (_ IN CASE WHEN done THEN [1] ELSE [] END |
  SET r += $properties, r.revision = revision, r.shard = $shard,
    r.by_created = toString(now + <bias>) + $key,
    r.by_updated = toString(now + <bias>) + $key,
    r.snapshot = toString(revision) + '\n' + toString(now) + '\n' + toString(now) + '\n' + $lines
  <write_body>
  <relate_new>
)
RETURN done, CASE WHEN done THEN revision WHEN made THEN 0 WHEN r.revision > 0 THEN r.revision ELSE 1 END AS revision, now,
  <late> AS late, made AND revision IS NULL AS maimed

// name: change_record
// Compare and set. Whoever finds a later revision than theirs before any lock has lost, since revisions only rise; an
// earlier one says nothing, since a commit shows property by property. It is that of the snapshot, so that who then reads
// the record finds it, too; and by a computed name, since the server may keep for later what it reads by a plain one.
// What is kept is taken over from the old snapshot, which must be one.
MATCH (r:<Record> {namespace: $namespace, key: $key})
WITH r, toInteger([it IN ['snapshot'] | split(r[it], '\n')][0][0]) AS seen
FOREACH (_ IN CASE WHEN seen > $expected THEN [] ELSE [1] END | SET r.lock = true)
WITH r, seen, r.revision AS revision, split(r.snapshot, '\n') AS old, datetime.realtime() AS t
WITH r, old, CASE WHEN seen > $expected THEN seen ELSE revision END AS found,
  t.epochSeconds * 1000000 + t.nanosecond / 1000 + $offset AS now
WITH r, old, found, now,
  found = $expected AND now <= $not_after AND found < <last> AND size(old) = 8 AND toInteger(old[0]) = found AS won
WITH *, won <unmoved> AS done
<drop_body>
<find_moved>
<lock_related>
<drop_stale>
<drop_attributes>
FOREACH (_ IN CASE WHEN done THEN [1] ELSE [] END |
  SET r += $properties, r.revision = found + 1,
    r.by_updated = toString(now + <bias>) + $key,
    r.snapshot = toString(found + 1) + '\n' + old[1] + '\n' + toString(now) + '\n' + coalesce($lines[0], old[3]) + '\n'
      + $lines[1] + '\n' + coalesce($lines[2], old[5]) + '\n' + coalesce($lines[3], old[6]) + '\n'
      + coalesce($lines[4], old[7])
  <write_body>
  <relate>
)
<drop_orphans>
RETURN done, CASE WHEN done THEN found + 1 ELSE found END AS revision, now, <late> AS late, won AND NOT done AS moved

// name: upsert_record
// Create or replace at any revision: MERGE finds or creates the node, and `tag` tells which. A new node is handled like an
// empty record at the floor's revision, and is deleted again if the write is refused. The fifth line of the snapshot is
// the write id, which shows a repeated write.
MERGE (r:<Record> {namespace: $namespace, key: $key})
ON CREATE SET r.tag = $tag
SET r.lock = true
WITH r, coalesce(r.tag = $tag, false) AS made, r.revision AS revision, split(r.snapshot, '\n') AS snapshot,
  datetime.realtime() AS t
WITH *, t.epochSeconds * 1000000 + t.nanosecond / 1000 + $offset AS now
OPTIONAL MATCH (f:<Floor> {shard: $shard})
WITH r, made, now, CASE WHEN made THEN f.revision ELSE revision END AS found,
  CASE WHEN made THEN ['', '', '', '', '', '{}', $tag, ''] ELSE snapshot END AS old
WITH *, coalesce(now <= $not_after AND found IS :: INTEGER AND found < <last> AND size(old) = 8
  AND (made OR (toInteger(old[0]) = found AND old[4] <> $lines[1])), false) AS won
WITH *, won <unmoved> AS done
<drop_body>
<find_moved>
<lock_related>
<drop_stale>
<drop_attributes>
FOREACH (_ IN CASE WHEN done THEN [1] ELSE [] END |
  SET r += $properties, r.revision = found + 1,
    r.by_updated = toString(now + <bias>) + $key,
    r.snapshot = toString(found + 1) + '\n' + CASE WHEN made THEN toString(now) ELSE old[1] END + '\n' + toString(now)
      + '\n' + coalesce($lines[0], old[3]) + '\n' + $lines[1] + '\n' + coalesce($lines[2], old[5]) + '\n'
      + coalesce($lines[3], old[6]) + '\n' + coalesce($lines[4], old[7])
  <write_body>
  <relate>
)
FOREACH (_ IN CASE WHEN done AND made THEN [1] ELSE [] END |
  SET r.shard = $shard, r.by_created = toString(now + <bias>) + $key, r.head = coalesce($properties.head, $empty)
)
<drop_orphans>
FOREACH (_ IN CASE WHEN made AND NOT done THEN [1] ELSE [] END | DELETE r)
RETURN done, CASE WHEN done THEN found + 1 ELSE found END AS revision, now, <late> AS late,
  coalesce(NOT made AND old[4] = $lines[1], false) AS repeated, made AND found IS NULL AS maimed, won AND NOT done AS moved

// name: upsert_records
// Several of them, each with its own parameters; several.py fills in the statement above.
UNWIND $puts AS given
CALL (given) {
<upsert_record>
}
RETURN given.place AS place, done, revision, now, late, repeated, maimed, moved

// name: late
// A node that others refer to may have been locked until the deadline had passed: an error undoes the statement.
CASE WHEN done AND datetime.realtime().epochMillis * 1000 + $offset > $last THEN now / 0 END

// name: find_moved
WITH * <moved>

// name: lock_related
// Whoever may take the last relationships of a node comes one by one: the server itself locks such a node for several and
// then for one, in which two who have both begun wait for each other, again and again. A counter serves, since it is there.
// Then the nodes are locked, before their relationships go, in one order. A node of many relationships is not.
WITH *, [] <left> AS left
CALL (left) {
  UNWIND left AS it
  WITH it, it.node AS n WHERE COUNT { (n)--() } < <many>
  WITH collect(DISTINCT it) AS few WHERE size(few) > 0
  MATCH (f:<Floor> {shard: 0})
  SET f.lock = true
  WITH few
  UNWIND few AS it
  WITH it.node AS n, it.property AS property ORDER BY property, n[property]
  SET n[property] = n[property]
}

// name: drop_stale
FOREACH (x IN [] <stale> | DELETE x)

// name: drop_orphans
// A node goes with the last record that refers to it, if it holds nothing but the value and has no other relationship. Its
// lock is taken, by setting the value to itself, before it is looked at again; a put that meets it just then fails for
// want of it, and is tried again.
WITH *
CALL (left) {
  UNWIND left AS it
  WITH DISTINCT it.node AS n, it.property AS property WHERE COUNT { (n)--() } < <many>
  SET n[property] = n[property]
  WITH n, property WHERE COUNT { (n)--() } = 0 AND keys(n) = [property] AND size(labels(n)) = 1
  DELETE n
}

// name: write_body
// Parts on nodes of their own, so that neither a change of the record nor a list of records touches them.
FOREACH (part IN range(0, size($parts) - 1) |
  CREATE (r)-[:<HAS_BODY>]->(:<Body> {tag: $tag, part: part, data: $parts[part]})
)

// name: drop_body
WITH *, [(r)-[:<HAS_BODY>]->(b:<Body>) | b] AS bodies
FOREACH (b IN CASE WHEN done THEN bodies ELSE [] END | DETACH DELETE b)

// name: drop_attributes
// Each attribute of a plain name is a property, so that one may be declared, and indexed, at any time. This comes after
// find_moved, which compares these properties.
FOREACH (name IN
  CASE WHEN done THEN [k IN keys(r) WHERE k STARTS WITH 'attr_' AND $properties[k] IS NULL] ELSE [] END |
  REMOVE r[name]
)

// name: read_record
// The snapshot and the head are read once, before the body; the head comes with the first part alone.
OPTIONAL MATCH (r:<Record> {namespace: $namespace, key: $key})
<lock>
WITH r, r IS NOT NULL AS found, r.snapshot AS snapshot, r.head AS head
OPTIONAL MATCH (r)-[:<HAS_BODY>]->(b:<Body>)
WITH found, snapshot, head, b.tag AS tag, b.part AS part, b.data AS data, datetime.realtime() AS t
RETURN t.epochSeconds * 1000000 + t.nanosecond / 1000 + $offset AS now, found, snapshot,
  CASE WHEN coalesce(part, 0) = 0 THEN head END AS head, tag, part, data

// name: read_standing
OPTIONAL MATCH (r:<Record> {namespace: $namespace, key: $key})
<lock>
WITH r IS NOT NULL AS found, r.snapshot AS snapshot, r.head AS head, datetime.realtime() AS t
RETURN t.epochSeconds * 1000000 + t.nanosecond / 1000 + $offset AS now, found, snapshot, head

// name: lock
SET r.lock = true

// name: read_clock
WITH datetime.realtime() AS t
RETURN t.epochSeconds * 1000000 + t.nanosecond / 1000 + $offset AS now

// name: bodies
// Of the bodies that are small enough: several large ones would not fit a page, and are read one by one.
, CASE WHEN r.snapshot IS :: STRING AND toInteger(split(split(r.snapshot, '\n')[7], ' ')[1]) <= <share>
    THEN [(r)-[:<HAS_BODY>]->(b:<Body>) | [b.tag, b.part, b.data]] END

// name: read_records
// One row for each reference; more, or none, of a record that is being deleted or created.
UNWIND range(0, size($refs) - 1) AS place
WITH place, $refs[place] AS ref
OPTIONAL MATCH (r:<Record> {namespace: ref.namespace, key: ref.key})
WITH place, r, r IS NOT NULL AS found, datetime.realtime() AS t
RETURN t.epochSeconds * 1000000 + t.nanosecond / 1000 + $offset AS now, place, found, r.snapshot AS snapshot, r.head AS head,
  CASE WHEN found AND $body THEN [(r)-[:<HAS_BODY>]->(b:<Body>) | [b.tag, b.part, b.data]] ELSE [] END AS parts

// name: read_page
// In the order of the index named, which answers all but the entries. The order names every property of the index, else
// the planner would sort. The place is the index's own, so that a record that has moved since is seen to have.
MATCH (r:<Record>)
USING INDEX SEEK r:<Record>(<index>)
WHERE <conditions>r.<place> >= $since AND r.<place> < $before
  AND all(entry IN $entries WHERE r.snapshot CONTAINS entry)
WITH r, r.<place> AS place ORDER BY <order> LIMIT $limit
WITH collect([place, r.key, CASE WHEN r.snapshot IS :: STRING THEN CASE WHEN size(r.snapshot) < <large> THEN r.snapshot ELSE '' END
  WHEN r.snapshot IS NOT NULL THEN '' END, <head><bodies>]) AS rows
WITH rows, datetime.realtime() AS t
RETURN t.epochSeconds * 1000000 + t.nanosecond / 1000 + $offset AS now, rows

// name: delete_record
MATCH (r:<Record> {namespace: $namespace, key: $key})
SET r.lock = true
WITH r, r.revision AS found, ($expected IS NULL OR r.revision = $expected)
  AND r.revision IS :: INTEGER AND r.revision <= <last> AS done, [(r)-[:<HAS_BODY>]->(b:<Body>) | b] AS bodies
<find_related>
<lock_related>
FOREACH (b IN CASE WHEN done THEN bodies ELSE [] END | DETACH DELETE b)
FOREACH (it IN CASE WHEN done THEN [r] ELSE [] END | DETACH DELETE it)
<drop_orphans>
WITH found, done
OPTIONAL MATCH (f:<Floor> {shard: $shard})
FOREACH (it IN CASE WHEN done AND f.revision < found THEN [f] ELSE [] END |
  SET it.lock = true
  SET it.revision = CASE WHEN it.revision < found THEN found ELSE it.revision END
)
RETURN done, found AS revision

// name: purge_records
// Those that stand as they were found. Records are locked in the order of their keys and floors in that of their shards,
// so that purges do not wait for each other in a circle.
UNWIND $purged AS entry
MATCH (r:<Record> {namespace: $namespace, key: entry.key})
SET r.lock = true
WITH r, entry
WHERE r.revision = entry.revision
WITH r, [(r)-[:<HAS_BODY>]->(b:<Body>) | b] AS bodies, true AS done
<find_related>
WITH collect(r) AS records, collect({shard: r.shard, revision: r.revision}) AS gone,
  reduce(all = [], some IN collect(bodies) | all + some) AS bodies<gather_related>
<lock_related>
FOREACH (b IN bodies | DETACH DELETE b)
FOREACH (r IN records | DETACH DELETE r)
<drop_orphans>
WITH gone
UNWIND gone AS it
WITH it.shard AS shard, max(it.revision) AS top, count(*) AS purged ORDER BY shard
OPTIONAL MATCH (f:<Floor> {shard: shard})
FOREACH (it IN CASE WHEN f.revision < top THEN [f] ELSE [] END |
  SET it.lock = true
  SET it.revision = CASE WHEN it.revision < top THEN top ELSE it.revision END
)
RETURN sum(purged) AS purged
