"""The ``flowpersist`` command: run flows, see what waits, answer, go on, and look after a store.

Needs click, which the extra ``cli`` brings. ``docs/reference/cli.md`` documents each command's options and output.
"""

from __future__ import annotations

import sys

from flowpersist.cli.exits import Exit

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process; exits with one of ``Exit``."""
    try:
        from flowpersist.cli.commands import command  # noqa: PLC0415 - click is an extra
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write("flowpersist: the command needs click: pip install 'flowpersist[cli]'\n")
        sys.exit(Exit.CONFIGURATION)
    command.main(prog_name="flowpersist")
