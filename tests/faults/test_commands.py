"""Whatever the command line, the files and the environment: a command ends, and says why in words.

The long form is `./dev torture commands`.
"""

from __future__ import annotations

import pytest

from torture.command_lines import command_line, command_names
from torture.commands import run_commands

#: Lines of each seed: a few seconds.
_LINES = 50


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
