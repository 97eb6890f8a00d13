"""Pager: shows output that is taller than the terminal page by page, as git does.

`GGEND_PAGER` wins, then `PAGER`, then `less`; `cat` or an empty value means no pager. Never used
for a pipe or a file.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping

__all__ = ["page"]

#: Options of `less` if the user has set none, the same as git's: exit if all fits on one screen
#: (F), pass colours through (R), and leave the text on the screen (X).
_LESS = "FRX"


def page(text: str) -> None:
    """Write text to the terminal, through the pager if there is one and the text is too tall."""
    command = _command(os.environ)
    if not command or not _is_tall(text):
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    environ = {"LESS": _LESS, **os.environ}
    try:
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, env=environ)  # noqa: S603 - the user's own pager
    except OSError:
        sys.stdout.write(text)
        return
    # Ctrl-C goes to the pager now. Set before the start, the pager would inherit the ignoring.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pager.communicate(text.encode(errors="backslashreplace"))
    finally:
        signal.signal(signal.SIGINT, before)


def _command(environ: Mapping[str, str]) -> list[str]:
    """Return the words of the pager's command; empty if there is no pager or none is wanted."""
    if environ.get("TERM", "dumb") == "dumb":
        return []
    wanted = environ.get("GGEND_PAGER", environ.get("PAGER", "less"))
    try:
        words = shlex.split(wanted)
    except ValueError:  # a quotation mark is missing
        return []
    if not words or words == ["cat"] or shutil.which(words[0]) is None:
        return []
    return words


def _is_tall(text: str) -> bool:
    # The prompt needs a line too.
    return text.count("\n") >= shutil.get_terminal_size().lines
