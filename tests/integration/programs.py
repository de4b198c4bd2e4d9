"""Programs that a test starts, and that are killed at its end where they still run."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager

from forked import forked


@contextmanager
def started_programs(program, *arguments):
    """Gives a function that starts the program with these arguments, further ones, and variables of the environment."""
    with ExitStack() as stack:

        def start(*further, **environment):
            begun = forked(program, *arguments, *further, environment={**os.environ, **environment})
            return stack.enter_context(begun)

        yield start
