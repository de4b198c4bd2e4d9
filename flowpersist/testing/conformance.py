"""The suites that every backend passes: the laws of records, and the promises of the stores that stand on them.

A backend's own test file is some 16 lines::

    import pytest

    from flowpersist.testing.conformance import BackendConformance


    class TestSqlite(BackendConformance):
        @pytest.fixture
        def url(self, tmp_path):
            return f"sqlite:///{tmp_path}/store.db"

``ValueConformance`` is given the same fixtures, and checks that the general store (``flowpersist.stores.ValueStore``)
keeps its promises on the backend.

What has no URL gives the fixture ``make_backend`` in its place: a function that makes a backend, not yet open.
It needs pytest and pytest-asyncio (the ``testing`` extra). A URL with one host and port is also reached through a proxy
that fails; what has none gives ``address`` and ``make_proxied``, or those tests are skipped. The fixture ``damages``
says how a stored record can be damaged (``flowpersist.testing.suite.damage``). ``FLOWPERSIST_LONG=1`` in
the environment is the long form; the sizes, in ``flowpersist.testing.suite.ground``, are class attributes.
"""

from __future__ import annotations

from flowpersist.testing.suite.cancelling import Cancelling
from flowpersist.testing.suite.clocks import Clocks
from flowpersist.testing.suite.contention import Contention
from flowpersist.testing.suite.crashes import Crashes
from flowpersist.testing.suite.damage import Damaged
from flowpersist.testing.suite.network import Network
from flowpersist.testing.suite.parts import Parts
from flowpersist.testing.suite.powers import Powers
from flowpersist.testing.suite.queries import Queries
from flowpersist.testing.suite.races import Races
from flowpersist.testing.suite.several import Several
from flowpersist.testing.suite.several_puts import SeveralPuts
from flowpersist.testing.suite.sizes import Sizes
from flowpersist.testing.suite.stored_changes import StoredChanges
from flowpersist.testing.suite.stored_pages import StoredPages
from flowpersist.testing.suite.stored_refusals import StoredRefusals
from flowpersist.testing.suite.stored_values import StoredValues
from flowpersist.testing.suite.upserts import Upserts
from flowpersist.testing.suite.values import Values

__all__ = ["BackendConformance", "ValueConformance"]


class BackendConformance(
    Parts,
    Upserts,
    Values,
    Queries,
    Several,
    SeveralPuts,
    Clocks,
    Sizes,
    Races,
    Contention,
    Cancelling,
    Crashes,
    Damaged,
    Powers,
    Network,
):
    """Every law of ``flowpersist.backends.base``, checked on the backends that the fixture ``url`` names."""


class ValueConformance(StoredValues, StoredPages, StoredRefusals, StoredChanges):
    """Every promise of ``flowpersist.stores.ValueStore``, checked on the backends that the fixture ``url`` names."""
