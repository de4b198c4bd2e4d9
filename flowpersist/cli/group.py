"""The group of all commands: how the process ends after wrong usage, an interrupt or a signal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from flowpersist.cli.views import as_json
from flowpersist.errors.secrecy import forgetting

__all__ = ["INTERRUPTED", "Group"]

#: The exit code that shells use for a process that SIGINT has ended.
INTERRUPTED: Final = 130


class Group(click.Group):
    """Commands that report wrong usage as a problem document if JSON is requested, and exit with 130 after an
    interrupt.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's own signature
        **extra: Any,  # noqa: ANN401 - as above
    ) -> Any:  # noqa: ANN401 - as above
        """Run a command line; exits the process unless ``standalone_mode`` is False."""
        given = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(given, prog_name, complete_var, standalone_mode=False, **extra)
        with forgetting():
            sys.exit(self._exit_code(given, prog_name, complete_var, extra))

    def _exit_code(
        self, given: list[str], prog_name: str | None, complete_var: str | None, extra: dict[str, Any]
    ) -> int:
        try:
            left = super().main(given, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            report_usage(error, as_document=_wants_json(given))
            return error.exit_code
        except click.Abort:
            return INTERRUPTED
        return left if isinstance(left, int) else 0


def _wants_json(given: list[str]) -> bool:
    """Whether JSON is requested; the line could not be parsed, so its text is searched."""
    return "--json" in (given[: given.index("--")] if "--" in given else given)


def report_usage(error: click.ClickException, *, as_document: bool) -> None:
    """Print what is wrong with a command line on standard error."""
    if not as_document:
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    problem = {
        "type": "urn:flowpersist:error:usage",
        "title": type(error).__name__,
        "status": 400,
        "detail": error.format_message(),
    }
    click.echo(as_json(problem if context is None else {**problem, "usage": context.get_usage()}), err=True)
