"""What the documents tell people to type is run, and works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.daemon_process import Daemon
from support.patience import PATIENCE_SECONDS
from support.tools import need

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def _blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _environ(daemon: Daemon) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GGEND_SOCKET": os.fspath(daemon.socket),
        "GGEND_DATABASE": os.fspath(daemon.database),
    }


def test_the_readme_python_example_stores_its_events(daemon: Daemon) -> None:
    (example,) = _blocks("README.md", "python")
    ran = subprocess.run(
        [sys.executable, "-c", example], env=_environ(daemon), capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert daemon.query("SELECT count(*) FROM pipeline_metrics") == [(1,)]
    assert daemon.query("SELECT count(*) FROM receipts") == [(1,)]


@pytest.mark.parametrize("number", range(len(_blocks("docs/CLIENT.md", "python"))))
def test_an_example_of_the_client_runs(daemon: Daemon, place: Path, number: int) -> None:
    example = _blocks("docs/CLIENT.md", "python")[number]
    program = place / "test_example.py"
    program.write_text(example, encoding="utf-8")
    # What is written as a test is run as one.
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*(run if "def test_" in example else [sys.executable]), program.name],
        cwd=place,
        env=_environ(daemon),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("document", "block"),
    [
        (document, block)
        for document in ("README.md", "docs/WIRE.md")
        for block in _blocks(document, "sh")
        if not re.search(r"^(\./dev|pip|ggend serve)", block, re.MULTILINE)
    ],
)
def test_a_shell_example_runs(daemon: Daemon, document: str, block: str) -> None:
    if "socat" in block:
        need("socat")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.replace("-t 5 ", f"-t {PATIENCE_SECONDS} ")],
        env=_environ(daemon),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    if "socat" in block or "ggend emit" in block:
        assert daemon.query("SELECT count(*) FROM audit_log") == [(1,)]


def test_every_file_that_a_document_links_to_exists() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)[)#]", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document}: {target}"


@pytest.mark.parametrize(
    "document",
    ["CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/GLOSSARY.md", "docs/RELIABILITY.md"],
)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    files = [f"/{path.relative_to(ROOT)}" for path in ROOT.glob("[!.]*/**/*.py")]
    named = set(re.findall(r"`([\w/]+\.py)`", (ROOT / document).read_text(encoding="utf-8")))
    made_up = {name for name in named if Path(name).stem == "NAME"}
    missing = {name for name in named if not any(file.endswith(f"/{name}") for file in files)}
    assert missing == made_up


def test_every_code_is_documented_in_the_wire_protocol() -> None:
    from ggend_schema.codes import EventCode, GoodbyeCode

    text = (ROOT / "docs" / "WIRE.md").read_text(encoding="utf-8")
    codes = text[text.index("## Codes") :]
    of_answers = {"unknown_request", "not_allowed", "no_room", "failed"}
    documented = set(re.findall(r"`([a-z_]+[0-9]?)`", codes)) - of_answers
    assert documented == {*EventCode, *GoodbyeCode}
