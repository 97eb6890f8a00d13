"""A wrong command line is told as every other error is: a message, a hint, a status."""

from __future__ import annotations

import gc

import click
import pytest
from click.testing import CliRunner

from ggend.cli.app import app
from ggend.cli.common.command import Group, command, leaves
from ggend.cli.common.usage import usage_problem


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("qery", "ggend has no command `qery`", "did you mean `query`? `ggend --help` lists"),
        ("zzz", "ggend has no command `zzz`", "`ggend --help` lists the commands"),
        ("query exections", "ggend query has no command `exections`", "did you mean `executions`?"),
        ("status --jsn", "ggend status has no option --jsn", "did you mean `--json`?"),
        (
            "query executions --json",
            "ggend query executions has no option --json",
            "did you mean `--format json`?",
        ),
        ("purge", "ggend purge needs --older-than", "`ggend purge --help` shows the options"),
        ("rejected show", "ggend rejected show needs ID", "`ggend rejected show --help`"),
        ("query executions -n x", "--limit: 'x' is not a whole number", "`ggend query executions"),
        ("query executions -n 0", "--limit: 0 is less than 1", "`ggend query executions --help`"),
        ("status --timeout soon", "--timeout: 'soon' is not a number", "`ggend status --help`"),
        (
            "query executions -f jso",
            "--format: 'jso' (did you mean `json`?) is none of table, json, ndjson, csv, markdown",
            "`ggend query executions --help`",
        ),
        ("status more", "got unexpected extra argument (more)", "`ggend status --help`"),
        ("query sql", "ggend query sql needs SQL", "`ggend query sql --help`"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(line: str, message: str, hint: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        app.main(line.split(), prog_name="ggend", standalone_mode=False)
    said, what_to_do = usage_problem(caught.value)
    assert said == message
    assert what_to_do.startswith(hint)


def test_garbage_is_collected_while_a_command_works() -> None:
    seen: list[bool] = []

    @command("look")
    def look() -> None:
        seen.append(gc.isenabled())

    gc.disable()
    try:
        CliRunner().invoke(look)
    finally:
        gc.enable()
        gc.unfreeze()
    assert seen == [True]


def test_every_command_is_reached_by_its_name() -> None:
    names = [name for name, _ in leaves(app, "ggend")]
    assert len(names) == len(set(names))
    for name, found in leaves(app, "ggend"):
        assert found.help
        assert name.split()[-1] == found.name
        if isinstance(found, Group):
            assert found.list_commands(click.Context(found))
