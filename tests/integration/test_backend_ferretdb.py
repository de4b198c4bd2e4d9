"""The mongodb backend passes what FerretDB can pass: its updates are not atomic, so that nothing races on it."""

import pytest

from damages_servers import mongodb_damages
from flowpersist.testing.suite.damage import Damaged
from flowpersist.testing.suite.parts import Parts
from flowpersist.testing.suite.queries import Queries
from flowpersist.testing.suite.values import Values


class TestFerretdb(Damaged, Parts, Queries, Values):
    @pytest.fixture
    def url(self, server, prefix):
        return f"{server('ferretdb')}?prefix={prefix}&allow_unsafe_ferretdb=on"

    test_purging_while_others_write = None

    @pytest.fixture
    def damages(self, server, prefix):
        # The same code goes through all of them elsewhere.
        return list(mongodb_damages(server("ferretdb"), prefix))[::12]
