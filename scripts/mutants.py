"""Switch each defence of scripts/mutants.toml off, and see whether its tests go red. scripts/mutants.sh begins it.

Everything happens in copies of the checkout, from which the tests import the package. First all tests run on what is
there, and must be green. Then each mutant's replacement is made, its tests are run, and it is undone: a mutant is
killed where each of its tests fails by an assertion of its own. Anything else is told and fails the whole: a mutant
that survives, a test that breaks otherwise, a text to replace that is not there exactly once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import FrameType
from typing import Final, NoReturn

from attrs import define, evolve, field, frozen

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "scripts" / "mutants.toml"
PLUGIN: Final = Path(__file__).with_name("mutants_report.py")
#: Seconds that the tests of one mutant may take, and all tests together.
PATIENCE: Final = 180
PATIENCE_ALL: Final = 1800
PYTEST: Final = ("-q", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", "-p", PLUGIN.stem)
#: Distinct times of the files that are replaced, by which Python tells that what it compiled is out of date.
_TIMES: Final = 1_000_000_000


@frozen
class Mutant:
    """One replacement in one file, that switches a defence off, and the tests that must go red."""

    name: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    defence: str


@frozen
class Defence:
    """A row of the threat model. ``attacks`` are the rows of its page; ``none`` says why it has no mutant."""

    name: str
    claim: str
    attacks: tuple[str, ...] = ()
    none: str = ""
    mutants: tuple[Mutant, ...] = ()


@frozen
class Verdict:
    """What became of a mutant: whether it was killed, why not, and by how many tests that went red."""

    mutant: Mutant
    killed: bool
    said: str
    red: int
    seconds: float


def defences() -> list[Defence]:
    """The table."""
    found = []
    for row in tomllib.loads(TABLE.read_text(encoding="utf-8"))["defence"]:
        mutants = [
            Mutant(defence=row["name"], **{**one, "tests": tuple(one["tests"])}) for one in row.pop("mutant", ())
        ]
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        found.append(Defence(**given, mutants=tuple(mutants)))
    return found


def mutated(mutant: Mutant, tree: Path) -> str:
    """The text of the mutant's file with the replacement; ``ValueError`` where that can't be made in one way only."""
    text = (tree / mutant.file).read_text(encoding="utf-8")
    count = text.count(mutant.old)
    if count != 1:
        msg = f"the text to replace stands {count} times in {mutant.file}, not once: {mutant.old!r}"
        raise ValueError(msg)
    return text.replace(mutant.old, mutant.new)


def copied(to: Path) -> Path:
    """A copy of the checkout as it is, without what is hidden or compiled."""
    return shutil.copytree(ROOT, to, symlinks=True, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))


@define
class Bench:
    """Runs tests in copies, and can be stopped from another thread."""

    scratch: Path
    _running: set[subprocess.Popen[str]] = field(factory=set)
    _lock: Lock = field(factory=Lock)
    _stopped: bool = False

    def run(self, tree: Path, tests: Sequence[str], patience: float) -> tuple[list[tuple[str, str, str]], str]:
        """What became of each test, and the end of what pytest printed; ``TimeoutError`` where they don't end."""
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="run-") as directory:
            report = Path(directory) / "report.json"
            command = [sys.executable, "-m", "pytest", *PYTEST, f"--basetemp={directory}/tests", *tests]
            environment = {**_environment(), "MUTANTS_TREE": str(tree), "MUTANTS_REPORT": str(report)}
            # The copy stands before what is installed.
            environment["PYTHONPATH"] = os.pathsep.join((str(tree), str(self.scratch / "plugin")))
            process = self._started(command, tree, environment)
            try:
                said, _ = process.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                msg = f"its tests did not end within {patience} s"
                raise TimeoutError(msg) from None
            finally:
                self._ended(process)
            told = json.loads(report.read_text(encoding="utf-8")) if report.exists() else []
            return [(str(test), str(what), str(why)) for test, what, why in told], said[-2000:]

    def _started(self, command: Sequence[str], tree: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                command,
                cwd=tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def _ended(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._running.discard(process)
        _kill(process)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def stop(self) -> None:
        """Kill what runs; nothing is started any more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process and what it started, if it has not been waited for."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Without servers and long forms, which no test of the table needs. Nor does one need pytest's other plugins: these
    take longer to import than most tests to run.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPERSIST_")}
    return kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def _function(test: str) -> str:
    """A test without its parameters."""
    return test.partition("[")[0]


def verdict(mutant: Mutant, told: Iterable[tuple[str, str, str]], said: str, seconds: float) -> Verdict:
    """Whether each test of a mutant went red by an assertion, and nothing else broke."""
    became = list(told)
    red = [test for test, what, _ in became if what == "red"]
    made = Verdict(mutant, killed=False, said="", red=len(red), seconds=seconds)
    broken = [(test, why) for test, what, why in became if what == "broken"]
    if broken or not became:
        test, why = broken[0] if broken else ("pytest", said.strip().rpartition("\n")[2])
        return evolve(made, said=f"BROKEN: {test} fails by no assertion: {why}")
    green = [test for test in mutant.tests if not any(_is_of(one, test) for one in red)]
    if green:
        return evolve(made, said=f"SURVIVES: {', '.join(green)} stays green")
    return evolve(made, killed=True, said="killed")


def _is_of(ran: str, named: str) -> bool:
    return ran == named or ("[" not in named and _function(ran) == named)


def tried(bench: Bench, tree: Path, mutant: Mutant, number: int) -> Verdict:
    """Make a mutant in this tree, run its tests, and undo it."""
    path, start = tree / mutant.file, time.monotonic()
    before, times = path.read_bytes(), path.stat()
    try:
        path.write_text(mutated(mutant, tree), encoding="utf-8")
        os.utime(path, (_TIMES + number, _TIMES + number))
        told, said = bench.run(tree, mutant.tests, PATIENCE)
    except (ValueError, TimeoutError) as error:
        return Verdict(mutant, killed=False, said=f"BROKEN: {error}", red=0, seconds=time.monotonic() - start)
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return verdict(mutant, told, said, time.monotonic() - start)


def green(bench: Bench, tree: Path, tests: Sequence[str]) -> list[str]:
    """What is not green without a mutant: a test that fails, is left out or is not there kills nothing."""
    told, said = bench.run(tree, tests, PATIENCE_ALL)
    wrong = [f"{test} is {what} without a mutant: {why}" for test, what, why in told if what != "green"]
    if not told:
        # One name that is not there, and pytest runs none: what it said tells which.
        return [f"the tests did not run: {said}"]
    absent = [test for test in tests if not any(_is_of(ran, test) for ran, _, _ in told)]
    return wrong + [f"{test} did not run without a mutant" for test in absent]


def tries(bench: Bench, trees: Sequence[Path], chosen: Sequence[Mutant], tell: Callable[[Verdict], None]) -> None:
    """Try all mutants, in each tree one at a time."""
    free: SimpleQueue[Path] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(number: int, mutant: Mutant) -> Verdict:
        tree = free.get()
        try:
            return tried(bench, tree, mutant, number)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        try:
            for done in as_completed([pool.submit(one, number, mutant) for number, mutant in enumerate(chosen)]):
                tell(done.result())
        except BaseException:
            bench.stop()
            pool.shutdown(cancel_futures=True)
            raise


def table(verdicts: Iterable[Verdict]) -> str:
    """The verdicts as columns."""
    rows = [("defence", "mutant", "red", "seconds", "")]
    rows += [(v.mutant.defence, v.mutant.name, str(v.red), f"{v.seconds:.1f}", v.said) for v in verdicts]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def listed(chosen: Iterable[Defence]) -> str:
    """What would be switched off, and the tests that must notice it."""
    parts = []
    for defence in chosen:
        parts.append(f"{defence.name}: {defence.claim}")
        parts += [f"    no mutant: {defence.none}"] if defence.none else []
        for mutant in defence.mutants:
            parts.append(f"    {mutant.name}: {mutant.what} ({mutant.file})")
            parts += [f"        {test}" for test in mutant.tests]
    return "\n".join(parts)


def markdown(known: Iterable[Defence]) -> str:
    """The table of docs/reliability.md."""
    rows = ["| defence | mutant | what is switched off | tests that go red |", "|---|---|---|---|"]
    for defence in known:
        for mutant in defence.mutants:
            tests = ", ".join(f"`{test.rpartition('::')[2]}`" for test in mutant.tests)
            rows.append(f"| `{defence.name}` | `{mutant.name}` | {mutant.what} | {tests} |")
        if defence.none:
            rows.append(f"| `{defence.name}` | none | {defence.none} | |")
    return "\n".join(rows)


def arguments(given: list[str] | None, known: Iterable[Defence]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="scripts/mutants.sh", description="Switch each defence off, and test.")
    parser.add_argument("--list", action="store_true", help="print what would be switched off")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/reliability.md")
    parser.add_argument("--only", action="append", metavar="NAME", help="this mutant or defence; may be repeated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="so many at a time")
    asked = parser.parse_args(given)
    names = {name for defence in known for name in (defence.name, *(mutant.name for mutant in defence.mutants))}
    unknown = [name for name in asked.only or () if name not in names]
    if unknown:
        parser.error(f"no mutant or defence is called {unknown[0]}: see --list")
    if asked.jobs < 1:
        parser.error("the jobs must be 1 or more")
    return asked


def chosen_of(known: Iterable[Defence], only: Sequence[str] | None) -> list[Defence]:
    """The defences that are asked for, each with the mutants that are."""
    if not only:
        return list(known)
    found = []
    for defence in known:
        mutants = tuple(one for one in defence.mutants if defence.name in only or one.name in only)
        if mutants or defence.name in only:
            found.append(evolve(defence, mutants=mutants))
    return found


def run(chosen: Sequence[Defence], jobs: int, scratch: Path) -> list[Verdict] | None:
    """The verdicts in the table's order; None where the tests are not green without a mutant."""
    mutants = [mutant for defence in chosen for mutant in defence.mutants]
    if not mutants:
        return []
    bench, first = Bench(scratch), copied(scratch / "tree-0")
    # A copy too, so that the checkout may be edited meanwhile.
    (scratch / "plugin").mkdir()
    shutil.copy2(PLUGIN, scratch / "plugin")
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    print(f"{len(mutants)} mutants; first their {len(tests)} tests without any", flush=True)
    try:
        wrong = green(bench, first, tests)
    except BaseException:
        bench.stop()
        raise
    if wrong:
        print("\n".join(wrong))
        return None
    # After the tests, so that what they have compiled is copied too.
    others = [shutil.copytree(first, scratch / f"tree-{number}", symlinks=True) for number in range(1, jobs)]
    verdicts: dict[Mutant, Verdict] = {}

    def tell(one: Verdict) -> None:
        verdicts[one.mutant] = one
        print(f"{one.mutant.defence}/{one.mutant.name}: {one.said}", flush=True)

    tries(bench, [first, *others], mutants, tell)
    return [verdicts[mutant] for mutant in mutants]


def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """An end by the system is told as one by the keyboard."""
    raise KeyboardInterrupt


def main(given: list[str] | None = None) -> int:
    """The exit code: 0 where each mutant was killed, 1 where one was not, 130 where it was interrupted."""
    known = defences()
    asked = arguments(given, known)
    chosen = chosen_of(known, asked.only)
    if asked.list or asked.markdown:
        print(markdown(chosen) if asked.markdown else listed(chosen))
        return 0
    # A shell lets what it starts in the background ignore interrupts.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, interrupt)
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
            verdicts = run(chosen, asked.jobs, Path(directory))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if verdicts is None:
        return 1
    killed = sum(one.killed for one in verdicts)
    print(f"\n{table(verdicts)}\n")
    for defence in chosen:
        if defence.none:
            print(f"no mutant of {defence.name}: {defence.none}")
    print(f"{killed} of {len(verdicts)} mutants killed in {time.monotonic() - start:.0f} s")
    return 0 if killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
