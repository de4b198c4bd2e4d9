"""The parts of the Neo4j backend."""
