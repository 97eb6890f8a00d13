"""clients/shell/ggend.sh as scripts use it: real bash, real tools, a real daemon."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.daemon_process import Daemon
from support.patience import PATIENCE_SECONDS
from support.tools import need

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "clients" / "shell"

#: What bash and the functions use beside the tool that sends.
_COMMANDS = ("cat", "date", "env", "iconv", "sleep")


def run(place: Path, script: str, *, ways: tuple[str, ...] = (), **environ: str) -> str:
    """Run a script that sources the functions, under the strictest options; return its output."""
    ran = subprocess.run(
        [
            shutil.which("bash") or "bash",
            "-c",
            f"set -Eeuo pipefail\n. {FOLDER}/ggend.sh\n{script}",
        ],
        env={
            **{key: value for key, value in os.environ.items() if key[:6] != "GGEND_"},
            "PATH": os.fspath(tools(place, ways or ("socat", "nc", "python3"))),
            "GGEND_SOCKET": os.fspath(place / "g.sock"),
            "GGEND_SPOOL_DIR": os.fspath(place / "spool"),
            "GGEND_TIMEOUT": str(int(PATIENCE_SECONDS)),  # a disk that stalls is no failure here
            **environ,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def tools(place: Path, ways: tuple[str, ...]) -> Path:
    """Make a PATH that has these programs and no others that send."""
    folder = place / "bin"
    folder.mkdir(exist_ok=True)
    for name in (*_COMMANDS, *ways):
        found = shutil.which(name)
        if name == "ggend":
            found = os.fspath(Path(sys.executable).with_name("ggend"))
        elif name == "python3":
            found = os.path.realpath(sys.executable)
        if found and not (folder / name).exists():
            (folder / name).symlink_to(found)
    return folder


def operations(daemon: Daemon) -> list[object]:
    return [row[0] for row in daemon.query("SELECT operation FROM audit_log ORDER BY id")]


@pytest.mark.parametrize("way", ["socat", "nc", "python3"])
def test_each_way_brings_the_event(daemon: Daemon, way: str) -> None:
    if way != "python3":
        need(way)
    run(
        daemon.place,
        "ggend_emit audit agent_id=a operation='by any way' status=completed duration_ms=12",
        ways=(way,),
        GGEND_STRICT="1",
    )
    assert daemon.query("SELECT agent_id, operation, duration_ms FROM audit_log") == [
        ("a", "by any way", 12)
    ]


def test_any_text_arrives_as_it_is(daemon: Daemon) -> None:
    text = "".join(chr(n) for n in range(1, 256)) + "€ \\u0041 \\\\ $(date) `date` * ? ~ 😀"
    run(daemon.place, 'ggend_emit audit agent_id=a "operation=$TEXT" status=completed', TEXT=text)
    assert operations(daemon) == [text]


def test_bytes_that_are_no_text_do_not_cost_the_event(daemon: Daemon) -> None:
    need("iconv")
    run(daemon.place, "ggend_emit audit agent_id=a operation=$'a\\xffb' status=completed")
    assert operations(daemon) == ["ab"]


def test_a_run_makes_its_rows_with_what_it_took(daemon: Daemon) -> None:
    run(
        daemon.place,
        """
        ggend_session_begin 2
        ggend_execution_begin generation
        ggend_stage_begin extract
        ggend_stage_begin emit
        sleep 0.05
        ggend_stage_end
        sleep 0.05
        ggend_stage_end failed error_message="no such thing"
        ggend_execution_end partial files_generated=3 'receipt:={"files":
            ["a"]}'
        ggend_session_end failed
        """,
        GGEND_AGENT="me",
    )
    stages = daemon.query("SELECT stage, status, duration_ms FROM pipeline_metrics ORDER BY id")
    assert [stage[:2] for stage in stages] == [("μ₃_emit", "passed"), ("μ₂_extract", "failed")]
    assert 50 <= int(str(stages[0][2])) <= int(str(stages[1][2]))
    assert int(str(stages[1][2])) >= 100
    assert daemon.query(
        "SELECT agent_id, status, files_generated, duration_ms >= 100, receipt_json, "
        "session_id = (SELECT session_id FROM workflow_sessions) FROM receipts"
    ) == [("me", "partial", 3, 1, '{"files":["a"]}', 1)]
    assert daemon.query("SELECT status, agent_count FROM workflow_sessions") == [("failed", 2)]


def test_a_script_without_a_daemon_goes_on_and_knows_what_was_dropped(place: Path) -> None:
    said = run(
        place,
        """
        ggend_emit audit agent_id=a operation=x status=completed
        ggend_emit audit nonsense
        ggend_stage_end
        ggend_execution_end
        echo "$GGEND_DROPPED"
        """,
    )
    assert said == "3\n"


def test_strict_functions_say_what_is_not_stored(place: Path) -> None:
    said = run(
        place,
        "ggend_emit audit agent_id=a operation=x status=completed || echo not stored",
        GGEND_STRICT="1",
    )
    assert said == "not stored\n"


def test_what_no_daemon_takes_is_kept_by_the_command(place: Path) -> None:
    run(
        place,
        "ggend_emit audit agent_id=a operation=kept status=completed; echo $GGEND_DROPPED",
        ways=("socat", "ggend"),
    )
    assert len(list((place / "spool").glob("*.segment"))) == 1


def test_the_script_keeps_its_options_traps_and_variables(daemon: Daemon) -> None:
    script = """
        state() { set +o; shopt; trap -p; echo "$IFS"; compgen -v | grep -Evi "$NOT_MINE"; }
        IFS=,
        trap 'echo never' ERR
        REPLY=mine
        before=$(state)
        ggend_session_begin 1
        ggend_execution_begin watch
        ggend_stage_begin extract
        ggend_stage_end passed
        ggend_execution_end
        ggend_session_end
        after=$(state)
        [[ $before == "$after" && $REPLY == mine ]] && echo same
        wait; jobs
        """
    (daemon.place / "bin").mkdir()
    (daemon.place / "bin" / "grep").symlink_to(shutil.which("grep") or "grep")
    # What bash itself changes all the time, and what the functions have announced.
    not_mine = (
        "^(_|_?ggend.*|bash.*|func.*|lineno|pipestatus|s?random|seconds|epoch.*|before|after)$"
    )
    assert run(daemon.place, script, GGEND_AGENT="a", NOT_MINE=not_mine) == "same\n"


def test_disabled_functions_do_nothing(daemon: Daemon) -> None:
    run(
        daemon.place,
        "ggend_emit audit agent_id=a operation=x status=completed",
        GGEND_DISABLED="1",
    )
    assert operations(daemon) == []


def test_the_example_of_the_folder_runs(daemon: Daemon) -> None:
    [example] = re.findall(r"```bash\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    run(daemon.place, example)
    assert operations(daemon) == ["write src/lib.rs"]
    assert daemon.query("SELECT files_generated FROM receipts") == [(3,)]


def test_shellcheck_finds_nothing() -> None:
    need("shellcheck")
    ran = subprocess.run(
        ["shellcheck", "-x", *sorted(FOLDER.glob("*.sh"))], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (0, "")


@pytest.mark.parametrize("text", ["x := 5", "a=b:=c", "μ, and line breaks\n\n", "[1]:=2"])
def test_a_text_is_not_taken_for_json_and_keeps_its_end(daemon: Daemon, text: str) -> None:
    run(daemon.place, 'ggend_emit audit agent_id=a "operation=$TEXT" status=completed', TEXT=text)
    assert operations(daemon) == [text]


def test_a_number_may_have_zeros_before_it(daemon: Daemon) -> None:
    run(daemon.place, "ggend_emit audit agent_id=a operation=x status=completed duration_ms=007")
    assert daemon.query("SELECT duration_ms FROM audit_log") == [(7,)]


def test_a_long_error_is_cut_to_what_the_daemon_takes(daemon: Daemon) -> None:
    run(
        daemon.place,
        "printf -v long '%*s' 12000 ''\n"
        'ggend_emit audit agent_id=a operation=x status=failed "error_message=${long// /μ}"',
        LC_ALL="C.UTF-8",
    )
    assert daemon.query("SELECT length(error_message) FROM audit_log") == [(10_000,)]


def test_what_the_script_calls_its_own_variables_does_not_matter(daemon: Daemon) -> None:
    run(
        daemon.place,
        "readonly line=1 socket=2 key=3 value=4 type=5 text=6 code=7 answer=8 name=9\n"
        "ggend_emit audit agent_id=a operation=x status=completed",
    )
    assert operations(daemon) == ["x"]


def test_the_last_match_of_the_script_stays(daemon: Daemon) -> None:
    said = run(
        daemon.place,
        "[[ abc =~ b(c) ]]\n"
        "ggend_emit audit agent_id=a operation=x status=completed duration_ms=1\n"
        'echo "${BASH_REMATCH[1]}"',
    )
    assert said == "c\n"


@pytest.mark.parametrize("letter", list(",:!\"' \\[({<"))
def test_socat_finds_a_socket_of_any_name(daemon: Daemon, letter: str) -> None:
    need("socat")
    odd = daemon.place / f"an{letter}{letter}odd one"
    odd.symlink_to(daemon.socket)
    run(
        daemon.place,
        "ggend_emit audit agent_id=a operation=x status=completed",
        ways=("socat",),
        GGEND_SOCKET=os.fspath(odd),
    )
    assert operations(daemon) == ["x"]


def test_an_execution_inside_another_gives_its_id_back(daemon: Daemon) -> None:
    said = run(
        daemon.place,
        "ggend_execution_begin generation\nggend_execution_end files_generated=2\n"
        'echo "$GGEND_EXECUTION"',
        GGEND_EXECUTION="outer",
        GGEND_AGENT="a",
    )
    assert said == "outer\n"
    assert daemon.query("SELECT status, files_generated FROM receipts") == [("passed", 2)]


def test_strict_says_that_an_event_was_rejected(daemon: Daemon) -> None:
    said = run(
        daemon.place,
        "ggend_emit audit agent_id=a operation=x status=nonsense || echo $?",
        GGEND_STRICT="1",
    )
    assert said == "1\n"


def test_a_large_event_goes_through_python_too(daemon: Daemon) -> None:
    run(
        daemon.place,
        "printf -v long '%*s' 300000 ''\n"
        'ggend_emit audit agent_id=a operation=x status=completed "context:=\\"$long\\""',
        ways=("python3",),
    )
    assert operations(daemon) == ["x"]


@pytest.mark.parametrize(("value", "stored"), [("0", 1), ("no", 1), ("1", 0)])
def test_a_switch_is_read_as_the_python_client_reads_it(
    daemon: Daemon, value: str, stored: int
) -> None:
    run(
        daemon.place,
        "ggend_emit audit agent_id=a operation=x status=completed",
        GGEND_DISABLED=value,
    )
    assert len(operations(daemon)) == stored
