"""Config: every setting of the daemon, checked once, with a record of where each came from.

Later wins: the default, the configuration file, the environment variable `GGEND_<KEY>`, the flag
`--<key>`. The file is TOML with the keys of `Config` at the top level. Never opens the socket or
the database, and never changes a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from ggend.errors import BadConfig
from ggend.toml_file import read_toml
from ggend_schema import places
from ggend_schema.limits import EVENT_BYTES
from ggend_schema.spelling import did_you_mean, nearest
from ggend_schema.value_words import shown

__all__ = ["SYSTEM_CONFIG", "Config", "LoadedConfig", "config_files", "describe", "load_config"]

#: The host's configuration file; root reads it before its own.
SYSTEM_CONFIG = Path("/etc/ggend/config.toml")

#: Bytes of a socket path at most: `sun_path` has 108 with its closing NUL (unix(7)).
SOCKET_PATH_BYTES = 107

Mode: TypeAlias = Annotated[str, Meta(pattern="^0?[0-7]{3}$")]
#: A day: a longer wait is a mistake in the unit.
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
Days: TypeAlias = Annotated[float, Meta(gt=0, le=36_500)]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of `ggend serve`."""

    socket: Annotated[Path, Meta(description="The Unix socket that producers connect to.")]
    database: Annotated[Path, Meta(description="The SQLite file.")]
    objectives: Annotated[
        Path | None,
        Meta(description="The TOML file of objectives. Default: the built-in objectives."),
    ] = None
    upgrade: Annotated[
        bool,
        Meta(description="Whether to upgrade a database of an older version, after a backup."),
    ] = True
    socket_mode: Annotated[
        Mode, Meta(description="Permissions of the socket: an octal mode in quotes.")
    ] = "0600"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The lowest level of messages that are logged."),
    ] = "info"
    batch_events: Annotated[
        int, Meta(ge=1, le=100_000, description="Maximum events in one transaction.")
    ] = 4096
    intake_events: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Maximum events that wait for the writer.")
    ] = 16_384
    #: The memory of decoded events is estimated from above: 3 to 4 KiB for each usual event.
    intake_mib: Annotated[
        int, Meta(ge=8, le=65_536, description="Maximum MiB of memory for events not yet stored.")
    ] = 128
    page_cache_mib: Annotated[
        int, Meta(ge=1, le=65_536, description="MiB of database pages kept in memory.")
    ] = 32
    checkpoint_events: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Events between two checkpoints of the WAL.")
    ] = 20_000
    wal_alarm_mib: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Size of the WAL in MiB that logs its readers."),
    ] = 128
    set_aside_corrupt: Annotated[
        bool,
        Meta(description="Whether to rename a damaged database at start and create a new one."),
    ] = False
    parked_max_events: Annotated[
        int,
        Meta(ge=0, le=10**9, description="Maximum parked events (their parent is missing)."),
    ] = 1_000_000
    parked_max_mib: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Maximum MiB of parked events.")
    ] = 1_024
    parked_max_age_days: Annotated[
        Days, Meta(description="Days after which a parked event is rejected.")
    ] = 7.0
    rejected_max_events: Annotated[
        int, Meta(ge=0, le=10**9, description="Maximum rejected events kept with their bytes.")
    ] = 100_000
    rejected_max_mib: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Maximum MiB of rejected events that are kept.")
    ] = 256
    #: The largest valid event is 2.25 MiB: every event that can be repaired is kept whole.
    undecodable_max_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=EVENT_BYTES,
            description="Maximum size in bytes of an undecodable rejected event that is kept. Of a "
            "larger one, only the hash and length are kept; 0 keeps none.",
        ),
    ] = EVENT_BYTES
    #: A spool of 30 days may still arrive, so a producer is never forgotten before that.
    producer_max_silence_days: Annotated[
        float,
        Meta(gt=30, le=36_500, description="Days that the account of a silent producer is kept."),
    ] = 60.0
    partial_timeout_seconds: Annotated[
        Seconds, Meta(description="Seconds until the rest of an incomplete frame must arrive.")
    ] = 30.0
    idle_timeout_seconds: Annotated[
        Seconds, Meta(description="Seconds after which an idle connection is closed.")
    ] = 3_600.0
    answer_timeout_seconds: Annotated[
        Seconds, Meta(description="Seconds that a peer may leave its answers unread.")
    ] = 30.0
    drain_timeout_seconds: Annotated[
        Seconds, Meta(description="Seconds that a stopping daemon waits to store received events.")
    ] = 10.0
    max_connections: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Maximum simultaneous connections.")
    ] = 4096

    @property
    def socket_mode_bits(self) -> int:
        """`socket_mode` as the number that chmod(2) takes."""
        return int(self.socket_mode, 8)


class LoadedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A Config, and for each key where its value came from."""

    config: Config
    sources: dict[str, str]


class _Setting(msgspec.Struct, frozen=True, kw_only=True):
    value: object
    source: str


_FIELDS = {field.name: field for field in msgspec.structs.fields(Config)}


def load_config(
    *,
    path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    uid: int | None = None,
) -> LoadedConfig:
    """Merge the layers and check every value. Raises BadConfig.

    `path` is the value of `--config`; `flags` has the other options, None for those not given.
    """
    settings = {
        "socket": _Setting(value=places.user_socket(environ), source="default"),
        "database": _Setting(value=places.user_database(environ), source="default"),
    }
    for file in config_files(path, environ, os.geteuid() if uid is None else uid):
        for key, value in _read(file).items():
            settings[key] = _Setting(value=value, source=str(file))
    for key in _FIELDS:
        variable = f"GGEND_{key.upper()}"
        if environ.get(variable):
            settings[key] = _Setting(value=environ[variable], source=variable)
        if flags.get(key) is not None:
            flag = f"--{key.replace('_', '-')}"
            settings[key] = _Setting(value=flags[key], source=flag)
    checked = {key: _check(key, setting, environ) for key, setting in settings.items()}
    sources = {key: settings[key].source if key in settings else "default" for key in _FIELDS}
    return LoadedConfig(config=msgspec.convert(checked, Config), sources=sources)


def describe(key: str) -> str:
    """Return what a key means, in one sentence."""
    info = msgspec.inspect.type_info(_FIELDS[key].type)
    schema = info.extra_json_schema if isinstance(info, msgspec.inspect.Metadata) else None
    return str((schema or {}).get("description", ""))


def config_files(path: Path | None, environ: Mapping[str, str], uid: int) -> list[Path]:
    """Return the files that are read, the one that counts most last. Raises BadConfig."""
    chosen = path or (Path(environ["GGEND_CONFIG"]) if environ.get("GGEND_CONFIG") else None)
    if chosen is not None:
        if not _is_there(chosen):
            origin = "--config" if path else "GGEND_CONFIG"
            raise BadConfig(
                f"the configuration file {chosen} ({origin}) does not exist",
                hint="create the file, or leave the option out to use the defaults",
            )
        return [chosen]
    candidates = [places.user_config(environ)]
    if uid == 0:
        candidates.insert(0, SYSTEM_CONFIG)
    return [candidate for candidate in candidates if _is_there(candidate)]


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError as error:  # a directory that is closed, a name that is too long
        raise BadConfig(
            f"the configuration file {file} cannot be accessed: {error.strerror}",
            hint="check HOME and XDG_CONFIG_HOME, or name another file with GGEND_CONFIG",
        ) from error


def _read(file: Path) -> dict[str, object]:
    example = 'a setting looks like: log_level = "info"'
    table = read_toml(file, "configuration file", example=example)
    for key, value in table.items():
        if key not in _FIELDS:
            raise _unknown(key, value, file)
    return table


def _unknown(key: str, value: object, file: Path) -> BadConfig:
    similar = nearest(key.lower().replace("-", "_"), _FIELDS, cutoff=0)
    if isinstance(value, dict):
        hint = "put settings at the top of the file, not in a [section]"
    else:
        hint = f"the nearest known key is `{similar}`; `ggend config show` lists them all"
    return BadConfig(f"{file}: unknown key `{key}`", hint=hint)


def _check(key: str, setting: _Setting, environ: Mapping[str, str]) -> object:
    if key in ("socket", "database", "objectives"):
        return _check_path(key, setting, environ)
    # A variable is text; values of a file or a flag have a type already.
    is_text = setting.source.startswith("GGEND_")
    try:
        return msgspec.convert(setting.value, _FIELDS[key].type, strict=not is_text)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # or bytes that are no text
        raise _bad(key, setting, _allowed(key, setting.value)) from error


def _check_path(key: str, setting: _Setting, environ: Mapping[str, str]) -> Path:
    value = setting.value
    if not isinstance(value, (str, Path)) or not Path(value).name or "\0" in str(value):
        raise _bad(key, setting, "the path of a file")
    path = Path(value)
    if path.parts[:1] == ("~",) and environ.get("HOME"):
        path = Path(environ["HOME"], *path.parts[1:])
    is_from_file = not setting.source.startswith(("GGEND_", "--", "default"))
    if is_from_file and not path.is_absolute():
        raise _bad(key, setting, "an absolute path, or one that begins with ~/")
    path = path.absolute()
    size = len(os.fsencode(path))
    if key == "socket" and size > SOCKET_PATH_BYTES and setting.source != "default":
        raise _bad(key, setting, f"a path of at most {SOCKET_PATH_BYTES} bytes (this has {size})")
    return path


def _bad(key: str, setting: _Setting, allowed: str) -> BadConfig:
    said = shown(str(setting.value) if isinstance(setting.value, Path) else setting.value)
    is_quoted = isinstance(setting.value, str) and not setting.source.startswith("GGEND_")
    if is_quoted and allowed.startswith(("a whole number", "a number", "true")):
        said += ", a string"
    return BadConfig(
        f"`{key}` cannot be {said} (from {setting.source})", hint=f"it must be {allowed}"
    )


def _allowed(key: str, value: object) -> str:
    kind = msgspec.inspect.type_info(_FIELDS[key].type)
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    match kind:
        case msgspec.inspect.IntType():
            return f"a whole number from {kind.ge} to {kind.le}"
        case msgspec.inspect.FloatType():
            unit = "days" if key.endswith("_days") else "seconds"
            return f"a number of {unit} above {kind.gt:g}, at most {kind.le:g}"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.LiteralType():
            words = [str(word) for word in kind.values]
            question = did_you_mean(value, words) if isinstance(value, str) else None
            return f"one of {', '.join(words)}" + (f"; {question}" if question else "")
        case _:
            return 'an octal mode in quotes, such as "0600" or "0660"'
