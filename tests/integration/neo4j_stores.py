"""Stores in Neo4j emptied and removed, by its own driver and not by ours."""

from functools import cache

import neo4j


def wipe(url, prefix):
    """Remove every node of a prefix."""
    labels = f"CALL db.labels() YIELD label WHERE label STARTS WITH '{prefix.capitalize()}' RETURN label"
    found = "|".join(f"`{label}`" for label in run(url, labels))
    if found:
        run(url, f"MATCH (n:{found}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 1000 ROWS")


def drop(url, kind, prefix):
    """Remove every index or constraint of a prefix."""
    for name in run(url, f"SHOW {kind} YIELD name WHERE name STARTS WITH '{prefix}' RETURN name"):
        run(url, f"DROP {kind.removesuffix('ES').removesuffix('S')} `{name}`")


def run(url, cypher):
    """The first column of what a statement returns."""
    with driver_of(url).session() as session:
        return [first for first, *_ in session.run(cypher).values()]


@cache
def driver_of(url):
    """One for all tests: a connection takes as long as a test. The fixture ``neo4j_prefix`` closes it."""
    return neo4j.GraphDatabase.driver(url)
