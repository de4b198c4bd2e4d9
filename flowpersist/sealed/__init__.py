"""Values in a store, sealed: envelopes, heads, records, and the retries of a store that fails for a moment.

What is imported here is public; every other module of the package may change.
"""

from __future__ import annotations

from flowpersist.sealed.envelope import Sealer

__all__ = ["Sealer"]
