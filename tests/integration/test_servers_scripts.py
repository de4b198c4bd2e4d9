"""scripts/test-setup.sh starts, finds, names and ends servers, and says so loudly where one can't be had."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from machine import missing

ROOT = Path(__file__).parents[2]
SETUP = ROOT / "scripts" / "test-setup.sh"
STATE = ROOT / "scripts" / "servers" / "state.sh"
#: What the scripts call that every system has.
TOOLS = ("bash", "cat", "cksum", "dirname", "env", "id", "mkdir", "mktemp", "ps", "rm", "seq", "sleep", "tail", "tr")


@pytest.fixture
def setup(tmp_path):
    """Runs the script for servers of this test's own."""

    def run(*arguments, **variables):
        environment = {
            **os.environ,
            "FLOWPERSIST_TEST_SERVERS": str(tmp_path / "servers"),
            "FLOWPERSIST_TEST_NATIVE": "1",
        }
        environment.pop("CI", None)
        environment.update(variables)
        return subprocess.run(
            [SETUP, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    yield run
    run("stop")


@pytest.fixture
def without_servers(tmp_path):
    """A PATH on which no server is, and nothing that could install one."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for tool in TOOLS:
        (directory / tool).symlink_to(shutil.which(tool))
    (directory / "python3").symlink_to(sys.executable)
    return str(directory)


def sourced(command):
    """What a function of the scripts prints."""
    script = f'source "{ROOT}/scripts/common.sh"; source "{STATE}"; {command}'
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()


def port_of(env):
    return int(re.search(r":(\d+)/", env)[1])


def test_containers_and_native_servers_have_the_same_names_and_ports():
    composed = yaml.safe_load((ROOT / "docker-compose.test.yml").read_text())["services"]
    names = sourced('echo "${all_servers[@]}" "${further_servers[@]}"')
    assert set(composed) == {*names, "network", "tests"}
    ports = {name: sourced(f"default_port {name}")[0] for name in names}
    assert len(set(ports.values())) == len(names)
    # Bound to loopback alone, and the same number within as without.
    assert set(composed["network"]["ports"]) == {f"127.0.0.1:{port}:{port}" for port in ports.values()}
    for name in names:
        assert composed[name]["network_mode"] == "service:network"
        assert ports[name] in str(composed[name]) or name == "ferretdb"
        assert "test" in composed[name]["healthcheck"]
    dockerfile = (ROOT / "tests" / "fixtures" / "ferretdb" / "Dockerfile").read_text()
    assert f":{ports['ferretdb']}" in dockerfile


def test_the_tests_in_a_container_are_told_what_env_tells():
    composed = yaml.safe_load((ROOT / "docker-compose.test.yml").read_text())["services"]
    told = {name: value for name, value in composed["tests"]["environment"].items() if name != "CI"}
    # Of nothing that was started elsewhere: the default ports.
    lines = sourced(
        'servers=/none; for name in "${all_servers[@]}"; do echo "$(variable_of "$name")=$(url_of "$name")"; done'
    )
    assert dict(line.split("=", 1) for line in lines) == told


def test_a_server_is_started_once_and_ended_without_a_trace(setup, tmp_path):
    started = setup("start", "redis_durable")
    if "MISSING" in started.stderr:
        missing(started.stderr)
    assert (started.returncode, started.stderr) == (0, "")
    assert "redis_durable  answers on port" in started.stdout
    pid = (tmp_path / "servers" / "redis_durable" / "pid").read_text()
    env = setup("env", "redis_durable").stdout
    assert env.startswith("export FLOWPERSIST_TEST_REDIS_DURABLE_URL='redis://127.0.0.1:")
    assert "runs already" in setup("start", "redis_durable").stdout
    assert (tmp_path / "servers" / "redis_durable" / "pid").read_text() == pid
    assert f"process {pid.strip()}" in setup("status").stdout
    assert "Ready to accept connections" in setup("logs", "redis_durable").stdout
    with socket.create_connection(("127.0.0.1", port_of(env)), timeout=5) as connection:
        connection.sendall(b"SET a b\r\n")
        assert connection.recv(100) == b"+OK\r\n"
    assert setup("stop").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(env)), timeout=5)
    assert setup("env", "redis_durable").stdout == ""
    assert not (tmp_path / "servers" / "redis_durable" / "data").exists()


def test_a_port_that_another_has_is_left_to_it(setup):
    wanted = int(sourced("default_port redis_durable")[0])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", wanted))
        except OSError:
            # Then a real one has it.
            pass
        else:
            other.listen()
        started = setup("start", "redis_durable")
        if "MISSING" in started.stderr:
            missing(started.stderr)
        assert port_of(setup("env", "redis_durable").stdout) > wanted


def test_a_server_that_can_not_be_had_is_told_of_and_fails_in_ci_alone(setup, without_servers):
    at_home = setup("start", "redis_durable", PATH=without_servers)
    assert at_home.returncode == 0
    assert "MISSING: redis_durable: there is no apt-get here: install redis-server by hand" in at_home.stderr
    assert "MISSING" in setup("status", PATH=without_servers).stdout
    assert setup("env", "redis_durable", PATH=without_servers).stdout == ""
    assert setup("start", "redis_durable", PATH=without_servers, CI="true").returncode == 1


@pytest.mark.parametrize("arguments", [(), ("begin",), ("start", "oracle"), ("logs",)])
def test_what_makes_no_sense_is_refused(setup, arguments):
    refused = setup(*arguments)
    assert refused.returncode != 0
    assert refused.stderr
    assert refused.stdout == ""
