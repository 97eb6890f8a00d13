"""`ggend config`: the daemon's effective settings and their sources."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ggend.cli.common.command import group
from ggend.cli.common.options import columns_option, config_option, format_option
from ggend.cli.render.output import Format, complain, show, show_json, show_line
from ggend.config import Config, describe, load_config
from ggend.errors import UsageMistake
from ggend.queries.result import Result
from ggend.variables import unknown_variables
from ggend_schema.spelling import or_nearest

__all__ = ["config_group"]

config_group = group(
    "config",
    "Show the configuration. The configuration file overrides the defaults, environment "
    "variables named GGEND_KEY override the file, and flags override both.",
)


@config_group.command("show")
@config_option
@columns_option
@format_option
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def show_config(*, config: Path | None, as_json: bool, columns: str | None, form: Format) -> None:
    """Show every setting with its value and the source of that value.

    Environment variables that begin with GGEND_ and that ggend does not know are named on standard
    error, with the nearest known name.

    Example:

        GGEND_LOG_LEVEL=debug ggend config show
    """
    loaded = load_config(path=config, environ=os.environ, flags={})
    for name, hint in unknown_variables(os.environ).items():
        complain(f"unknown environment variable `{name}`", hint=hint)
    values = {key: getattr(loaded.config, key) for key in Config.__struct_fields__}
    if (as_json or form is Format.JSON) and columns is None:
        show_json(
            {
                key: {"value": value, "source": loaded.sources[key], "meaning": describe(key)}
                for key, value in values.items()
            }
        )
        return
    rows: list[tuple[object, ...]] = [
        (key, _text(value), loaded.sources[key], describe(key)) for key, value in values.items()
    ]
    show(
        Result(columns=["key", "value", "source", "meaning"], rows=rows),
        form=Format.JSON if as_json else form,
        kept=("key", "value", "source"),
        columns=columns,
    )


@config_group.command("get")
@click.argument("key", help="The name of a setting, such as `socket`.")
@config_option
def get_config(*, key: str, config: Path | None) -> None:
    """Print the value of one setting, for a script.

    Example:

        ggend config get socket
    """
    keys = Config.__struct_fields__
    if key not in keys:
        raise UsageMistake(
            f"there is no setting `{key}`{or_nearest(key, keys)}",
            hint=f"the settings are {', '.join(keys)}",
        )
    show_line(_text(getattr(load_config(path=config, environ=os.environ, flags={}).config, key)))


def _text(value: object) -> str:
    """Return a value as the configuration file spells it; `-`: it has none."""
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
