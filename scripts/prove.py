"""Run the proofs of scripts/proofs.toml one after another, and say what they gave. scripts/prove.sh begins it.

A line of JSON for each run of a figure, appended as soon as it has ended: ``figure``, ``claim``, ``form`` (short or
long), ``round``, ``command``, ``tests`` that ran, ``attempts`` within them, ``failures``, ``failed`` (their names),
``skipped``, ``cut`` (the time was over, or it was interrupted), ``seconds``, ``begun`` (UTC), ``commit`` and
``versions``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from xml.etree import ElementTree as ET

from attrs import evolve, field, frozen

ROOT = Path(__file__).parents[1]
PROOFS = ROOT / "scripts" / "proofs.toml"
#: Seconds that a figure has to end by itself, once the time is over.
GRACE = 60
PYTEST = ("-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1")


@frozen
class Proof:
    """A figure or a row of the threat model, and what shows it."""

    name: str
    claim: str
    tests: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    #: By the names of tests, in the short and in the long form, where there is more than one.
    attempts: Mapping[str, tuple[int, int]] = field(factory=dict)
    seconds: tuple[int, int] = (0, 0)
    long: Mapping[str, str] = field(factory=lambda: {"FLOWPERSIST_LONG": "1"})
    own: bool = False
    missing: str = ""


@frozen
class Outcome:
    """What one run of a proof gave."""

    tests: int = 0
    attempts: int = 0
    failed: tuple[str, ...] = ()
    skipped: int = 0
    cut: bool = False
    interrupted: bool = False


def proofs() -> list[Proof]:
    """All proofs of the file; tests of the suite are named for each backend."""
    content = tomllib.loads(PROOFS.read_text(encoding="utf-8"))
    backends = tuple(content["backends"].values())
    found = []
    for table in (*content["figure"], *content["threat"]):
        names = table.pop("suite", ())
        suite = [f"{backend}::{test}" for backend in backends for test in names]
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
        found.append(evolve(Proof(**given), tests=(*suite, *given.get("tests", ()))))
    return found


def command_of(proof: Proof, *, long: bool) -> list[str]:
    """What is run, without the place of the report."""
    if proof.command:
        return [part.format(seconds=proof.seconds[long]) for part in proof.command]
    return [sys.executable, "-m", "pytest", *PYTEST, *proof.tests]


def told(report: Path, attempts: Mapping[str, int]) -> Outcome:
    """What pytest's report says. A test that recorded its attempts is believed; for others ``attempts`` has them."""
    ran, tried, failed, skipped = 0, 0, [], 0
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - our own pytest wrote it
        if case.find("skipped") is not None:
            skipped += 1
            continue
        ran += 1
        recorded = [one.get("value") for one in case.iter("property") if one.get("name") == "attempts"]
        known = attempts.get(case.get("name", "").partition("[")[0], 1)
        tried += sum(map(int, filter(None, recorded))) if recorded else known
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
    return Outcome(ran, tried, tuple(failed), skipped)


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process and all that it started, and kill what does not end by itself."""
    try:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        print("It does not end by itself and is killed.", file=sys.stderr)
    finally:
        # Also where somebody has no patience, and interrupts once more.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(command: list[str], environment: Mapping[str, str], seconds: float | None) -> tuple[int, bool, bool]:
    """The exit code, whether the time was over, and whether somebody interrupted."""
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, start_new_session=True)
    try:
        return process.wait(seconds), False, False
    except subprocess.TimeoutExpired:
        end(process)
        return process.returncode, True, False
    except KeyboardInterrupt:
        end(process)
        return process.returncode, True, True


def prove(proof: Proof, *, long: bool, seconds: float | None) -> Outcome:
    """Run one proof. It fails where a test fails, where nothing ran, and where its program fails."""
    environment = dict(proof.long) if long else {}
    command = command_of(proof, long=long)
    with tempfile.TemporaryDirectory(prefix="prove-") as directory:
        report = Path(directory) / "report.xml"
        places = () if proof.command else (f"--junitxml={report}", f"--basetemp={directory}/tests")
        code, cut, interrupted = run([*command, *places], environment, seconds)
        attempts = {name: both[long] for name, both in proof.attempts.items()}
        outcome = told(report, attempts) if report.exists() else Outcome()
    if proof.command:
        outcome = Outcome(1, 1, () if code == 0 or cut else (shlex.join(command),))
    elif not cut and not outcome.failed and (code != 0 or not outcome.tests):
        outcome = evolve(outcome, failed=(f"pytest ended with {code} after {outcome.tests} tests",))
    return evolve(outcome, cut=cut, interrupted=interrupted)


def commit() -> str:
    """The commit that is proven; with a plus where files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def versions() -> dict[str, str]:
    """Of what the figures depend on, on this machine."""
    drivers = {name: version(name) for name in ("flowpersist", "asyncpg", "redis", "pymongo", "neo4j", "cryptography")}
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": str(os.cpu_count()),
        "sqlite": sqlite3.sqlite_version,
        **drivers,
    }


