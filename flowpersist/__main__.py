"""``python -m flowpersist`` is the ``flowpersist`` command."""

from __future__ import annotations

from flowpersist.cli import main

if __name__ == "__main__":
    main()
