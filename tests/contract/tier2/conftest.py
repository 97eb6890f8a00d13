"""What a run against named targets prints: one line for each difference, and a count.

Names of tests, dots and tracebacks are for those who work on the suite.
"""

from __future__ import annotations

import pytest


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Count without printing a letter."""
    if not config.getoption("target"):
        return None
    counts = report.when == "call" or not report.passed
    return (report.outcome if counts else ""), "", ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the differences, each once."""
    targets = terminalreporter.config.getoption("target")
    if not targets:
        return
    differences: dict[str, dict[str, None]] = {target: {} for target in targets}
    for report in terminalreporter.stats.get("failed", []):
        crash = getattr(report.longrepr, "reprcrash", None)
        message = str(report.longrepr) if crash is None else crash.message
        line = " ".join(message.removeprefix("AssertionError: ").removeprefix("Failed: ").split())
        differences[dict(report.user_properties)["target"]].setdefault(line)
    for target, lines in differences.items():
        terminalreporter.section(target)
        for line in lines or ["no difference"]:
            terminalreporter.line(line)
