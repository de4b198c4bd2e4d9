"""Ours to pickle on other Pythons, each in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import CASES
from report import table

__all__ = ["print_pythons"]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = """
source scripts/common.sh
python=$(find_python "$1") || fail "No Python $1 was found. Install one, or leave it out of --pythons."
environment "$2" "$python" -e .
"""


def _measured(version: str, states: Sequence[str], rounds: int) -> dict[str, Any]:
    """What this benchmark says there."""
    directory = ROOT / ".cache" / "benchmarks" / version
    directory.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["bash", "-euc", ENVIRONMENT, "bash", version, str(directory)], cwd=ROOT, check=True)
    command = [str(directory / "bin" / "python"), str(Path(__file__).parent), "--json", "--times"]
    options = ["--peers", "ours,pickle", "--states", ",".join(states), "--rounds", str(rounds)]
    done = subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def print_pythons(versions: Sequence[str], states: Sequence[str], rounds: int) -> None:
    """Print encode and decode, ours to pickle, a column for each version."""
    measured = [_measured(version, states, rounds) for version in versions]
    rows = [
        [CASES[key].title, verb, *(_ratio(one["states"][key], verb) for one in measured)]
        for key in states
        for verb in ("encode", "decode")
    ]
    print(f"Ours to pickle, medians of {rounds} interleaved rounds\n")
    print(table(["state", "", *(one["python"] for one in measured)], rows))


def _ratio(figures: dict[str, Any], verb: str) -> str:
    return f"{figures['ours'][verb] / figures['pickle'][verb]:.2f}"
