"""The tools of ``licence_review.json``: what is installed, under which licences, and what a policy says about them.

::

    flowpersist run examples/licence_review.json --tools examples/licence_review.py \
        --input policy=examples/licence_policy.json
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from flowpersist.dynamicflow import tool

__all__ = ["tools"]

# Packages, policies and decisions are JSON objects, as they stand in the flow's document.
Json = dict[str, Any]
#: A licence's own text in the field that should name it is no name.
LONGEST_NAME = 80


@tool(id="list_distributions")
async def list_distributions() -> list[Json]:
    """Every distribution that is installed here: name, version, and the licence that it declares."""
    found = {distribution.name.lower(): distribution for distribution in distributions()}
    return [
        {"name": one.name, "version": one.version, "declared": declared_licence(one)}
        for _, one in sorted(found.items())
    ]


@tool(id="read_policy")
async def read_policy(path: str) -> Json:
    """The policy file: which licences are allowed and refused, and other names of theirs."""
    text = await asyncio.to_thread(Path(path).read_text, encoding="utf-8")
    policy: Json = json.loads(text)
    return policy


@tool(id="classify_licence")
async def classify_licence(package: Json, policy: Json) -> Json:
    """The package with its normalised licence and the policy's verdict: allowed, refused or in doubt."""
    aliases: dict[str, str] = {name.lower(): spdx for name, spdx in policy["aliases"].items()}
    declared: str = package["declared"]
    licence: str = aliases.get(declared.lower(), declared)
    return {**package, "licence": licence or "not declared", "verdict": verdict(licence, policy)}


@tool(id="write_report")
async def write_report(classified: list[Json], doubtful: list[Json], decisions: list[Json]) -> str:
    """A Markdown report: every package, its licence, and who decided what."""
    decided = {package["name"]: decision for package, decision in zip(doubtful, decisions, strict=True)}
    rows = [row(package, decided.get(package["name"])) for package in classified]
    rejected = [name for name, decision in decided.items() if decision["decision"] == "reject"]
    lines = [
        "# Licence review",
        "",
        f"{len(classified)} packages, {len(decided)} of them reviewed by a person, {len(rejected)} rejected.",
        "",
        "| package | version | licence | decision | reviewer | until | reason |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines)


def declared_licence(distribution: Distribution) -> str:
    """What the metadata says, the most precise field first: SPDX expression, short name, classifiers; else nothing."""
    metadata = distribution.metadata.json
    expression = str(metadata.get("license_expression") or "")
    name = str(metadata.get("license") or "")
    classifiers = [c for c in metadata.get("classifier", []) if c.startswith("License :: ")]
    if expression:
        return expression
    if name and len(name) <= LONGEST_NAME and "\n" not in name:
        return name
    return " AND ".join(classifier.rsplit(" :: ", 1)[-1] for classifier in classifiers)


def verdict(licence: str, policy: Mapping[str, Any]) -> str:
    """What the policy says about an SPDX expression."""
    if allows(licence, frozenset(policy["allowed"])):
        return "allowed"
    return "refused" if any(name in policy["refused"] for name in re.split(r"[\s()]+", licence)) else "in doubt"


def allows(expression: str, allowed: frozenset[str]) -> bool:
    """Whether an SPDX expression can be met with allowed licences alone; what is no expression can't.

    AND binds closer than OR. ``X WITH exception`` is a licence of its own, which the policy has to name.
    """
    tokens = re.findall(r"[()]|[^\s()]+(?:\s+WITH\s+[^\s()]+)?", expression)
    rest = iter([*tokens, ""])
    try:
        result, following = either(rest, allowed)
    except StopIteration:
        return False
    return result and not following


def either(tokens: Iterator[str], allowed: frozenset[str]) -> tuple[bool, str]:
    """``a OR b``: whether it is allowed, and the token after it."""
    result, following = both(tokens, allowed)
    while following == "OR":
        other, following = both(tokens, allowed)
        result = result or other
    return result, following


def both(tokens: Iterator[str], allowed: frozenset[str]) -> tuple[bool, str]:
    """``a AND b``: as ``either``."""
    result = one(tokens, allowed)
    following = next(tokens)
    while following == "AND":
        result = one(tokens, allowed) and result
        following = next(tokens)
    return result, following


def one(tokens: Iterator[str], allowed: frozenset[str]) -> bool:
    """A licence's id, or an expression in parentheses."""
    name = next(tokens)
    if name != "(":
        return name in allowed
    result, closing = either(tokens, allowed)
    return result and closing == ")"


def row(package: Mapping[str, Any], decision: Mapping[str, str] | None) -> str:
    """One line of the report's table."""
    if decision is None:
        cells: Sequence[str] = (package["verdict"], "policy", "", "")
    else:
        cells = tuple(decision[name] for name in ("decision", "reviewer", "until", "reason"))
    return "| " + " | ".join((package["name"], package["version"], package["licence"], *map(cell, cells))) + " |"


def cell(text: str) -> str:
    """Text as it may stand in a table: what a person wrote must not break out of its cell."""
    return " ".join(text.split()).replace("|", "\\|")


tools = (list_distributions, read_policy, classify_licence, write_report)
