"""The mongodb backend passes what FerretDB can pass: its updates are not atomic, so nothing races on it."""

import pytest

from flowpersist.testing.conformance import BackendConformance
from flowpersist.testing.suite.races import Races


class TestFerretdb(BackendConformance):
    @pytest.fixture
    def url(self, server, prefix):
        return f"{server('ferretdb')}?prefix={prefix}&allow_unsafe_ferretdb=on"
