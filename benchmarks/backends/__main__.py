"""The backends beside their raw drivers and beside others: time, scale, races.

Run with ``python benchmarks/backends``.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The states are those of all benchmarks, and the classes in them must be found by name for the codecs that look there.
sys.path.insert(1, str(Path(__file__).parents[1]))

from run import main

if __name__ == "__main__":
    main()
