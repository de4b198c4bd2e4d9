"""What Prometheus scrapes of a worker, and that the dashboard asks for nothing else."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from canaries import WORD
from exported import exporting
from flowpersist import Maintenance, or_raise
from flowpersist.cli.commands import command
from flowpersist.errors import LeaseLost
from flowpersist.testing.hubs import open_test_hub, travel

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "flowpersist.json").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
VARIABLES = [one["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
METRIC = re.compile(r"[a-z_]+(?=\{)|(?<=label_values\()[a-z_]+")
LABELS = re.compile(r"by \(([a-z_, ]+)\)")
#: Set by Prometheus itself.
OF_THE_SCRAPE = {"job"}


def families(text):
    """The labels of each name of samples in a scrape."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def everything_happens():
    """A verb that fails, a write that loses, a lease that is lost, and a run that ends."""
    async with open_test_hub() as hub:
        new = or_raise(await hub.suspend("s", awaiting=WORD))
        await hub.claim(new.key)
        run = or_raise(await hub.claim(new.key, "yes", lease=timedelta(seconds=30)))
        travel(hub, timedelta(hours=1))
        assert isinstance((await hub.complete(run)).failure(), LeaseLost)
        or_raise(await Maintenance(hub).tick())
        or_raise(await hub.complete(or_raise(await hub.claim(new.key))))
        records = hub.suspensions.records
        record = or_raise(await records.read(str(new.id))).record
        draft = hub.suspensions.draft(record.head, None, before=record.head)
        assert (await records.put(str(new.id), draft, revision=1, mark=record.mark)).failure().code == (
            "revision-conflict"
        )


async def test_every_metric_and_label_of_the_dashboard_is_exported(monkeypatch):
    registry = CollectorRegistry()
    with exporting(monkeypatch, PrometheusMetricReader(registry=registry)):
        await everything_happens()
        exported = families(generate_latest(registry).decode())
    asked = {name for text in [*EXPRESSIONS, *VARIABLES] for name in METRIC.findall(text)}
    assert len(asked) == 13
    assert asked <= exported.keys()
    for expression in EXPRESSIONS:
        (name,) = set(METRIC.findall(expression))
        named = {label for labels in LABELS.findall(expression) for label in labels.split(", ")}
        named |= set(re.findall(r"([a-z_]+)(?:=~|!=)", expression))
        assert named <= exported[name] | OF_THE_SCRAPE


def test_the_dashboard_is_one_that_grafana_can_import():
    assert DASHBOARD["schemaVersion"] == 39
    places = []
    for number, panel in enumerate(DASHBOARD["panels"], start=1):
        assert panel["id"] == number
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        places += [
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
    assert len(places) == len(set(places))
    for expression in EXPRESSIONS:
        assert expression.count("(") == expression.count(")")
        assert 'job=~"$job"' in expression


def test_a_worker_serves_its_metrics(tmp_path):
    (tmp_path / "tools.py").write_text(
        "from flowpersist.dynamicflow import tool\n\n"
        "@tool(id='note')\nasync def note(value: str) -> str:\n    return value\n\ntools = [note]\n"
    )
    document = {
        "metadata": {"name": "doc"},
        "flow": [
            {"id": "ask", "tool": "await_input", "args": {"prompt": "q?"}},
            {"tool": "note", "args": {"value": "$ask"}},
        ],
    }
    (tmp_path / "doc.json").write_text(json.dumps(document))
    settings = {"FLOWPERSIST_URL": f"sqlite:///{tmp_path}/flows.db"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPERSIST_")}
    where = {"cwd": tmp_path, "env": {**kept, **settings}, "text": True}
    program = [sys.executable, "-m", "flowpersist"]
    started = subprocess.run(
        [*program, "run", "doc.json", "--tools", "tools.py", "--json"], check=False, capture_output=True, **where
    )
    key = json.loads(started.stdout)["waits"][0]["key"]
    worker = subprocess.Popen(
        [*program, "worker", "--tools", "tools.py", "--metrics", "0"], stderr=subprocess.PIPE, **where
    )
    try:
        url = next(found[0] for line in worker.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+/metrics", line)))
        assert (
            subprocess.run(
                [*program, "answer", key, "--value", '"yes"'], check=False, capture_output=True, **where
            ).returncode
            == 0
        )
        scraped = until(url, "flowpersist_closed_total")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)
    exported = families(scraped)
    assert "flowpersist_resumed_total" in exported
    assert "flowpersist_queue_oldest_seconds" in exported
    assert "db_client_operation_duration_seconds_bucket" in exported
    assert 'flowpersist_status="completed"' in scraped
    assert key not in scraped
    assert "df_susp_" not in scraped


def until(url, name):
    """A scrape that has this metric."""
    ends = time.monotonic() + 30
    while True:
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - of the worker that the test started
            text = answer.read().decode()
        if name in text:
            return text
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.mark.parametrize("address", ["", "x", "70000", "host:", ":-1", "1.5", "host:٣"])
def test_what_is_no_address_is_refused_before_the_store_is_opened(address):
    done = CliRunner().invoke(command, ["worker", "--metrics", address], env={"FLOWPERSIST_URL": "memory://"})
    assert done.exit_code == 2
    assert "port" in done.output


def test_without_the_extra_the_command_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.prometheus", None)
    done = CliRunner().invoke(command, ["worker", "--metrics", "0"], env={"FLOWPERSIST_URL": "memory://"})
    assert done.exit_code not in {0, 2}
    assert "pip install 'flowpersist[prometheus]'" in done.output


def test_a_port_that_is_taken_is_told(monkeypatch):

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(command, ["worker", "--metrics", port], env={"FLOWPERSIST_URL": "memory://"})
    assert done.exit_code not in {0, 2}
    assert f"127.0.0.1:{port}" in done.output


def test_a_process_that_exports_metrics_already_keeps_its_provider(monkeypatch):
    with exporting(monkeypatch):
        done = CliRunner().invoke(command, ["worker", "--metrics", "0"], env={"FLOWPERSIST_URL": "memory://"})
    assert done.exit_code not in {0, 2}
    assert "leave out --metrics" in done.output