def line(proof: Proof, outcome: Outcome, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - what JSON takes
    """What is kept of one run."""
    return {
        "figure": proof.name,
        "claim": proof.claim,
        **more,
        "tests": outcome.tests,
        "attempts": outcome.attempts,
        "failures": len(outcome.failed),
        "failed": list(outcome.failed),
        "skipped": outcome.skipped,
        "cut": outcome.cut,
    }


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """The lines, added up for each figure."""
    sums: dict[str, dict[str, float]] = {}
    for one in lines:
        row = sums.setdefault(
            one["figure"], dict.fromkeys(("runs", "tests", "attempts", "failures", "skipped", "seconds"), 0)
        )
        row["runs"] += 1
        for name in ("tests", "attempts", "failures", "skipped", "seconds"):
            row[name] += one[name]
    names = ("figure", "runs", "tests", "attempts", "failures", "skipped", "seconds")
    rows = [names, *((name, *(f"{row[column]:.0f}" for column in names[1:])) for name, row in sums.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def listed(chosen: Iterable[Proof], *, long: bool) -> str:
    """What would be run, as commands that a person may copy."""
    parts = []
    for proof in chosen:
        environment = [f"{name}={value}" for name, value in proof.long.items()] if long and not proof.command else []
        parts.append(f"{proof.name}: {proof.claim}")
        parts += [f"    missing: {proof.missing}"] if proof.missing else []
        parts.append("    " + " ".join([*environment, shlex.join(command_of(proof, long=long))]))
    return "\n".join(parts)


def arguments(given: list[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="scripts/prove.sh", description="Run the proofs of scripts/proofs.toml.")
    parser.add_argument("hours", nargs="?", type=float, help="repeat until so many hours are over; else run each once")
    parser.add_argument("--list", action="store_true", help="print what would be run")
    parser.add_argument("--short", action="store_true", help="the short forms, as CI runs them")
    parser.add_argument("--local", action="store_true", help="without servers")
    parser.add_argument("--only", action="append", metavar="FIGURE", help="this figure alone; may be repeated")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the lines go (.cache/proofs/TIME.jsonl)")
    asked = parser.parse_args(given)
    known = [proof.name for proof in proofs()]
    unknown = [name for name in asked.only or () if name not in known]
    if unknown:
        parser.error(f"no figure is called {unknown[0]}: there are {', '.join(known)}")
    if asked.hours is not None and not asked.hours > 0:
        parser.error("the hours must be more than 0")
    return asked


class Campaign:
    """Rounds of proofs until the time is over."""

    def __init__(self, chosen: list[Proof], output: Path, *, long: bool, hours: float | None) -> None:
        self.chosen, self.output, self.long = chosen, output, long
        self.deadline = None if hours is None else time.monotonic() + hours * 3600
        self.lines: list[dict[str, Any]] = []
        self.same = {"commit": commit(), "versions": versions()}

    def left(self) -> float | None:
        """Seconds; None without a bound."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def run(self) -> bool:
        """Whether it went on to its end, and was not interrupted."""
        number = 1
        while True:
            for proof in self.chosen:
                left = self.left()
                if left is not None and left <= 0:
                    return True
                if not self.one(proof, number, left):
                    return False
            if self.deadline is None:
                return True
            number += 1

    def one(self, proof: Proof, number: int, left: float | None) -> bool:
        """Run a proof and keep its line; false where it was interrupted."""
        print(f"\n== {proof.name}: {proof.claim}", flush=True)
        begun, start = datetime.now(UTC), time.monotonic()
        outcome = prove(proof, long=self.long, seconds=left)
        kept = line(
            proof,
            outcome,
            form="long" if self.long else "short",
            round=number,
            command=shlex.join(command_of(proof, long=self.long)),
            seconds=round(time.monotonic() - start, 1),
            begun=begun.isoformat(timespec="seconds"),
            **self.same,
        )
        self.lines.append(kept)
        with self.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(kept) + "\n")
        return not outcome.interrupted


def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """An end by the system is told as one by the keyboard."""
    raise KeyboardInterrupt


def main(given: list[str] | None = None) -> int:
    """The exit code: 0 where nothing failed, 1 where something did, 130 where it was interrupted."""
    asked = arguments(given)
    chosen = [proof for proof in proofs() if not asked.only or proof.name in asked.only]
    chosen = [proof for proof in chosen if not (asked.local and proof.own)]
    if not chosen:
        print("nothing to run: what is asked for needs servers of its own, which --local leaves out", file=sys.stderr)
        return 2
    if asked.list:
        print(listed(chosen, long=not asked.short))
        return 0
    output = asked.output or ROOT / ".cache" / "proofs" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"
    output.parent.mkdir(parents=True, exist_ok=True)
    # A shell lets what it starts in the background ignore interrupts, and the tests would inherit that.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, interrupt)
    campaign = Campaign(chosen, output, long=not asked.short, hours=asked.hours)
    try:
        finished = campaign.run()
    except KeyboardInterrupt:
        finished = False
    print(f"\n{table(campaign.lines)}\n\n{output}")
    failed = [name for one in campaign.lines for name in one["failed"]]
    for name in failed:
        print(f"FAILED: {name}")
    if not finished:
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
