"""The `ggend` command: runs it, and turns errors into a line, a hint and an exit status."""

from __future__ import annotations

import gc
import os
import sys

from ggend.errors import GgendError
from ggend.runtime.streams import OutputUnwritable, flush_output, open_standard_streams

__all__ = ["main"]

#: What the light install does not have, and the extra that brings it.
_EXTRAS = {
    **dict.fromkeys(("aiosqlite", "anyio", "click", "rich"), "daemon"),
    "pyarrow": "parquet",
}

#: What a shell reports for a command that Ctrl-C ended.
_INTERRUPTED = 130

#: A question was answered with no, or with nothing.
_ANSWERED_NO = 1


def main() -> None:
    """Run the command line and exit."""
    # Modules that are imported are no garbage. `Command` turns it on for the work itself.
    gc.disable()
    open_standard_streams()
    try:
        try:
            status = _run()
        finally:
            flush_output()
    except OutputUnwritable as error:
        status = _fail(error.message, error.hint, error.exit_status)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    gc.freeze()  # nor are they at the end
    sys.exit(status)


def _run() -> int:
    """Run the command; return the exit status."""
    if asked := os.environ.get("_GGEND_COMPLETE"):
        return _complete(asked)
    if _is_plain_event(sys.argv[1:]):
        return _emit(*sys.argv[2:])
    try:
        import click
    except ModuleNotFoundError as error:
        return _not_installed(error)
    from ggend.cli.app import app

    try:
        # None, or the status of click's Exit.
        return app.main(prog_name="ggend", standalone_mode=False) or 0
    except OutputUnwritable:
        raise
    except GgendError as error:
        return _fail(error.message, error.hint, error.exit_status)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        from ggend.cli.common.usage import usage_problem

        return _fail(*usage_problem(error), error.exit_code)
    except click.Abort as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            return _INTERRUPTED
        return _fail("nothing was changed", "", _ANSWERED_NO)
    except ModuleNotFoundError as error:
        return _not_installed(error)
    except BrokenPipeError:
        return 0


def _is_plain_event(arguments: list[str]) -> bool:
    """Return whether this is `emit TYPE KEY=VALUE …` without options, which needs no parser."""
    return (
        arguments[:1] == ["emit"]
        and len(arguments) > 1
        and not any(argument.startswith("-") for argument in arguments)
    )


def _emit(kind: str, *fields: str) -> int:
    """Do what `ggend emit` does with these arguments: a script runs it once an event."""
    try:
        from ggend.cli.common.chosen import chosen_socket
        from ggend.cli.common.emitting import TIMEOUT_SECONDS, emit_and_go_on

        emit_and_go_on(kind, fields, chosen_socket(None), TIMEOUT_SECONDS)
    except GgendError as error:
        return _fail(error.message, error.hint, error.exit_status)
    return 0


def _complete(asked: str) -> int:
    """Answer the shell in which Tab was pressed."""
    try:
        from ggend.cli.app import app
        from ggend.cli.common.shells import answer
    except ModuleNotFoundError as error:
        return _not_installed(error)
    return answer(app, asked)


def _not_installed(error: ModuleNotFoundError) -> int:
    extra = _EXTRAS.get(error.name or "")
    if extra is None:
        raise error
    return _fail(
        f"this command needs {error.name}, which is not installed",
        f"run: pip install 'ggend[{extra}]'",
        os.EX_UNAVAILABLE,
    )


def _fail(message: str, hint: str, status: int) -> int:
    try:
        from ggend.cli.render.output import complain
    except ModuleNotFoundError:
        sys.stderr.write(f"ggend: {message}\n  hint: {hint}\n")
    else:
        complain(message, hint=hint)
    return status


if __name__ == "__main__":
    main()
