"""The benchmark of flows' steps runs. No time is asserted: machines differ."""

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "flow_steps.py"


def test_it_measures_each_durability_and_each_number():
    command = [sys.executable, str(BENCHMARK), "--smoke", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows if len(row) == 5 and row[-1].replace(",", "").isdigit()] == ["memory", "sqlite"]
    numbers = [row[1] for row in rows if row[0] == "sqlite" and len(row) == 5 and row[-1] in {"met", "missed"}]
    open_waits = ["10 waits, 10 open", "100 waits, 100 open"]
    assert numbers == ["100 steps done", *open_waits, "10 open, recorded only", "100 open, recorded only"]
