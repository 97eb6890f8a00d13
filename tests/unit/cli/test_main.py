"""The command as a process: exit statuses, and messages instead of tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.patience import PATIENCE_SECONDS
from support.processes import start_ggend

pytestmark = pytest.mark.slow

RUN = "from ggend.__main__ import main; main()"


def ggend(*arguments: str, home: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command as a new interpreter, which does something else first."""
    environ = {"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb"}
    return subprocess.run(
        [sys.executable, "-c", before + RUN, *arguments],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def forked(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command at home, with nothing of ggend's in its environment."""
    environ = {key: value for key, value in os.environ.items() if key[:6] != "GGEND_"}
    with (home / "out").open("wb") as out, (home / "err").open("wb") as err:
        process = start_ggend(
            *arguments,
            environ={**environ, "HOME": str(home), "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        try:
            status = process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
    said, complained = (home / "out").read_text(), (home / "err").read_text()
    return subprocess.CompletedProcess(["ggend", *arguments], status, said, complained)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["serve"],
        ["status"],
        ["emit"],
        ["init"],
        ["import", "ggen-log"],
        ["import", "receipts"],
        ["query", "recent"],
        ["query", "sql"],
        ["config", "show"],
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(command: list[str], tmp_path: Path) -> None:
    done = forked(*command, "--help", home=tmp_path)
    assert done.returncode == 0
    assert not command or "Example" in done.stdout


def test_a_new_interpreter_explains_itself_and_says_what_went_wrong(tmp_path: Path) -> None:
    """It imports what no command before it has imported."""
    helped = ggend("serve", "--help", home=tmp_path)
    assert helped.returncode == 0
    assert "Example" in helped.stdout
    asked = ggend("status", home=tmp_path)
    assert asked.returncode == os.EX_UNAVAILABLE
    assert "no daemon accepts" in asked.stderr


def test_a_database_is_made_once_and_can_be_read(tmp_path: Path) -> None:
    made = ggend("init", home=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    again = forked("init", home=tmp_path)
    assert "exists already" in again.stdout
    rows = ggend("query", "recent", "--format", "json", home=tmp_path)
    assert (rows.returncode, rows.stdout) == (0, "[]\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["query", "recent"], os.EX_DATAERR, "there is no database at"),
        (["query", "recent", "--config"], 2, "has no option --config"),
        (["emit"], os.EX_USAGE, "either a TYPE with its fields, or --stdin"),
        (["emit", "--strict", "audit", "agent_id=a"], os.EX_DATAERR, "`operation`"),
        (
            ["emit", "--strict", "audit", "agent_id=a", "operation=o", "status=failed"],
            os.EX_UNAVAILABLE,
            "no daemon answers",
        ),
        (["emit", "--strict", "--stdin"], os.EX_UNAVAILABLE, "no daemon answers"),
        (["status"], os.EX_UNAVAILABLE, "no daemon accepts"),
        (["import", "ggen-log", "/dev/null"], os.EX_UNAVAILABLE, "no daemon answers"),
        (["config", "show", "--config", "absent.toml"], os.EX_CONFIG, "does not exist"),
    ],
    ids=range(9),
)
def test_what_went_wrong_is_one_line_and_a_status(
    arguments: list[str], status: int, message: str, tmp_path: Path
) -> None:
    done = forked(*arguments, home=tmp_path)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_light_install_names_the_extra(tmp_path: Path) -> None:
    before = "import sys; sys.modules['click'] = None\n"
    done = ggend("query", "--help", home=tmp_path, before=before)
    assert done.returncode == os.EX_UNAVAILABLE
    assert done.stderr == (
        "ggend: this command needs click, which is not installed\n"
        "  hint: run: pip install 'ggend[daemon]'\n"
    )


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    before = "import os, sys; r, w = os.pipe(); os.dup2(w, 1); os.close(r)\n"
    done = ggend("config", "show", home=tmp_path, before=before)
    assert done.stderr == ""


def test_ctrl_c_is_130(tmp_path: Path) -> None:
    before = (
        "import signal, threading, os\n"
        "threading.Timer(0.8, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
    )
    forked("init", home=tmp_path)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT SUM(i) FROM n"
    done = ggend("query", "sql", endless, home=tmp_path, before=before)
    assert (done.returncode, done.stderr) == (130, "\n")  # ends the line of the terminal's ^C
