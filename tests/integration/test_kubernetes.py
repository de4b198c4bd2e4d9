"""The manifests of deploy/kubernetes: each fits its schema, they fit together, and the scaler counts what is due."""

from __future__ import annotations

import json
import shlex
from datetime import timedelta
from pathlib import Path

import asyncpg
import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

from flowpersist import AwaitInput, ConfigurationError, Criteria, KeyRing, RaisingHub
from flowpersist.backends.registry import backend_from_url
from flowpersist.cli.commands import command
from flowpersist.settings import Settings

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "deploy" / "kubernetes"
KEDA = ROOT / "tests" / "fixtures" / "keda"
LISTED = yaml.safe_load((PLACE / "kustomization.yaml").read_text(encoding="utf-8"))
MANIFESTS = {
    f"{one['kind']}/{one['metadata']['name']}": one
    for name in LISTED["resources"]
    for one in yaml.safe_load_all((PLACE / name).read_text(encoding="utf-8"))
}
TASK = AwaitInput(id="code", prompt="Write it", schema=bool)


def problems(manifest):
    """What is wrong with a manifest, by its strict schema: an unknown field is wrong too."""
    if manifest["apiVersion"].startswith("keda.sh/"):
        schema = json.loads((KEDA / f"{manifest['kind'].lower()}.json").read_text(encoding="utf-8"))
        return [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(manifest)]
    try:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return [error.message]
    return []


def containers():
    for name, manifest in MANIFESTS.items():
        template = manifest.get("spec", {}).get("template")
        for container in template["spec"]["containers"] if template else ():
            yield name, container


def test_there_are_two_deployments_one_postgres_a_secret_and_a_scaler():
    assert sorted(MANIFESTS) == [
        "Deployment/agents",
        "Deployment/manager",
        "Namespace/flowpersist",
        "ScaledObject/agents",
        "Secret/flowpersist",
        "Service/postgres",
        "StatefulSet/postgres",
        "TriggerAuthentication/postgres",
    ]
    assert sorted(LISTED["resources"]) == sorted({one.name for one in PLACE.glob("*.yaml")} - {"kustomization.yaml"})


@pytest.mark.parametrize("name", sorted(MANIFESTS))
def test_a_manifest_fits_its_schema(name):
    assert problems(MANIFESTS[name]) == []


@pytest.mark.parametrize("name", sorted(name for name in MANIFESTS if "spec" in MANIFESTS[name]))
def test_the_schemas_refuse_an_unknown_field_and_a_wrong_type(name):
    manifest = MANIFESTS[name]
    assert problems({**manifest, "spec": {**manifest["spec"], "replicaz": 1}})
    assert problems({**manifest, "metadata": {**manifest["metadata"], "name": ["a"]}})


def test_what_is_referred_to_is_there():
    secret = MANIFESTS["Secret/flowpersist"]
    for _, container in containers():
        for variable in container["env"]:
            if wanted := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert wanted["name"] == secret["metadata"]["name"]
                assert wanted["key"] in secret["stringData"]
    for wanted in MANIFESTS["TriggerAuthentication/postgres"]["spec"]["secretTargetRef"]:
        assert (wanted["name"], wanted["key"]) == (secret["metadata"]["name"], "POSTGRES_PASSWORD")
    scaled = MANIFESTS["ScaledObject/agents"]["spec"]
    assert f"Deployment/{scaled['scaleTargetRef']['name']}" in MANIFESTS
    (trigger,) = scaled["triggers"]
    assert f"TriggerAuthentication/{trigger['authenticationRef']['name']}" in MANIFESTS
    service, namespace, _ = trigger["metadata"]["host"].split(".", 2)
    assert {one["metadata"].get("namespace", namespace) for one in MANIFESTS.values()} == {namespace}
    assert f"Service/{service}" in MANIFESTS
    assert MANIFESTS["Service/postgres"]["spec"]["ports"][0]["port"] == int(trigger["metadata"]["port"])
    for name in ("Deployment/agents", "Deployment/manager", "StatefulSet/postgres"):
        labels = MANIFESTS[name]["spec"]["template"]["metadata"]["labels"]
        assert labels == MANIFESTS[name]["spec"]["selector"]["matchLabels"]
    assert MANIFESTS["Service/postgres"]["spec"]["selector"] == labels


