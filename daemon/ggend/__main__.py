"""The `ggend` command: runs it, and turns errors into a line, a hint and an exit status."""

from __future__ import annotations

import io
import os
import sys

from ggend.errors import GgendError

__all__ = ["main"]

#: What the extra `daemon` brings and the light install does not.
_EXTRA = frozenset({"aiosqlite", "anyio", "rich", "typer"})

#: What a shell reports for a command that Ctrl-C ended.
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from ggend.cli import app

        app(prog_name="ggend")
    except GgendError as error:
        _fail(error.message, error.hint, error.exit_status)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        _fail(
            f"this needs {error.name}, which is not installed",
            "pip install 'ggend[daemon]'",
            os.EX_UNAVAILABLE,
        )
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        pass
    finally:
        _flush()


def _fail(message: str, hint: str, status: int) -> None:
    try:
        from ggend.cli.output import complain
    except ModuleNotFoundError:
        sys.stderr.write(f"ggend: {message}\n  hint: {hint}\n")
    else:
        complain(message, hint=hint)
    sys.exit(status)


def _flush() -> None:
    """Notice here that nobody reads any more: at exit the interpreter would complain about it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
