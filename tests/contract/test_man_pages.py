"""The manual pages: one for each command, which formatters read without a complaint."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from ggend.cli.app import app
from ggend.cli.common.command import leaves
from support.tools import need

ROOT = Path(__file__).parents[2]
MAN = ROOT / "docs" / "man"

_COMMANDS = {name.replace(" ", "-"): command for name, command in leaves(app, "ggend")}
_PAGES = sorted(MAN.glob("*.1"))

#: Commands of roff that a page uses.
_MACROS = {
    *(".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".BR", ".RS", ".RE", ".nf", ".fi", ".nh", ".ad"),
    '.\\"',
}


def shown(page: Path) -> str:
    """Return a page as a terminal of 80 columns shows it."""
    ran = subprocess.run(
        [need("groff"), "-man", "-Tutf8", "-ww", "-rLL=80n", page],
        env={**os.environ, "GROFF_NO_SGR": "1", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    return re.sub(".\b", "", ran.stdout)


def test_there_is_a_page_for_each_command() -> None:
    assert {page.stem for page in _PAGES} == set(_COMMANDS)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_sections_and_only_known_macros(page: Path) -> None:
    lines = page.read_text(encoding="ascii").splitlines()
    sections = [line.removeprefix(".SH ") for line in lines if line.startswith(".SH ")]
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert sections[-1] == "SEE ALSO"
    assert len(sections) == len(set(sections))
    assert {line.split()[0] for line in lines if line.startswith((".", "'"))} <= _MACROS
    for reference in re.findall(r"^\.BR (\S+) \(1\)", "\n".join(lines), re.MULTILINE):
        assert reference.replace("\\-", "-") in _COMMANDS


def test_the_first_page_has_the_variables_and_the_statuses() -> None:
    page = (MAN / "ggend.1").read_text(encoding="ascii")
    assert ".SH ENVIRONMENT\n.TP\n\\fBGGEND_SOCKET\\fR\n" in page
    assert ".SH EXIT STATUS\n" in page


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_a_page_shows_options_and_examples_as_they_are_typed(page: Path) -> None:
    text = shown(page)
    command = _COMMANDS[page.stem]
    for paragraph in (command.help or "").replace("\n    ", "\n").split("\n\n"):
        if paragraph.startswith("    "):
            for line in paragraph.rstrip().splitlines():
                assert line.strip() in text
    for parameter in command.params:
        if parameter.param_type_name == "option" and not getattr(parameter, "hidden", False):
            for name in parameter.opts:
                assert name in text


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_mandoc_finds_nothing(page: Path) -> None:
    ran = subprocess.run(
        [need("mandoc"), "-Tlint", "-W", "warning", page], capture_output=True, text=True
    )
    # A page says the same whenever it is built.
    assert [line for line in ran.stdout.splitlines() if "missing date" not in line] == []


def test_the_wheel_holds_them_where_man_looks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"] == {"docs/man": "share/man/man1"}
