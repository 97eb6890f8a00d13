"""`ggend stats`, `ggend analytics` and `ggend export` on real databases."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ggend.cli.app import app
from ggend.errors import GgendError
from ggend.queries.schema import PUBLIC_TABLES
from support.daemon_process import Daemon
from support.framed_peer import audit, line_of, receipt
from support.processes import run_ggend
from support.version_1 import TABLES, make_version_1


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("version1") / "old.db"
    make_version_1(path)
    return path


@pytest.fixture
def old(made_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made_once, tmp_path))


def ggend(*arguments: object) -> Result:
    """Run a command in this process; what it printed is in `stdout`."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(*arguments: object) -> str:
    ran = ggend(*arguments)
    assert ran.exit_code == 0, ran.output + repr(ran.exception)
    return ran.stdout


def rows_of(path: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()


def values_of(text: str) -> list[tuple[object, ...]]:
    return [tuple(json.loads(line).values()) for line in text.splitlines()]


def test_stats_counts_the_rows_of_version_1(old: Path) -> None:
    found = json.loads(answer("stats", "--database", old, "--format", "json"))
    assert found["rows"] == {table: len(rows_of(old, table)) for table in TABLES}
    assert found["agents"] == 7
    assert found["receipts_by_status"] == {
        "cancelled": 10,
        "failed": 10,
        "partial": 10,
        "passed": 20,
    }
    assert found["accounts"] is None
    assert "1.0.0" in answer("stats", "--database", old)


def test_the_commands_read_beside_a_running_daemon(daemon: Daemon) -> None:
    daemon.exchange(
        b'{"type":"receipt_emitted","execution_id":"e","agent_id":"me","operation":"watch",'
        b'"status":"passed","duration_ms":30}\n'
        b'{"type":"stage_completed","execution_id":"later","stage":"emit","status":"passed",'
        b'"duration_ms":3}\n'
    )

    def run(*arguments: str) -> str:
        ran = run_ggend(*arguments, environ={"GGEND_DATABASE": os.fspath(daemon.database)})
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    stats = json.loads(run("stats", "--format", "json"))
    assert stats["parked"] == stats["accounts"]["parked"] == 1
    assert stats["accounts"]["last_sequence"] == 2
    analytics = json.loads(run("analytics", "--format", "json"))
    assert analytics["executions"]["p95_ms"] == 30
    tables = [json.loads(line) for line in run("export", "all", "--own").splitlines()]
    assert {"receipts", "parked_events", "producers", "database_identity"} <= {
        row["table"] for row in tables
    }
    (parked,) = (row for row in tables if row["table"] == "parked_events")
    stored = daemon.query("SELECT payload FROM parked_events")[0][0]
    assert bytes.fromhex(parked["payload"]["$blob"]) == stored


@pytest.mark.parametrize("form", ["table", "json", "markdown"])
def test_analytics_of_version_1_in_each_form(old: Path, form: str) -> None:
    text = answer(
        "analytics", "-d", old, "--until", "2026-01-30", "--period", "7d", "--format", form
    )
    assert "execution" in text
    assert "agent-3" in text
    assert "SHACL" in text
    if form == "json":
        assert json.loads(text)["executions"]["executions"] == 50


def test_analytics_of_one_agent_names_no_other(old: Path) -> None:
    text = answer("analytics", "-d", old, "--until", "2026-01-30", "--agent", "agent-3")
    assert "agent-3" in text
    assert "agent-4" not in text


def test_a_period_before_1970_is_a_mistake_of_usage(old: Path) -> None:
    ran = ggend("analytics", "-d", old, "--until", "1970-01-20", "--period", "30d")
    assert isinstance(ran.exception, GgendError)
    assert ran.exception.exit_status == os.EX_USAGE


@pytest.mark.parametrize("table", TABLES)
def test_ndjson_holds_every_value_as_it_is_stored(old: Path, table: str) -> None:
    assert values_of(answer("export", table, "-d", old)) == rows_of(old, table)


def test_json_is_the_same_as_ndjson(old: Path) -> None:
    lines = values_of(answer("export", "audit_log", "-d", old))
    (whole,) = [json.loads(answer("export", "audit_log", "-d", old, "-f", "json"))]
    assert [tuple(row.values()) for row in whole] == lines


def test_csv_tells_nothing_from_the_empty_text(old: Path, tmp_path: Path) -> None:
    output = tmp_path / "audit.csv"
    answer("export", "audit_log", "-d", old, "-f", "csv", "-o", output)
    text = output.read_text(encoding="utf-8")
    stored = rows_of(old, "audit_log")
    parsed = list(csv.reader(io.StringIO(text)))[1:]
    assert parsed == [["" if value is None else str(value) for value in row] for row in stored]
    (odd,) = (line for line in text.splitlines() if '"no time"' in line)
    assert odd.split(",")[1] == '""'  # the timestamp is an empty text
    assert odd.split(",")[5] == ""  # there is no duration


def test_a_value_that_json_has_no_word_for_is_marked(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(
            "INSERT INTO slo_violations (execution_id, metric, target_value, actual_value, "
            "severity, timestamp, description) VALUES ('e', CAST(x'ff' AS TEXT), 9e999, 0.1, "
            "'warning', char(155) || '\N{RIGHT-TO-LEFT OVERRIDE}', x'00ff')"
        )
        connection.commit()
    line = answer("export", "slo_violations", "-d", old).splitlines()[-1]
    row = json.loads(line)
    assert row["metric"] == {"$text": "ff"}
    assert row["target_value"] == {"$real": "inf"}
    assert row["actual_value"] == 0.1
    assert row["description"] == {"$blob": "00ff"}
    assert row["timestamp"] == "\x9b\N{RIGHT-TO-LEFT OVERRIDE}"
    assert line.isprintable()
    last = answer("export", "slo_violations", "-d", old, "-f", "csv").splitlines()[-1]
    assert "$text:ff,$real:inf,0.1," in last
    assert "$blob:00ff" in last


def test_since_and_until_understand_every_notation(old: Path) -> None:
    arguments = ("export", "receipts", "-d", old, "--since", "2026-01-29T00:00:10Z")
    kept = values_of(answer(*arguments, "--until", "2026-01-29T00:00:20Z"))
    # 0.75 s apart; the notations without milliseconds cut them off.
    assert [row[0] for row in kept] == [
        number + 1
        for number in range(50)
        if 10_000 <= number * 750 - (number * 750 % 1000 if number % 4 in (1, 2) else 0) < 20_000
    ]


def test_all_writes_one_file_for_each_table(old: Path, tmp_path: Path) -> None:
    output = tmp_path / "exported"
    answer("export", "all", "-d", old, "--output", output)
    assert {path.name for path in output.iterdir()} == {f"{table}.ndjson" for table in TABLES}
    for table in TABLES:
        text = (output / f"{table}.ndjson").read_text(encoding="utf-8")
        assert values_of(text) == rows_of(old, table)


def test_all_is_the_public_tables_and_a_view_has_its_name(daemon: Daemon) -> None:
    database = daemon.database
    tables = {
        json.loads(line)["table"] for line in answer("export", "all", "-d", database).splitlines()
    }
    assert tables <= set(PUBLIC_TABLES)
    for view in ("recent_executions", "agent_performance_summary", "pipeline_stage_performance"):
        rows = [json.loads(line) for line in answer("export", view, "-d", database).splitlines()]
        assert len(rows) == daemon.query(f"SELECT COUNT(*) FROM {view}")[0][0]
    wrong = ggend("export", "receits", "-d", database)
    assert "did you mean `receipts`" in str(wrong.exception)


def test_the_schema_lists_tables_and_describes_one(daemon: Daemon) -> None:
    database = daemon.database
    listed = json.loads(answer("schema", "-d", database, "-f", "json"))
    public = [row["name"] for row in listed if row["use"] == "public table"]
    assert public == list(PUBLIC_TABLES)
    assert {"producers", "stage_removals"} <= {
        row["name"] for row in listed if row["use"] == "of ggend"
    }
    columns = {
        row["column"]: row
        for row in json.loads(answer("schema", "pipeline_metrics", "-d", database, "-f", "json"))
    }
    assert columns["execution_id"]["references"] == "receipts.execution_id"
    assert (columns["duration_ms"]["type"], columns["duration_ms"]["required"]) == (
        "INTEGER",
        "yes",
    )
    sql = answer("schema", "receipts", "--sql", "-d", database)
    assert sql.startswith("CREATE TABLE receipts (")
    assert "CREATE INDEX idx_receipts_status" in sql
    assert "did you mean `audit_log`" in str(ggend("schema", "audit_lg", "-d", database).exception)


def test_parquet_is_read_back(daemon: Daemon, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    for table in ("receipts", "producers", "agent_performance_summary", "agent_memory"):
        file = tmp_path / f"{table}.parquet"
        answer("export", table, "-d", daemon.database, "--format", "parquet", "-o", file)
        found = parquet.read_table(file).to_pylist()
        assert [tuple(row.values()) for row in found] == daemon.query(f"SELECT * FROM {table}")


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (["accounts"], ["account", "lost"]),
        (["config", "show"], ["key", "value"]),
        (["query", "executions"], ["execution_id", "status"]),
    ],
)
def test_columns_are_chosen_in_json_too(
    arguments: list[str], columns: list[str], daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGEND_DATABASE", str(daemon.database))
    daemon.exchange(line_of(receipt("e-1")))
    rows = json.loads(answer(*arguments, "--columns", ",".join(columns), "--format", "json"))
    assert rows
    assert all(list(row) == columns for row in rows)


@pytest.mark.parametrize(
    ("name", "beginning"),
    [("r.csv", '"id",'), ("r.json", "[\n"), ("r.ndjson", '{"id":'), ("r.txt", '{"id":')],
)
def test_the_ending_of_the_file_names_the_format(
    name: str, beginning: str, old: Path, tmp_path: Path
) -> None:
    answer("export", "receipts", "-d", old, "-o", tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(beginning)


def test_parquet_needs_a_file(daemon: Daemon) -> None:
    ran = ggend("export", "receipts", "-d", daemon.database, "--format", "parquet")
    assert isinstance(ran.exception, GgendError)
    assert ran.exception.hint == "give --output receipts.parquet"


def test_an_export_that_fails_leaves_the_older_file_alone(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "receipts.ndjson"
    output.write_text("older")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ran = ggend("export", "receipts", "-d", old, "-o", output)
    assert isinstance(ran.exception, GgendError)
    assert ran.exception.exit_status == os.EX_IOERR
    assert output.read_text() == "older"
    assert [path for path in tmp_path.iterdir() if path.suffix == ".partial"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["receipt"],
        ["all", "--format", "csv"],
        ["receipts", "--since", "yesterday"],
        ["sqlite_sequence"],
    ],
)
def test_an_export_that_makes_no_sense_is_refused(old: Path, arguments: list[str]) -> None:
    ran = ggend("export", *arguments, "-d", old)
    assert isinstance(ran.exception, GgendError)
    assert ran.exception.exit_status == os.EX_USAGE


def test_producers_that_lie_about_their_losses_overflow_no_sum(daemon: Daemon) -> None:
    """`stats`, `accounts` and `check` add up what no integer of SQLite holds."""
    lie = 10**15  # as it was once allowed
    liars = 2**63 // lie + 2
    daemon.exchange(line_of(audit("agent")))
    daemon.stop()
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO producers "
            "(kind, producer, uid, first_seen, last_seen, last_sequence, lost) "
            "SELECT 'producer', CAST(printf('%016d', i) AS BLOB), 0, '', '', ?, ? FROM n",
            (liars, lie, lie),
        )
    environ = {"GGEND_DATABASE": os.fspath(daemon.database)}
    for command in (["stats"], ["accounts", "--limit", "1"], ["check"]):
        ran = run_ggend(*command, environ=environ)
        assert ran.returncode == 0, ran.stderr
    ran = run_ggend("stats", "--format", "json", environ=environ)
    assert json.loads(ran.stdout)["accounts"]["lost"] == liars * lie


def test_a_section_of_a_report_is_printed_in_every_format(old: Path) -> None:
    agents = ["analytics", "-d", old, "--since", "2026-01-23", "--until", "2026-01-30"]
    rows = list(csv.reader(answer(*agents, "--section", "agents", "-f", "csv").splitlines()))
    assert rows[0][:3] == ["agent", "executions", "failed"]
    assert rows[0][-4:] == ["p50_ms", "p90_ms", "p95_ms", "p99_ms"]
    lines = [json.loads(line) for line in answer(*agents, "-f", "ndjson").splitlines()]
    assert {line["section"] for line in lines} >= {"executions", "trend", "agents", "stages"}
    assert sum(line["section"] == "agents" for line in lines) == len(rows) - 1
    refused = ggend(*agents, "-f", "csv")
    assert isinstance(refused.exception, GgendError)
    assert "--section takes one of executions, trend" in refused.exception.hint
    wrong = ggend(*agents, "--section", "agent")
    assert "did you mean `agents`" in str(wrong.exception)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--since", "7d", "--period", "7d"], "--period and --since cannot be combined"),
        (["--since", "2026-02-01", "--until", "2026-01-30"], "the period is empty"),
        (["--period", "soon"], "'soon' is not an age"),
    ],
)
def test_a_period_that_makes_no_sense_is_a_mistake_of_usage(
    more: list[str], said: str, old: Path
) -> None:
    ran = ggend("analytics", "-d", old, *more)
    assert isinstance(ran.exception, GgendError)
    assert (ran.exception.exit_status, ran.exception.message) == (os.EX_USAGE, said)


def test_a_report_of_collisions_ends_before_until(old: Path) -> None:
    everything = json.loads(answer("report", "collisions", "-d", old, "-f", "json"))
    days = [day["day"] for day in everything["trend"]]
    before = json.loads(
        answer("report", "collisions", "-d", old, "-f", "json", "--until", days[-1])
    )
    assert [day["day"] for day in before["trend"]] == days[:-1]
