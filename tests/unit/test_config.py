"""Configuration: layers, sources, and errors that say where the mistake is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ggend import config
from ggend.config import Config, describe, load_config
from ggend.errors import BadConfig

USER = 1000


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "chosen.toml"
    file.write_text(text, encoding="utf-8")
    return file


def load(environ: dict[str, str], path: Path | None = None, **flags: object) -> Config:
    return load_config(path=path, environ=environ, flags=flags, uid=USER).config


def test_without_anything_the_defaults_are_used(environ: dict[str, str], tmp_path: Path) -> None:
    loaded = load_config(path=None, environ=environ, flags={}, uid=USER)
    assert loaded.config.socket == tmp_path / "run/ggend/ggend.sock"
    assert loaded.config.database == tmp_path / ".local/share/ggend/tier2.db"
    assert loaded.config.batch_events == 4096
    assert loaded.config.socket_mode_bits == 0o600
    assert set(loaded.sources) == set(Config.__struct_fields__)
    assert set(loaded.sources.values()) == {"default"}


def test_the_file_wins_over_the_default_the_variable_over_the_file_the_flag_over_all(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path, "batch_events = 1\nintake_events = 1\nmax_connections = 1\n")
    environ |= {"GGEND_INTAKE_EVENTS": "2", "GGEND_MAX_CONNECTIONS": "2"}
    loaded = load_config(path=file, environ=environ, flags={"max_connections": 3}, uid=USER)
    assert loaded.config.batch_events == 1
    assert loaded.config.intake_events == 2
    assert loaded.config.max_connections == 3
    assert loaded.sources["batch_events"] == str(file)
    assert loaded.sources["intake_events"] == "GGEND_INTAKE_EVENTS"
    assert loaded.sources["max_connections"] == "--max-connections"
    assert loaded.sources["database"] == "default"


@pytest.mark.parametrize("key", Config.__struct_fields__)
def test_every_key_has_a_variable_and_a_description(key: str, environ: dict[str, str]) -> None:
    default = getattr(load(environ), key)
    value = Path("/etc/ggend/objectives.toml") if default is None else default
    environ[f"GGEND_{key.upper()}"] = str(value)
    loaded = load_config(path=None, environ=environ, flags={}, uid=USER)
    assert getattr(loaded.config, key) == value
    assert loaded.sources[key] == f"GGEND_{key.upper()}"
    assert describe(key).endswith(".")


def test_a_flag_that_was_not_given_and_an_empty_variable_change_nothing(
    environ: dict[str, str],
) -> None:
    environ["GGEND_LOG_LEVEL"] = ""
    assert load(environ, log_level=None).log_level == "info"


def test_the_users_file_is_read_when_it_is_there(environ: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / ".config/ggend/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('log_level = "debug"\n')
    assert load(environ).log_level == "debug"


def test_root_reads_the_hosts_file_below_its_own(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, own = tmp_path / "host.toml", tmp_path / ".config/ggend/config.toml"
    own.parent.mkdir(parents=True)
    host.write_text('log_level = "debug"\nbatch_events = 7\n')
    own.write_text('log_level = "error"\n')
    monkeypatch.setattr(config, "SYSTEM_CONFIG", host)
    as_root = load_config(path=None, environ=environ, flags={}, uid=0).config
    assert (as_root.log_level, as_root.batch_events) == ("error", 7)
    assert load(environ).batch_events == 4096


def test_a_chosen_file_that_is_missing_is_an_error(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"absent\.toml \(--config\) does not exist"):
        load(environ, tmp_path / "absent.toml")
    environ["GGEND_CONFIG"] = str(tmp_path / "absent.toml")
    with pytest.raises(BadConfig, match=r"absent\.toml \(GGEND_CONFIG\) does not exist"):
        load(environ)


def test_a_directory_as_the_file_is_an_error(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="is not a regular file"):
        load(environ, tmp_path)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("batch_events = 0", "a whole number from 1 to 100000"),
        ("batch_events = true", "a whole number"),
        ("upgrade = 1", "true or false"),
        ('log_level = "inof"', "debug, error, info, warning; did you mean `info`?"),
        ('batch_events = "12"', "a whole number"),
        ("partial_timeout_seconds = 0", "above 0"),
        ("drain_timeout_seconds = inf", "above 0, at most 86400"),
        ("answer_timeout_seconds = nan", "above 0"),
        ('log_level = "loud"', "one of debug, error, info, warning"),
        ("socket_mode = 0o600", 'in quotes, such as "0600"'),
        ('socket_mode = "0888"', "octal"),
        ('database = "relative.db"', "an absolute path"),
        ('database = ""', "the path of a file"),
        ("database = 5", "the path of a file"),
        (f'socket = "/{"s" * 120}"', "at most 107 bytes"),
    ],
)
def test_a_bad_value_names_key_value_file_and_what_is_allowed(
    text: str, allowed: str, environ: dict[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path, text)
    with pytest.raises(BadConfig) as caught:
        load(environ, file)
    assert f"`{text.split(' ', 1)[0]}`" in caught.value.message
    assert str(file) in caught.value.message
    assert allowed in caught.value.hint


def test_a_bad_variable_and_a_bad_flag_are_named(environ: dict[str, str]) -> None:
    with pytest.raises(BadConfig, match=r"`batch_events` cannot be 0 \(from --batch-events\)"):
        load(environ, batch_events=0)
    environ["GGEND_BATCH_EVENTS"] = "many"
    with pytest.raises(BadConfig, match=r'cannot be "many" \(from GGEND_BATCH_EVENTS\)'):
        load(environ)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('batch_events = "12"', '"12", a string'),
        ('upgrade = "yes"', '"yes", a string'),
        ("batch_events = true", "true"),
        ("batch_events = [1]", "[1]"),
        ("drain_timeout_seconds = inf", "inf"),
        ('log_level = "loud"', '"loud"'),
        ("log_level = 5", "5"),
        ("database = false", "false"),
    ],
)
def test_a_bad_value_is_shown_as_the_file_spells_it(
    text: str, value: str, environ: dict[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path, text)
    with pytest.raises(BadConfig) as caught:
        load(environ, file)
    assert caught.value.message.endswith(f"` cannot be {value} (from {file})")


def test_an_unknown_key_names_itself_the_file_and_the_nearest_key(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path, "batch-event = 5\n")
    with pytest.raises(BadConfig) as caught:
        load(environ, file)
    assert caught.value.message == f"{file}: unknown key `batch-event`"
    assert "`batch_events`" in caught.value.hint


def test_a_section_is_told_apart_from_a_misspelt_key(
    environ: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(BadConfig) as caught:
        load(environ, write(tmp_path, "[daemon]\nbatch_events = 5\n"))
    assert "not in a [section]" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"batch_events = 1\nlog_level = = 2\n", 2),
        (b'\n\nlog_level = "info', 3),
        (b'log_level = "info"\n# \xff\n', 2),
    ],
)
def test_what_is_not_toml_names_file_and_line(
    content: bytes, line: int, environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "torn.toml"
    file.write_bytes(content)
    with pytest.raises(BadConfig) as caught:
        load(environ, file)
    assert caught.value.message.startswith(f"{file}, line {line}: not ")


def test_a_byte_order_mark_before_the_file_is_skipped(
    environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('\ufefflog_level = "error"\r\n')
    assert load(environ, file).log_level == "error"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_named(encoding: str, environ: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('log_level = "error"\n', encoding=encoding)
    with pytest.raises(BadConfig, match=f"is {encoding.upper()}, not UTF-8") as caught:
        load(environ, file)
    assert f"iconv -f {encoding.upper()} -t UTF-8" in caught.value.hint


def test_a_pipe_as_the_file_is_an_error_and_not_waited_for(
    environ: dict[str, str], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadConfig, match="is not a regular file"):
        load(environ, tmp_path / "pipe")


def test_a_path_may_begin_with_the_home_directory(environ: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, 'database = "~/events/tier2.db"\n')
    assert load(environ, file).database == tmp_path / "events/tier2.db"


def test_a_relative_flag_counts_from_the_working_directory(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environ, database=Path("x.db")).database == tmp_path / "x.db"
