"""The example's journal passes both conformance suites."""

import sys
from functools import partial
from pathlib import Path

import pytest

from flowpersist.testing.conformance import BackendConformance, ValueConformance

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from toy_backend import JournalBackend


class TestJournal(BackendConformance):
    @pytest.fixture
    def make_backend(self, tmp_path):
        return partial(JournalBackend, tmp_path / "journal")


class TestValuesInJournal(ValueConformance):
    @pytest.fixture
    def make_backend(self, tmp_path):
        return partial(JournalBackend, tmp_path / "journal")
