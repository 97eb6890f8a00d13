"""Whatever the command line, the files and the environment: a command ends, and says why in words.

The long form is `./dev torture commands`; what it found is kept here.
"""

from __future__ import annotations

import os

import pytest

from torture.command_lines import USUAL, CommandLine, command_line, command_names
from torture.commands import CommandTrial, run_commands, run_lines
from torture.odd_values import PLACE

#: Lines of each seed: a few seconds.
_LINES = 50

_LONG = f"{PLACE}/{'n' * 300}"


def ended(*arguments: str, **environ: str) -> CommandTrial:
    """Run one command line, with these variables."""
    (done,) = run_lines([CommandLine(arguments, {**USUAL, **environ})])
    return done


@pytest.mark.parametrize("seed", range(1, 4))
def test_random_command_lines_end_without_a_traceback(seed: int) -> None:
    """With a status that `ggend --help` documents, and a message where something is wrong."""
    assert [str(one) for one in run_commands(count=_LINES, seed=seed) if one.problems] == []


def test_the_same_seed_runs_the_same() -> None:
    """A problem that names its seed can be looked at again."""
    assert command_line("7/7") == command_line("7/7")
    assert command_line("7/7") != command_line("7/8")


def test_each_command_is_run() -> None:
    """Also its help, and all that is below a group."""
    lines = [command_line(f"1/{number}") for number in range(5_000)]
    assert {line.command for line in lines} == set(command_names())
    assert {line.command for line in lines if line.asks_for_help} == set(command_names())


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HOME": f"{PLACE}/closed"}, "config.toml cannot be accessed: Permission denied"),
        ({"XDG_CONFIG_HOME": _LONG}, "config.toml cannot be accessed: File name too long"),
        ({"GGEND_CONFIG": _LONG}, "cannot be accessed: File name too long"),
        ({"GGEND_OBJECTIVES": _LONG}, "cannot be read: File name too long"),
        ({"GGEND_LOG_LEVEL": "\udcff"}, "`log_level` cannot be"),
        ({"GGEND_BATCH_EVENTS": "\udcff"}, "`batch_events` cannot be"),
    ],
)
def test_configuration_that_cannot_be_read_is_named(environ: dict[str, str], said: str) -> None:
    """A closed home directory, a name that is too long, a value that is no text."""
    done = ended("serve", **environ)
    assert done.problems == []
    assert done.status == os.EX_CONFIG
    assert said in done.complaints.decode()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("maintain", "--rebuild-rollups", "-d", "fifo"), os.EX_DATAERR, "is not a file"),
        (("init", "fifo"), os.EX_DATAERR, "is not a file"),
        (("export", "receipts", "-d", "good.db", "-o", _LONG), os.EX_IOERR, "name too long"),
        (("restore", "-d", "good.db", _LONG), os.EX_DATAERR, "name too long"),
        (("restore", "-d", _LONG, "--with-wal"), os.EX_DATAERR, "name too long"),
        (("status", f"--timeout={'x' * 5_000}"), 2, "…"),
        (("query", "sql", "SELECT 1", "SELECT " + "1, " * 3_000), 2, "…"),
        (("query", "percentiles", "-d", "old.db"), os.EX_DATAERR, "has no percentiles"),
        (("rejected", "list", "-d", "old.db"), os.EX_DATAERR, "keeps no rejected events"),
        (("rejected", "show", "1", "-d", "old.db"), os.EX_DATAERR, "keeps no rejected events"),
        (("slo", "explain", "1", "-d", "old.db"), os.EX_DATAERR, "keeps no reasons"),
        *(
            ((*words, "--timeout", seconds), 2, "is not a number of seconds up to 86400")
            for words in (("status",), ("emit", "audit"), ("query", "sql", "SELECT 1"))
            for seconds in ("nan", "inf", "1e308")
        ),
        (("parked", "list", "-n", str(2**63)), os.EX_USAGE, "a number is too large"),
        (("analytics", "--agent", "\udcff"), os.EX_USAGE, "is not UTF-8 text"),
        (("accounts", "--client", "\udcff"), os.EX_USAGE, "is not UTF-8 text"),
        (("query", "executions", "--agent", "\udcff"), os.EX_USAGE, "is not UTF-8 text"),
        (("slo", "explain", "\udcff"), os.EX_USAGE, "is not UTF-8 text"),
        (("report", "collisions", "--session", "\udcff"), os.EX_USAGE, "is not UTF-8 text"),
        (("init", _LONG), os.EX_DATAERR, "name too long"),
        (("init", "good.db", "--log", "fifo"), os.EX_USAGE, "cannot be written to fifo"),
        *(
            ((*words, odd), status, "is not a file, and is not replaced by one")
            for words, status in (
                (("export", "receipts", "-d", "good.db", "-o"), os.EX_IOERR),
                (("restore", "backup.db", "-d"), os.EX_DATAERR),
                (("restore", "--with-wal", "-d"), os.EX_DATAERR),
                (("restore", "--without-wal", "-d"), os.EX_DATAERR),
            )
            for odd in ("fifo", "null", "socket")
        ),
        (
            ("emit", "--strict", "audit", 'context:={"\udcff":1}'),
            os.EX_DATAERR,
            "`context` is not UTF-8 text",
        ),
        (("spool", "list"), os.EX_UNAVAILABLE, "1 event is waiting"),
    ],
)
def test_an_odd_argument_is_named(arguments: tuple[str, ...], status: int, said: str) -> None:
    """A FIFO is not waited for, and a long word is not repeated whole."""
    done = ended(*arguments)
    assert done.problems == []
    assert done.status == status
    assert said in done.complaints.decode()
