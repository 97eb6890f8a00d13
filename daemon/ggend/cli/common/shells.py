"""Shells: the scripts that make Tab ask ggend, and the answers in the form that each shell takes.

The protocol: the shell sets `_GGEND_COMPLETE` to `bash_complete` (or zsh, fish) and `COMP_LINE` to
the line up to the cursor, and runs `ggend`. An answer is one completion a line, `TYPE,VALUE`; with
zsh three lines, the type, the value, and the description or `_`. `TYPE` is plain, file or dir.

click has such scripts too. These also complete behind `=` in bash, values with a comma in fish,
and `--option=value` in all of them, and set no space behind `key=`.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    shell_complete,
    split_arg_string,
)

__all__ = ["VARIABLE", "Shell", "answer", "script"]

#: What a shell sets to ask for completions.
VARIABLE = "_GGEND_COMPLETE"

#: Stands where the cursor is; nobody types it.
_CURSOR = "\ue000"

#: What bash would act on outside of quotes.
_SPECIAL = re.compile(r"[^\w.,=:/@%+…-]")


class Shell(StrEnum):
    """A shell that can complete commands of ggend."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def script(app: click.Command, shell: Shell) -> str:
    """Return the script for a shell to source."""
    return _SHELLS[shell](app, {}, "ggend", VARIABLE).source()


def answer(app: click.Command, asked: str) -> int:
    """Answer a shell; return the exit status. An error prints nothing: the person is typing."""
    try:
        return shell_complete(app, {}, "ggend", VARIABLE, asked)
    except Exception:  # as completion scripts are run at every Tab
        return 1


class _Line(ShellComplete):
    """Takes the line apart, and completes whole words of it."""

    def source(self) -> str:
        """Return the script."""
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, without the command, and the beginning of one."""
        words = split_arg_string(os.environ["COMP_LINE"] + _CURSOR)
        return words[1:-1], words[-1].removesuffix(_CURSOR)

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return the completions; those of `--option=` begin with it."""
        items = super().get_completions(args, incomplete)
        option, sign, _ = incomplete.partition("=")
        if sign and option.startswith("-"):
            for item in items:
                item.value = f"{option}={item.value}"
        return items


class _Bash(_Line, BashComplete):
    """Bash takes words apart at `=` and `:` too, and replaces only what stands behind."""

    source_template = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            plain)
                COMPREPLY+=("$value")
                [[ $value == *= ]] && compopt -o nospace
                ;;
        esac
    done < <(
        COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
            %(complete_var)s=bash_complete "${1/#\\~/$HOME}" 2>/dev/null
    )
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return what bash puts behind the last character that ends a word for it."""
        _, incomplete = self.get_completion_args()
        breaks = set(os.environ.get("COMP_WORDBREAKS", "")) - set(" \t\n\"'")
        begin = max((number for number, at in enumerate(incomplete, 1) if at in breaks), default=0)
        value = item.value[begin:]
        if item.type == "plain" and not self._is_quoted():
            value = _SPECIAL.sub(r"\\\g<0>", value)
        return f"{item.type},{value}"

    def _is_quoted(self) -> bool:
        without_escapes = re.sub(r"\\.", "", os.environ["COMP_LINE"])
        return without_escapes.count('"') % 2 == 1 or without_escapes.count("'") % 2 == 1


class _Zsh(_Line, ZshComplete):
    """Zsh quotes the values itself, and shows descriptions."""

    source_template = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a plain described unfinished response
    local type value description
    response=("${(@f)$(
        COMP_LINE="${words[1,CURRENT-1]} $PREFIX" %(complete_var)s=zsh_complete \\
            ${~words[1]} 2>/dev/null
    )}")
    for type value description in "${response[@]}"; do
        if [[ $type == plain && $value == *= ]]; then
            unfinished+=("$value")
        elif [[ $type == plain && $description == _ ]]; then
            plain+=("$value")
        elif [[ $type == plain ]]; then
            described+=("$value:$description")
        elif [[ $type == dir ]]; then
            _path_files -/
        elif [[ $type == file ]]; then
            [[ $PREFIX == -*=* ]] && compset -P '*='
            _path_files -f
        fi
    done
    (( $#described )) && _describe -V completions described -U
    (( $#unfinished )) && compadd -U -S '' -V keys -a unfinished
    (( $#plain )) && compadd -U -V values -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Fish(_Line, FishComplete):
    """Fish quotes the values itself, and shows descriptions."""

    source_template = """\
function %(complete_func)s
    set -l words (commandline -poc)
    set -l response (env COMP_LINE=(commandline -cp | string collect) \\
        %(complete_var)s=fish_complete $words[1] 2>/dev/null)
    for line in $response
        set -l parts (string split -m 1 , -- $line)
        switch $parts[1]
            case plain
                echo $parts[2]
            case dir
                __fish_complete_directories $parts[2]
            case file
                set -l option (string match -r -- '^-[^=]*=' $parts[2])
                __fish_complete_path (string replace -r -- '^-[^=]*=' '' $parts[2]) |
                    string replace -r -- '^' "$option"
        end
    end
end

complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


_SHELLS: dict[Shell, type[ShellComplete]] = {
    Shell.BASH: _Bash,
    Shell.ZSH: _Zsh,
    Shell.FISH: _Fish,
}
for _found in _SHELLS.values():
    add_completion_class(_found)
