"""The conformance suite's processes."""

import os

import pytest

from flowpersist.testing.suite.processes import run_processes


def give_up(results):
    os._exit(3)


async def test_a_process_that_fails_is_told_of_at_once_with_its_exit_code():
    with pytest.raises(AssertionError, match="exit code 3"):
        await run_processes(give_up, [()])
