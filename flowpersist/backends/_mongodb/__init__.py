"""The parts of the MongoDB backend."""
