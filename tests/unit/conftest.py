"""Unit tests: thousands of tests of a millisecond or so, most of which would go by in what stands around them."""

import gc
import sys
from pathlib import Path

import pytest

# As in scripts/common.sh: a first run compiles the tests and hypothesis for pytest; the next ones need not.
sys.dont_write_bytecode = False


def pytest_collection_modifyitems(items):
    """A file's tests share an event loop and its threads: to make them anew for each took a third of the time."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("asyncio") is not None:
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


def pytest_collection_finish():
    """What imports and the collection of tests have made stays to the end: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
