"""The `ggend` command: runs it, and turns errors into a line, a hint and an exit status."""

from __future__ import annotations

import os
import sys

from ggend.errors import GgendError
from ggend.runtime.streams import OutputUnwritable, flush_output, open_standard_streams

__all__ = ["main"]

#: What the extra `daemon` brings and the light install does not.
_EXTRA = frozenset({"aiosqlite", "anyio", "rich", "typer"})

#: What a shell reports for a command that Ctrl-C ended.
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    open_standard_streams()
    try:
        try:
            _run()
        finally:
            flush_output()
    except OutputUnwritable as error:
        _fail(error.message, error.hint, error.exit_status)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _run() -> None:
    try:
        from ggend.cli import app

        app(prog_name="ggend")
    except OutputUnwritable:
        raise
    except GgendError as error:
        _fail(error.message, error.hint, error.exit_status)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        _fail(
            f"this command needs {error.name}, which is not installed",
            "run: pip install 'ggend[daemon]'",
            os.EX_UNAVAILABLE,
        )
    except BrokenPipeError:
        pass


def _fail(message: str, hint: str, status: int) -> None:
    try:
        from ggend.cli.render.output import complain
    except ModuleNotFoundError:
        sys.stderr.write(f"ggend: {message}\n  hint: {hint}\n")
    else:
        complain(message, hint=hint)
    sys.exit(status)


if __name__ == "__main__":
    main()
