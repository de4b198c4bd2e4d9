"""Unit tests: thousands of tests of a millisecond or so, most of which would go by in collecting garbage."""

import gc


def pytest_collection_finish():
    """What imports and the collection of tests have made stays to the end: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
