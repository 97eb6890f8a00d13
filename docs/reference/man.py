"""Build the manual pages from the code, or check that they are current.

    python docs/reference/man.py            writes docs/man/*.1
    python docs/reference/man.py --check    exits 1 when one of them is out of date

There is one page for `ggend` and one for each command, from the same options and docstrings as
`--help`: ggend-query-audit.1 is `ggend query audit --help`. The wheel installs them under
`share/man/man1`, where `man` finds them beside the `bin` of the environment.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from ggend.cli.app import app
from ggend.cli.common.command import LazyGroup, leaves
from ggend.config import Config, describe
from ggend.variables import COMMAND_VARIABLES

__all__ = ["pages"]

_MAN = Path(__file__).parents[1] / "man"

_HEAD = '.\\" Generated from the code by docs/reference/man.py; do not edit.\n'

#: How `--help` marks an example.
_EXAMPLE = "    "

#: What would be formatted in another way than it is typed, and how roff writes it.
_ESCAPES = {"\\": "\\e", "-": "\\-", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}

#: In the text of help: `code`, or an option.
_CODE = re.compile(r"`([^`]+)`|(?<![\w-])(--?[a-z][a-z-]*)")

#: In the names of an option: `-d`, `--database`; what is between and behind them is its argument.
_OPTION = re.compile(r"(?<![\w-])--?[\w-]+")

#: One of the statuses in `0 done, 65 a check failed`, or in `1 degraded; 2 and 64 wrong usage`.
_STATUS = re.compile(r"(\d+(?: and \d+)?) (.*)")


def pages() -> dict[Path, str]:
    """Return the manual pages and what should be in them."""
    commands = dict(leaves(app, "ggend"))
    return {_MAN / f"{_page(name)}.1": "".join(_sections(name, commands)) for name in commands}


def _sections(name: str, commands: Mapping[str, click.Command]) -> Iterator[str]:
    command = commands[name]
    context = _context(name, command)
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    texts = [_joined(one) for one in paragraphs if not one.startswith(_EXAMPLE)]
    yield f'{_HEAD}.TH "{_escaped(_page(name).upper())}" 1 "" "ggend" "ggend manual"\n.nh\n.ad l\n'
    yield f".SH NAME\n{_escaped(_page(name))} \\- {_escaped(_summary(texts[0]))}\n"
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f".SH SYNOPSIS\n.B {_escaped(name)}\n{_escaped(pieces)}\n"
    described = [one for one in texts if not one.startswith(("Example", "Exit status: "))]
    yield ".SH DESCRIPTION\n" + ".PP\n".join(_text(one) for one in described)
    if isinstance(command, click.Group):
        yield from _commands(name, command, commands)
    for title, kind in (("ARGUMENTS", click.Argument), ("OPTIONS", click.Option)):
        rows = [
            _parameter(one, context) for one in command.get_params(context) if isinstance(one, kind)
        ]
        yield _list(title, [row for row in rows if row])
    yield from (_statuses(one) for one in [*texts, command.epilog or ""] if one.startswith("Exit "))
    examples = [one for one in paragraphs if one.startswith(_EXAMPLE)]
    if examples:
        yield ".SH EXAMPLES\n" + ".PP\n".join(_example(one) for one in examples)
    if command is app:
        yield _list("ENVIRONMENT", [(f"\\fB{name}\\fR", text) for name, text in _variables()])
    yield ".SH SEE ALSO\n" + ",\n".join(_related(name, command, commands)) + "\n"


def _context(name: str, command: click.Command) -> click.Context:
    return click.Context(command, info_name=name, **command.context_settings)


def _commands(
    name: str, group: click.Group, commands: Mapping[str, click.Command]
) -> Iterator[str]:
    parts = group.list_commands(_context(name, group))
    yield ".SH COMMANDS\n"
    for title, names in (group.sections if isinstance(group, LazyGroup) else {"": parts}).items():
        if title:
            yield f".SS {_escaped(title)}\n"
        for part in names:
            whole = f"{name} {part}"
            help_text = _joined(inspect.cleandoc(commands[whole].help or ""))
            yield f".TP\n{_reference(whole)}\n{_text(_first_sentence(help_text) + '.')}"


def _parameter(parameter: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    if isinstance(parameter, click.Argument):
        shown = parameter.make_metavar(context).strip("[].")
        return f"\\fI{_escaped(shown)}\\fR", parameter.help or ""
    record = parameter.get_help_record(context)
    if record is None:
        return None
    names, text = record
    formatted, end = "", 0
    for found in _OPTION.finditer(names):
        formatted += _argument(names[end : found.start()]) + f"\\fB{_escaped(found[0])}\\fR"
        end = found.end()
    return formatted + _argument(names[end:]), text


def _argument(text: str) -> str:
    """Format what stands around the names of an option."""
    blank = text[: len(text) - len(text.lstrip())]
    rest = text.strip()
    return text if rest in ("", ",", "/") else f"{blank}\\fI{_escaped(rest)}\\fR"


def _statuses(text: str) -> str:
    """Format a paragraph `Exit status: 0 done, 65 failed.`, as a list where it is one."""
    intro, _, rest = text.partition(": ")
    body, dot, more = rest.partition(". ")
    separator = r"; " if "; " in body else r", (?=\d+ )"
    items = [_STATUS.fullmatch(one) for one in re.split(separator, body.removesuffix("."))]
    found = [item.groups() for item in items if item]
    if len(found) < len(items) or any(re.search(r": \d", item[1]) for item in found):
        return f".SH EXIT STATUS\n{_text(rest[0].upper() + rest[1:])}"
    head = f"{_text(intro + ':')}" if intro != "Exit status" else ""
    listed = _list("", [(f"\\fB{number}\\fR", meaning) for number, meaning in found])
    return f".SH EXIT STATUS\n{head}{listed}" + (f".PP\n{_text(more)}" if dot else "")


def _variables() -> Iterator[tuple[str, str]]:
    yield from ((f"GGEND_{key.upper()}", describe(key)) for key in Config.__struct_fields__)
    yield from COMMAND_VARIABLES.items()


def _related(
    name: str, command: click.Command, commands: Mapping[str, click.Command]
) -> Iterator[str]:
    """Yield the page above this one, those that its help names, and `ggend`."""
    text = " ".join((command.help or "").split())
    named = [one for one in commands if one != name and re.search(rf"`{one}[ `]", text)]
    if command is app:
        named = [one for one in commands if one.count(" ") == 1]
    above = name.rpartition(" ")[0]
    related = dict.fromkeys([*([above] if above else []), *named])
    yield from map(_reference, related)


def _reference(name: str) -> str:
    return f".BR {_escaped(_page(name))} (1)"


def _list(title: str, rows: list[tuple[str, str]]) -> str:
    """Format a section with a list; nothing if it has no rows."""
    listed = "".join(f".TP\n{term}\n{_text(text)}" for term, text in rows)
    return (f".SH {title}\n" if title and rows else "") + listed


def _example(paragraph: str) -> str:
    """Format the lines of an example as they are."""
    lines = inspect.cleandoc(paragraph).splitlines()
    shown = "".join(f"\\&{_escaped(line, is_code=True)}\n" for line in lines)
    return f".RS 4\n.nf\n{shown}.fi\n.RE\n"


def _text(text: str) -> str:
    """Format a paragraph: code and options are bold."""
    parts, end = [], 0
    for found in _CODE.finditer(text):
        parts += [_escaped(text[end : found.start()]), f"\\fB{_escaped(found[1] or found[2])}\\fR"]
        end = found.end()
    whole = "".join([*parts, _escaped(text[end:])])
    return (f"\\&{whole}" if whole.startswith((".", "'")) else whole) + "\n"


def _escaped(text: str, *, is_code: bool = False) -> str:
    """Return text that roff shows as it is, in ASCII."""
    escapes = _ESCAPES | ({"'": "\\(aq", '"': "\\(dq"} if is_code else {})
    return "".join(
        escapes.get(letter, letter if letter.isascii() else f"\\[u{ord(letter):04X}]")
        for letter in text
    )


def _summary(text: str) -> str:
    """Return the first sentence as NAME has it: no capital, no full stop, no backticks."""
    sentence = _first_sentence(text).replace("`", "")
    return sentence[0].lower() + sentence[1:]


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


def _joined(paragraph: str) -> str:
    return " ".join(paragraph.split("\n\n")[0].split()) if paragraph else ""


def _page(name: str) -> str:
    return name.replace(" ", "-")


def _main() -> int:
    wanted = pages()
    is_check = "--check" in sys.argv[1:]
    _MAN.mkdir(exist_ok=True)
    gone = set(_MAN.glob("*.1")) - set(wanted)
    stale = [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="ascii") != text
    ]
    for path in sorted([*gone, *stale]):
        if is_check:
            sys.stderr.write(f"{path} is out of date: run python docs/reference/man.py\n")
        elif path in gone:
            path.unlink()
        else:
            path.write_text(wanted[path], encoding="ascii")
    return int(is_check and bool(gone or stale))


if __name__ == "__main__":
    sys.exit(_main())
