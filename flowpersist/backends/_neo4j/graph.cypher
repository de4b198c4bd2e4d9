// The graph: nodes for the values of some attributes, and relationships from the records to them. These are parts of the
// statements on records, one of each for every attribute that is mapped; <names> are filled in by graph.py.

// name: relate
// Within FOREACH, where the put wins. A relationship to a node that many refer to locks it for none of the others.
FOREACH (value IN fresh_<number> |
  MERGE (n:`<label>` {`<property>`: value})
  CREATE (r)-[:`<type>`]->(n)
)

// name: relate_new
// Of a record that has no relationships yet.
FOREACH (value IN [it IN [$properties.`attr_<attribute>`] WHERE it IS NOT NULL] |
  MERGE (n:`<label>` {`<property>`: value})
  CREATE (r)-[:`<type>`]->(n)
)

// name: unmoved
// Most changes leave the graph as it is. What they take to be planned and run is a fraction.
AND coalesce(r.`attr_<attribute>` = $properties.`attr_<attribute>`,
  r.`attr_<attribute>` IS NULL AND $properties.`attr_<attribute>` IS NULL)

// name: drop_related
// Only where the value is another one: what stays is not touched.
WITH *, done AND NOT coalesce(r.`attr_<attribute>` = $properties.`attr_<attribute>`,
  r.`attr_<attribute>` IS NULL AND $properties.`attr_<attribute>` IS NULL) AS moved_<number>
WITH *,
  CASE WHEN moved_<number> THEN [it IN [$properties.`attr_<attribute>`] WHERE it IS NOT NULL] ELSE [] END
    AS fresh_<number>,
  CASE WHEN moved_<number> THEN [(r)-[x:`<type>`]->(:`<label>`) | x] ELSE [] END AS stale_<number>,
  CASE WHEN moved_<number> THEN [(r)-[:`<type>`]->(n:`<label>`) | n] ELSE [] END AS left_<number>

// name: drop_stale
FOREACH (x IN stale_<number> | DELETE x)

// name: find_related
WITH *, CASE WHEN done THEN [(r)-[:`<type>`]->(n:`<label>`) | n] ELSE [] END AS left_<number>

// name: left
+ left_<number>

// name: lock_related
// Before the relationships go, in one order: two who had each deleted one, which shares a lock, and then both wanted the
// node for themselves, would wait for each other. A node of many relationships is not locked.
WITH *
CALL (left_<number>) {
  UNWIND left_<number> AS n
  WITH DISTINCT n WHERE COUNT { (n)--() } < <many>
  WITH n ORDER BY n.`<property>`
  SET n.`<property>` = n.`<property>`
}

// name: gather_related
, reduce(all = [], some IN collect(left_<number>) | all + some) AS left_<number>

// name: drop_orphans
// A node goes with the last record that refers to it, if it holds nothing but the value and has no other relationship. Its
// lock is taken, by setting the value to itself, before it is looked at again; a put that meets it just then fails for
// want of it, and is tried again.
WITH *
CALL (left_<number>) {
  UNWIND left_<number> AS n
  WITH DISTINCT n WHERE COUNT { (n)--() } < <many>
  SET n.`<property>` = n.`<property>`
  WITH n WHERE COUNT { (n)--() } = 0 AND keys(n) = ['<property>'] AND size(labels(n)) = 1
  DELETE n
}
