"""The policy of the demo: what is allowed, refused and in doubt."""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import distribution
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def review():
    spec = importlib.util.spec_from_file_location("licence_review", EXAMPLES / "licence_review.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("licence", "verdict"),
    [
        ("MIT", "allowed"),
        ("Apache-2.0 OR GPL-3.0-only", "allowed"),
        ("GPL-3.0-only OR Apache-2.0 AND MIT", "allowed"),
        ("(GPL-3.0-only OR MIT) AND BSD-3-Clause", "allowed"),
        ("MIT AND PSF-2.0", "in doubt"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "in doubt"),
        ("MIT AND (AGPL-3.0-only)", "refused"),
        ("", "in doubt"),
        ("MIT MIT", "in doubt"),
        ("(MIT", "in doubt"),
        ("MIT OR", "in doubt"),
        ("AND", "in doubt"),
    ],
)
def test_verdict_follows_the_policy(review, licence, verdict):
    policy = json.loads((EXAMPLES / "licence_policy.json").read_text())
    assert review.verdict(licence, policy) == verdict


async def test_licence_is_normalised_by_its_other_names(review):
    policy = json.loads((EXAMPLES / "licence_policy.json").read_text())
    package = {"name": "a", "version": "1", "declared": "bsd license"}
    found = await review.classify_licence.function(package=package, policy=policy)
    assert (found["licence"], found["verdict"]) == ("BSD-3-Clause", "allowed")


def test_licence_is_read_from_the_metadata(review):
    assert "MIT" in review.declared_licence(distribution("attrs"))


async def test_report_names_what_was_decided_and_by_whom(review):
    packages = [{"name": n, "version": "1", "licence": "X", "verdict": "in doubt"} for n in ("a", "b")]
    decision = {"decision": "reject", "reason": "no | good\n", "until": "2027-01-01", "reviewer": "ana"}
    report = await review.write_report.function(classified=packages, doubtful=packages[1:], decisions=[decision])
    assert "| a | 1 | X | in doubt | policy |  |  |" in report
    assert "| b | 1 | X | reject | ana | 2027-01-01 | no \\| good |" in report
