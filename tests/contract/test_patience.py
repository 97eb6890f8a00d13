"""No test judges how long something took, and none gives up before `PATIENCE_SECONDS`.

The figures belong to `./dev bench`. A line whose short limit or pause is the point of the test
says so in a comment: `expected to run out`, or why it pauses.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]

#: The folders with tests, and the modules that they share.
_FILES = sorted(
    path
    for folder in ("unit/**", "contract/**", "integration/**", "faults/**", ".")
    for path in _TESTS.glob(f"{folder}/*.py")
    if path not in (Path(__file__), _TESTS / "demo.py")
)

_CLOCKS = frozenset({"monotonic", "monotonic_ns", "perf_counter", "process_time", "thread_time"})

#: Methods and functions whose first argument is a limit in seconds.
_LIMITED = frozenset({"wait", "join", "settimeout", "alarm", "communicate", "fail_after"})


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_TESTS)))
def test_no_test_judges_a_time_or_is_in_a_hurry(path: Path) -> None:
    assert list(_hasty(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("assert time.monotonic() - began < 5", "line 1: an assertion about a clock"),
        ("assert longest < perf_counter() - began", "line 1: an assertion about a clock"),
        ("process.wait(15)", "line 1: a limit of 15 s"),
        ("subprocess.run(command, timeout=0.5)", "line 1: a limit of 0.5 s"),
        ("time.sleep(0.3)", "line 1: a pause"),
        ("'client.flush(20)'", "line 1: a limit of 20 s in a program"),
        ("'assert monotonic() - began < 5'", "line 1: an assertion about a clock in a program"),
    ],
)
def test_what_is_hasty_is_found(line: str, says: str) -> None:
    assert list(_hasty(line)) == [says]


@pytest.mark.parametrize(
    "line",
    [
        "process.wait(PATIENCE_SECONDS)",
        "process.wait(0.5)  # expected to run out",
        "await asyncio.sleep(0)",
        "time.sleep(0.1)  # the pace is the point",
    ],
)
def test_what_waits_for_an_event_is_not(line: str) -> None:
    assert list(_hasty(line)) == []


def _hasty(source: str) -> Iterator[str]:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for complaint in _hasty_program(node.value):
                yield f"line {line}: {complaint} in a program"
        elif line and "#" not in lines[line - 1]:
            if isinstance(node, ast.Assert) and _looks_at_a_clock(node.test):
                yield f"line {line}: an assertion about a clock"
            elif isinstance(node, ast.Call):
                yield from (f"line {line}: {complaint}" for complaint in _hasty_call(node))


def _hasty_program(text: str) -> Iterator[str]:
    """Look into a program that a test runs in a process of its own."""
    try:
        tree = ast.parse(textwrap.dedent(text))
    except (SyntaxError, ValueError):
        return
    lines = textwrap.dedent(text).splitlines()
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if not line or "#" in lines[line - 1]:
            continue
        if isinstance(node, ast.Assert) and _looks_at_a_clock(node.test):
            yield "an assertion about a clock"
        elif isinstance(node, ast.Call) and _name(node.func) == "flush":
            yield from _limits(node.args[:1])


def _hasty_call(call: ast.Call) -> Iterator[str]:
    name = _name(call.func)
    if name == "sleep" and not (call.args and _is_zero(call.args[0])):
        yield "a pause"
    limits = [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
    yield from _limits(limits + (call.args[:1] if name in _LIMITED else []))


def _limits(values: list[ast.expr]) -> Iterator[str]:
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, int | float) and value.value:
            yield f"a limit of {value.value} s"


def _looks_at_a_clock(expression: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Call) and _name(node.func) in _CLOCKS for node in ast.walk(expression)
    )


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_zero(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value == 0
