"""The tables, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cases import GROWTH, INSERTS, RACE, SLACK, Case
from measure import Times, Timings
from peers import APART
from races import Race
from scale import Scale

__all__ = ["backend_table", "hub_table", "page_table", "race_table", "scale_table"]

FLOORED = ("put", "get")
HUB = ("suspend", "claim", "resume", "list", "cleanup")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def _both(times: Times) -> str:
    return f"{_number(times.median)} / {_number(times.p99)}"


def _met(*, met: bool) -> str:
    return "met" if met else "**missed**"


def floor_ratio(case: Case, found: Timings, verb: str) -> tuple[float, bool]:
    """Our median as a multiple of the raw driver's, and whether that is within the goal."""
    ours, floor = found["ours"][verb].median, found["floor"][verb].median
    # As it is printed: a third digit would be chance.
    return ours / floor, round(ours / floor, 2) <= case.floor or ours - floor <= SLACK


def hub_ratio(case: Case, found: Timings) -> tuple[float, str, bool]:
    """Our suspend, claim and load as a multiple of the best peer's put and get, who that is, and whether it is met."""
    peers = {
        name: times["put"].median + times["get"].median for name, times in found.items() if name not in {"ours", *APART}
    }
    best = min(peers, key=lambda name: peers[name])
    ratio = cycle(found) / peers[best]
    return ratio, best, round(ratio, 2) <= case.peer


def cycle(found: Timings) -> float:
    """Suspend, and claim with the state loaded."""
    return found["ours"]["suspend"].median + found["ours"]["claim"].median


def backend_table(place: str, measured: Mapping[Case, Timings]) -> str:
    """Sealed bytes: our backend and its floor, median and p99, and the goals."""
    rows = []
    for case, found in measured.items():
        row = [f"{place}, {case.title}"]
        for verb in FLOORED:
            ratio, met = floor_ratio(case, found, verb)
            row += [_both(found["ours"][verb]), _both(found["floor"][verb]), f"{ratio:.2f}", _met(met=met)]
        rows.append([*row, f"{case.floor:g}", _both(found["ours"]["claim"]), _both(found["floor"]["claim"])])
    header = [place, *("put", "floor", "ratio", ""), *("get", "floor", "ratio", ""), "at most", "claim", "floor"]
    return _table(header, rows)


def hub_table(place: str, measured: Mapping[Case, Timings]) -> str:
    """States: the hub's verbs, its cycle, each peer's put and get, and the goals."""
    names = list(dict.fromkeys(name for found in measured.values() for name in found if name != "ours"))
    rows = []
    for case, found in measured.items():
        row = [f"{place}, {case.title}", *(_both(found["ours"][verb]) for verb in HUB), _number(cycle(found))]
        row += [f"{_number(found[name]['put'].median)} + {_number(found[name]['get'].median)}" for name in names]
        if set(names).difference(APART):
            ratio, best, met = hub_ratio(case, found)
            row += [f"{ratio:.2f} of {best}", f"{case.peer:g}", _met(met=met)]
        if case.limit is None:
            row.append("")
        else:
            within = found["ours"]["suspend"].p99 <= case.limit and cycle(found) <= 2 * case.limit
            row.append(_met(met=within))
        rows.append(row)
    goal = ["to the best", "at most", ""] if set(names).difference(APART) else []
    return _table([place, *HUB, "suspend + claim", *names, *goal, "under 500, 1,000"], rows)


def scale_table(place: str, scales: Sequence[Scale]) -> str:
    """How fast records come and go."""
    rows = []
    for one in scales:
        met = _met(met=one.inserts >= INSERTS) if place == "sqlite" else ""
        rows.append([place, f"{one.records:,}", f"{one.inserts:,.0f}", met, f"{one.removed:,}", f"{one.cleanup:.2f}"])
    return _table(["", "records", "inserts a second", f"{INSERTS:,}", "removed", "seconds"], rows)


def page_table(place: str, scales: Sequence[Scale]) -> str:
    """Pages of 50 at each number of records, and by how much they grow."""
    rows = []
    for by in scales[0].pages:
        times = [one.pages[by] for one in scales]
        growth = times[-1].median / times[0].median
        # Only what has indexes to use can be as quick; a tenth of a millisecond is chance.
        met = growth <= GROWTH or times[-1].median - times[0].median <= SLACK
        rows.append([f"{place}: {by}", *map(_both, times), f"{growth:.2f}", _met(met=met)])
    return _table(["page by", *(f"{one.records:,}" for one in scales), "growth", f"{GROWTH:g}"], rows)


def race_table(races: Mapping[str, Mapping[str, Race]]) -> str:
    """Resumes a second in all processes, with one winner each."""
    rows = []
    for place, by_name in races.items():
        ours, floor = by_name["ours"], by_name["floor"]
        ratio = ours.seconds / floor.seconds
        rates = [f"{one.attempts / one.seconds:,.0f}" for one in (ours, floor)]
        rows.append([place, f"{ours.won:,} of {ours.keys:,}", *rates, f"{ratio:.2f}", _met(met=ratio <= RACE)])
    return _table(["", "won once", "attempts a second", "floor", "time to the floor's", f"{RACE:g}"], rows)
