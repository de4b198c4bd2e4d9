"""The chapters of the conformance suite; ``flowpersist.testing.conformance`` binds them."""
