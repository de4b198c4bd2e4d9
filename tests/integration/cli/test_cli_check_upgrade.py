"""``check-upgrade``: what of a store the code that is about to be deployed could not read or continue."""

from __future__ import annotations

import json

from flowpersist.cli.exits import Exit


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_code_that_wrote_the_store_passes(cli, started):
    started()
    result = cli("check-upgrade", "--tools", "tools.py", "--document", "flow.json")
    assert result.exit_code == 0
    assert result.stdout.endswith("records read, nothing would break\n")
    assert lines(cli("check-upgrade", "--json"))[-1]["passes"] is True


def test_a_tool_that_is_gone_stops_the_pipeline(cli, started, place):
    started()
    (place / "fewer.py").write_text("tools = []\nmigrations = []\n")
    result = cli("check-upgrade", "--tools", "fewer.py", "--migrations", "fewer.py", "--json")
    assert result.exit_code == Exit.UNREADABLE
    broken, summary = lines(result)
    assert (broken["code"], broken["subject"], broken["flow"], broken["count"]) == ("flow", "ship", "shipping", 1)
    assert (summary["type"], summary["passes"], summary["breaks"]) == ("summary", False, 1)
    assert "1 suspension: flow of ship in flow shipping: " in cli("check-upgrade", "--tools", "fewer.py").stdout


def test_types_are_classes_or_a_registry(cli, started, place):
    started()
    (place / "states.py").write_text(
        "import attrs\nfrom flowpersist import TypeRegistry\n"
        "@attrs.define\nclass Order:\n    number: int\n"
        "@attrs.define\nclass Parcel:\n    weight: int\n"
        "types = [Order, Parcel]\nregistry = TypeRegistry(Order)\n"
    )
    for given in ("states.py", "states.py:Order", "states.py:registry"):
        assert cli("check-upgrade", "--types", given).exit_code == 0, given
    both = cli("check-upgrade", "--types", "states.py:Order", "--types", "states.py:registry")
    missing = cli("check-upgrade", "--types", "states.py:nothing")
    assert both.exit_code == missing.exit_code == Exit.CONFIGURATION
    assert "--types" in missing.stderr
