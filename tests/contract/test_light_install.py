"""The light install: msgspec and ggend, quick to import, with a command that says what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

#: What a wheel is built from.
SOURCES = ("pyproject.toml", "README.md", "schema", "clients", "daemon", "docs/man")

#: Modules of the standard library that take longer to import than all of the client, or that
#: change how the program behaves.
HEAVY = ("asyncio", "dataclasses", "inspect", "json", "logging", "multiprocessing", "uuid")


class Light:
    """A virtual environment that holds the light install."""

    def __init__(self, place: Path) -> None:
        self.place = place / "venv"
        self.python = self.place / "bin" / "python"
        venv.create(self.place, symlinks=True)
        if self.pip("install", "msgspec>=0.20").returncode != 0:
            pytest.skip("no package index can be reached")
        source = place / "ggend"
        source.mkdir()
        for name in SOURCES:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, source / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, source)
        installed = self.pip("install", str(source))
        assert installed.returncode == 0, installed.stderr

    def pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the pip that is here, for the environment there."""
        quiet = ("--disable-pip-version-check", "--python", str(self.python))
        return self.run(sys.executable, "-m", "pip", *quiet, *arguments)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command with nothing of this project in its environment."""
        unwanted = ("GGEND_", "PYTHON", "VIRTUAL_ENV")
        environ = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
        return subprocess.run(
            command,
            env=environ,
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Light]:
    place = tmp_path_factory.mktemp("light")
    yield Light(place)
    shutil.rmtree(place)


def test_it_brings_msgspec_and_nothing_else(light: Light) -> None:
    listed = light.pip("list", "--format=freeze").stdout.split()
    assert sorted(line.partition("==")[0] for line in listed) == ["ggend", "msgspec"]


def test_it_brings_the_manual_pages(light: Light) -> None:
    installed = {page.name for page in (light.place / "share" / "man" / "man1").iterdir()}
    assert installed == {page.name for page in (ROOT / "docs" / "man").iterdir()}


def test_its_client_works(light: Light) -> None:
    program = """
from ggend_client import Audit, Client
from ggend_client.testing import FakeDaemon
with FakeDaemon() as daemon, Client(daemon.socket, spool_dir="") as client:
    client.emit(Audit(agent_id="a", operation="plan", status="completed"))
    print(daemon.of_type(Audit)[0].operation)
"""
    ran = light.run(str(light.python), "-c", program)
    assert (ran.stdout, ran.stderr) == ("plan\n", "")


@pytest.mark.parametrize("command", ["serve", "status", "emit", "--help"])
def test_its_command_names_the_extra_that_is_missing(command: str, light: Light) -> None:
    ran = light.run(str(light.place / "bin" / "ggend"), command)
    assert ran.returncode == os.EX_UNAVAILABLE
    assert "is not installed" in ran.stderr
    assert "pip install 'ggend[daemon]'" in ran.stderr


def test_importing_it_imports_nothing_heavy() -> None:
    program = f"""
import sys, msgspec
before = set(sys.modules)
import ggend_client
print(*sorted(set({HEAVY}) & (set(sys.modules) - before)))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []
