"""The parts of the Redis backend."""
