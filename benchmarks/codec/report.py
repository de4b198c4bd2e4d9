"""The tables, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from cases import BLOCK_GOAL, PEAK_GOAL, Case
from measure import Figures

__all__ = ["block_table", "goal_table", "peak_table", "probe_table", "ratios", "state_table", "table"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def _met(value: float, goal: float) -> str:
    # As it is printed: a third digit would be chance.
    return "met" if round(value, 2) <= goal else "**missed**"


def _size(size: int) -> str:
    return f"{size / 1_000_000:.2f} MB" if size >= 1_000_000 else f"{size / 1000:.1f} KB"


def ratios(figures: Mapping[str, Figures]) -> tuple[float, float]:
    """Our time as a multiple of pickle's, to encode and to decode."""
    ours, pickle = figures["ours"], figures["pickle"]
    return ours.encode / pickle.encode, ours.decode / pickle.decode


def state_table(figures: Mapping[str, Figures]) -> str:
    """One state: a row for each codec."""
    pickle = figures.get("pickle", Figures())
    rows = []
    for name, one in figures.items():
        if one.failed:
            rows.append([name, "cannot", "", "", "", "", f"`{one.failed}`"])
            continue
        times = [
            cell
            for mine, theirs in ((one.encode, pickle.encodes), (one.decode, pickle.decodes))
            for cell in (_number(mine), _ratio(mine, theirs))
        ]
        rows.append([name, *times, _size(one.size), "; ".join(one.lost) or "nothing"])
    return table(["codec", "encode", "to pickle", "decode", "to pickle", "size", "lost"], rows)


def _ratio(mine: float, theirs: Sequence[float]) -> str:
    return _number(mine / statistics.median(theirs)) if theirs else ""


def goal_table(measured: Mapping[Case, Mapping[str, Figures]]) -> str:
    """Ours to pickle on each state, what it may be at most, and whether it is."""
    rows = []
    for case, figures in measured.items():
        encode, decode = ratios(figures)
        rows.append(
            [
                case.title,
                *(f"{encode:.2f}", f"{case.encode_goal:g}", _met(encode, case.encode_goal)),
                *(f"{decode:.2f}", f"{case.decode_goal:g}", _met(decode, case.decode_goal)),
            ]
        )
    return table(["ours to pickle", "encode", "at most", "", "decode", "at most", ""], rows)


def block_table(measured: Mapping[Case, Mapping[str, tuple[float, float]]]) -> str:
    """The longest blocks of the event loop; the goal is ours to meet."""
    rows = [
        [case.title, name, *map(_number, longest), _goal(name, max(longest), BLOCK_GOAL)]
        for case, by_name in measured.items()
        for name, longest in by_name.items()
    ]
    return table(["state", "codec", "while encoding", "while decoding", f"under {BLOCK_GOAL:g}"], rows)


def peak_table(measured: Mapping[Case, Mapping[str, float]]) -> str:
    """The peaks of memory; the goal is ours to meet."""
    rows = [
        [case.title, name, f"{peak:.2f}", _goal(name, peak, PEAK_GOAL)]
        for case, by_name in measured.items()
        for name, peak in by_name.items()
    ]
    return table(["state", "codec", "peak to result", f"under {PEAK_GOAL:g}"], rows)


def _goal(name: str, value: float, goal: float) -> str:
    return _met(value, goal) if name == "ours" else ""


def probe_table(measured: Mapping[str, Mapping[str, str]]) -> str:
    """What becomes of small values: a row for each, a column for each codec."""
    names = list(next(iter(measured.values())))
    rows = [[probe, *(outcomes[name] for name in names)] for probe, outcomes in measured.items()]
    return table(["", *names], rows)
