"""Standard streams of a command: closed, full, or left by their reader."""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from support.patience import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

#: More than a pipe and all buffers hold.
ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 40000) SELECT * FROM n"
)

CANNOT = "ggend: cannot write to standard output: "


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a database. No test changes what is in it."""
    home = tmp_path_factory.mktemp("home")
    assert ggend("init", home=home).returncode == 0
    return home


def ggend(
    *arguments: str, home: Path, streams: str = "", text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command from a shell that redirects its streams."""
    environ = {"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb"}
    return subprocess.run(
        ["bash", "-c", f'"$@" {streams}', "bash", sys.executable, "-m", "ggend", *arguments],
        env=environ,
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["query", "--help"],
        ["query", "executions"],
        ["query", "recent", "--format", "json"],
        ["query", "sql", ENDLESS, "--limit", "40000"],
        ["stats", "--format", "json"],
        ["export", "all", "--own"],
        ["config", "show"],
    ],
    ids=range(9),
)
def test_output_that_cannot_be_written_is_one_line_and_a_status(
    command: list[str], home: Path
) -> None:
    """However much it is: some fails when it is printed, some when it is flushed at the end."""
    full = ggend(*command, home=home, streams=">/dev/full")
    assert (full.returncode, full.stderr) == (os.EX_IOERR, f"{CANNOT}No space left on device\n")
    closed = ggend(*command, home=home, streams=">&-")
    assert (closed.returncode, closed.stderr) == (os.EX_IOERR, f"{CANNOT}Bad file descriptor\n")


def test_a_command_that_prints_nothing_needs_no_output(home: Path) -> None:
    done = ggend("emit", "audit", "agent_id=a", home=home, streams=">&-")
    assert done.returncode == 0
    assert "`operation`" in done.stderr
    assert "standard output" not in done.stderr


@pytest.mark.parametrize(
    "closed",
    [
        " ".join(some)
        for count in range(1, 4)
        for some in itertools.combinations(("<&-", ">&-", "2>&-"), count)
    ],
)
def test_closed_streams_change_no_status_but_that_of_output(closed: str, home: Path) -> None:
    done = ggend("query", "recent", home=home, streams=closed)
    assert done.returncode == (os.EX_IOERR if ">&-" in closed.split() else 0)
    assert "Traceback" not in done.stderr
    wrong = ggend("status", home=home, streams=closed)
    assert wrong.returncode == os.EX_UNAVAILABLE
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full"])
def test_a_complaint_that_cannot_be_written_keeps_its_status(streams: str, home: Path) -> None:
    assert ggend("status", home=home, streams=streams).returncode == os.EX_UNAVAILABLE
    assert ggend("query", "nonsense", home=home, streams=streams).returncode == 2


def test_a_reader_that_takes_the_beginning_is_no_error(home: Path) -> None:
    command = ["query", "sql", ENDLESS, "--limit", "40000", "--format", "ndjson"]
    done = ggend(*command, home=home, streams="| head -n 1")
    assert (done.stdout, done.stderr) == ('{"i":1}\n', "")


def test_a_pipe_that_somebody_made_non_blocking_gets_everything(home: Path) -> None:
    """As node and ssh leave it behind; the reader is slower than the command."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
    command = ["query", "sql", ENDLESS, "--limit", "40000", "--format", "csv"]
    with subprocess.Popen(
        [sys.executable, "-m", "ggend", *command], env=environ, stdout=writing
    ) as process:
        wait_until(lambda: not select.select([], [writing], [], 0)[1], "the pipe was not filled")
        os.close(writing)
        with os.fdopen(reading) as output:
            assert output.read().split() == ["i", *map(str, range(1, 40001))]
        assert process.wait(PATIENCE_SECONDS) == 0


def test_closed_input_is_said(home: Path) -> None:
    """`ggend emit` ends with 0 all the same, as whatever happens."""
    done = ggend("emit", "--stdin", home=home, streams="<&-")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert "standard input cannot be read: Bad file descriptor" in done.stderr
