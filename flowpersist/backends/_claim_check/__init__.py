"""The parts of the claim-check."""
