"""For tests of code that uses flowpersist: a conformance suite, strategies, faults, and hubs whose time can travel."""

from flowpersist.testing.hubs import open_test_hub, travel
from flowpersist.testing.values import assert_round_trips, same_graph, values

__all__ = ["assert_round_trips", "open_test_hub", "same_graph", "travel", "values"]