def test_the_settings_are_ones_that_are_read():
    known = {f"FLOWPERSIST_{name.upper()}" for name in (*Settings.__annotations__, "agent", "project")}
    for name, container in containers():
        variables = {one["name"]: one.get("value") for one in container["env"]}
        if name.startswith("Deployment/"):
            assert {one for one in variables if one.startswith("FLOWPERSIST_")} <= known
            assert backend_from_url(variables["FLOWPERSIST_URL"]).name == "postgres"
            service = variables["FLOWPERSIST_URL"].partition("@")[2].partition("/")[0]
            assert f"Service/{service}" in MANIFESTS


def test_the_probes_of_our_processes_are_command_lines_that_exist():
    for name, container in containers():
        if not name.startswith("Deployment/"):
            continue
        for probe in ("startupProbe", "readinessProbe"):
            program, verb, *arguments = container[probe]["exec"]["command"]
            assert program == "flowpersist"
            assert command.commands[verb].make_context(verb, arguments).info_name == "health"


def test_the_programs_of_our_containers_are_in_the_repository():
    commands = [container["command"] for name, container in containers() if name.startswith("Deployment/")]
    assert {shlex.join(one) for one in commands} == {
        "python -m examples.orchestrator manager",
        "python -m examples.orchestrator coder",
        "bash examples/orchestrator/qa.sh",
    }
    assert (ROOT / "examples" / "orchestrator" / "__main__.py").is_file()
    assert (ROOT / "examples" / "orchestrator" / "qa.sh").is_file()


def test_the_secrets_must_be_replaced():
    with pytest.raises(ConfigurationError):
        KeyRing.parse(MANIFESTS["Secret/flowpersist"]["stringData"]["FLOWPERSIST_KEYS"])


async def test_the_password_of_the_environment_opens_the_store(server, prefix, monkeypatch):
    user, _, place = server("postgres").removeprefix("postgresql://").partition("@")
    name, _, password = user.partition(":")
    monkeypatch.setenv("PGPASSWORD", password)
    async with RaisingHub.open(f"postgresql://{name}@{place}?notify=on&prefix={prefix}", keyring=None) as hub:
        assert (await hub.query()).items == ()


async def test_the_scaler_counts_what_is_due_or_at_work(server, prefix):
    (trigger,) = MANIFESTS["ScaledObject/agents"]["spec"]["triggers"]
    query = trigger["metadata"]["query"].replace("flowpersist_", f"{prefix}_")
    url, criteria, lease = f"{server('postgres')}?prefix={prefix}", Criteria(tool="code"), timedelta(minutes=5)
    connection = await asyncpg.connect(server("postgres"))

    async def counts(expected):
        assert await connection.fetchval(query) == expected

    try:
        async with RaisingHub.open(url, keyring=None) as hub:
            await counts(0)
            tasks = [await hub.suspend({"module": number}, awaiting=TASK) for number in range(3)]
            other = await hub.suspend({}, awaiting=AwaitInput(id="project", prompt="", schema=bool))
            await hub.answer(other.key, True)
            await counts(0)  # tasks that wait, and a run that the manager takes
            for number, task in enumerate(tasks, 1):
                await hub.answer(task.key, True)
                await counts(number)
            (run,) = await hub.claim_due(criteria, lease=lease)
            await counts(3)  # at work
            await hub.complete(run)
            await counts(2)
            (run,) = await hub.claim_due(criteria, lease=lease)
            await hub.release(run, delay=timedelta(hours=1))
            await counts(1)  # due in an hour
            (run,) = await hub.claim_due(criteria, lease=lease)
            await hub.fail(run, "no")
            await counts(0)
        earlier = backend_from_url(url, clock_offset=-timedelta(hours=1))
        async with RaisingHub.open(earlier, keyring=None) as hub:
            late = AwaitInput(id="code", prompt="", schema=bool, default=True)
            await hub.suspend({}, awaiting=late, timeout=timedelta(minutes=1))
            await counts(1)  # nobody answered in time: the default is due
    finally:
        await connection.close()
