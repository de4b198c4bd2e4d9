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

// name: same
coalesce(r.`attr_<attribute>` = $properties.`attr_<attribute>`,
  r.`attr_<attribute>` IS NULL AND $properties.`attr_<attribute>` IS NULL)

// name: unmoved
AND <same>

// name: moved
// Only where the value is another one: what stays is not touched.
, [value IN [$properties.`attr_<attribute>`] WHERE done AND NOT <same> AND value IS NOT NULL] AS fresh_<number>
, [(r)-[x:`<type>`]->(:`<label>`) WHERE done AND NOT <same> | x] AS stale_<number>
, [(r)-[:`<type>`]->(n:`<label>`) WHERE done AND NOT <same> | n] AS left_<number>

// name: find_related
WITH *, CASE WHEN done THEN [(r)-[:`<type>`]->(n:`<label>`) | n] ELSE [] END AS left_<number>

// name: left
+ [n IN left_<number> | {node: n, property: '<property>'}]

// name: stale
+ stale_<number>

// name: gather_related
, reduce(all = [], some IN collect(left_<number>) | all + some) AS left_<number>
