// The schema. <names> are filled in by naming.py. Each statement may be run twice, and by many at once.

// name: server_version
CALL dbms.components() YIELD name, versions
WHERE name = 'Neo4j Kernel'
RETURN versions[0] AS version

// name: schema_version
MATCH (m:<Meta> {name: 'schema'})
RETURN m.version AS version, COUNT { (:<Floor>) } AS floors

// name: index_names
SHOW INDEXES YIELD name
WHERE name STARTS WITH $prefix
RETURN name

// name: unfinished_indexes
// db.awaitIndexes would wait for those of others, too.
SHOW INDEXES YIELD name, state
WHERE name STARTS WITH $prefix AND state <> 'ONLINE'
RETURN name, state

// name: write_version
MERGE (m:<Meta> {name: 'schema'})
SET m.lock = true
SET m.version = CASE WHEN coalesce(m.version, 0) < $version THEN $version ELSE m.version END

// name: constrain_meta
CREATE CONSTRAINT `<prefix>_meta` IF NOT EXISTS
FOR (m:<Meta>) REQUIRE m.name IS UNIQUE

// name: constrain_floors
CREATE CONSTRAINT `<prefix>_floors` IF NOT EXISTS
FOR (f:<Floor>) REQUIRE f.shard IS UNIQUE

// name: constrain_records
// Without it two inserts at once would make two records. Its index is the order by key, too.
CREATE CONSTRAINT `<prefix>_by_key` IF NOT EXISTS
FOR (r:<Record>) REQUIRE (r.namespace, r.key) IS UNIQUE

// name: index_created
CREATE INDEX `<prefix>_by_created` IF NOT EXISTS
FOR (r:<Record>) ON (r.namespace, r.by_created)

// name: index_updated
CREATE INDEX `<prefix>_by_updated` IF NOT EXISTS
FOR (r:<Record>) ON (r.namespace, r.by_updated)

// name: index_due
CREATE INDEX `<prefix>_by_due` IF NOT EXISTS
FOR (r:<Record>) ON (r.namespace, r.by_due)

// name: create_floors
// The highest revision of any record that was deleted, in shards of the records' ids, so that deletions do not wait for
// each other: a new record begins above it, and no revision of a reference is ever used twice.
UNWIND range(0, <shards> - 1) AS shard
MERGE (f:<Floor> {shard: shard})
ON CREATE SET f.revision = 0, f.lock = true

// name: restore_floors
// What was counted is lost. No record has been written as often as there were milliseconds since 1970.
UNWIND range(0, <shards> - 1) AS shard
MERGE (f:<Floor> {shard: shard})
ON CREATE SET f.revision = datetime.realtime().epochMillis, f.lock = true

// name: index_attribute_by_key
CREATE INDEX `<prefix>_attr_<attribute>_by_key` IF NOT EXISTS
FOR (r:<Record>) ON (r.namespace, r.`attr_<attribute>`, r.key)

// name: index_attribute_by_due
CREATE INDEX `<prefix>_attr_<attribute>_by_due` IF NOT EXISTS
FOR (r:<Record>) ON (r.namespace, r.`attr_<attribute>`, r.by_due)

// name: constrain_related
CREATE CONSTRAINT `<prefix>_graph_<attribute>` IF NOT EXISTS
FOR (n:`<label>`) REQUIRE n.`<property>` IS UNIQUE
