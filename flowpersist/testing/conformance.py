"""The suite that every backend passes.

A backend's own test file is some 16 lines::

    from functools import partial

    import pytest

    from flowpersist.backends.registry import backend_from_url
    from flowpersist.testing.conformance import BackendConformance


    class TestSqlite(BackendConformance):
        @pytest.fixture
        def make_backend(self, tmp_path):
            return partial(backend_from_url, f"sqlite:///{tmp_path}/store.db")

It needs pytest and pytest-asyncio (the ``testing`` extra). ``race_rounds``, ``racers``, ``processes``, ``many`` and
``largest_body`` are class attributes: raise them for the long form.
"""

from __future__ import annotations

from flowpersist.testing.suite.parts import Parts
from flowpersist.testing.suite.queries import Queries
from flowpersist.testing.suite.races import Races
from flowpersist.testing.suite.values import Values

__all__ = ["BackendConformance"]


class BackendConformance(Parts, Races, Queries, Values):
    """Every law of ``flowpersist.backends.base``, checked on the backends that the fixture ``make_backend`` makes."""
