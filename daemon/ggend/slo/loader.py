"""Loader: thresholds in TOML, checked as a whole before any of it counts.

A file replaces the shipped objectives. Each `[[threshold]]` has a `metric`, `warning` or
`critical` or both, and may have `below`, `operation` and `environment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ggend.errors import BadConfig
from ggend.slo.objectives import (
    EXECUTION_COLUMNS,
    METRICS,
    SHIPPED,
    STAGE_COLUMNS,
    Objectives,
    Threshold,
)
from ggend.toml_file import read_toml
from ggend_schema.events import STAGES
from ggend_schema.explained import taught
from ggend_schema.spelling import did_you_mean, nearest

__all__ = ["load_objectives"]

_EXAMPLE = (
    'an objective has three lines: [[threshold]], metric = "execution.duration_ms", warning = 2000'
)

_STAGE_NAMES = [spelling for spelling in STAGES if spelling.isascii()]

#: Every metric, spelled as keyboards can.
_METRIC_NAMES = [
    *(f"execution.{column}" for column in EXECUTION_COLUMNS),
    *(f"stage.{stage}.{column}" for stage in _STAGE_NAMES for column in STAGE_COLUMNS),
]

#: All of them in one line.
_METRIC_FORMS = (
    f"{' and '.join(f'execution.{column}' for column in EXECUTION_COLUMNS)}, and for a stage of "
    f"{', '.join(_STAGE_NAMES)}: {', '.join(f'stage.STAGE.{column}' for column in STAGE_COLUMNS)}"
)


def load_objectives(path: Path | None) -> Objectives:
    """Read and check the file; without one, the shipped objectives. Raises BadConfig."""
    if path is None:
        return SHIPPED
    table = read_toml(path, "file of objectives", example=_EXAMPLE)
    unknown = [key for key in table if key != "threshold"]
    if unknown:
        raise BadConfig(
            f"{path}: unknown key `{unknown[0]}`", hint=_hint(unknown[0], ["threshold"])
        )
    found = table.get("threshold", [])
    if not isinstance(found, list):
        raise BadConfig(f"{path}: `threshold` must be a list of tables", hint=_EXAMPLE)
    return Objectives(_checked(path, found))


def _checked(path: Path, tables: Sequence[object]) -> list[Threshold]:
    thresholds: list[Threshold] = []
    for number, table in enumerate(tables, 1):
        place = f"{path}, threshold {number}"
        threshold = _threshold(table, place)
        threshold = msgspec.structs.replace(threshold, metric=_spelled(threshold.metric, place))
        if threshold.warning is None and threshold.critical is None:
            raise BadConfig(f"{place} has no limit", hint="give `warning`, `critical` or both")
        _expect_order(threshold, place)
        for earlier, other in enumerate(thresholds, 1):
            if other.metric == threshold.metric and other.fits(
                threshold.operation, threshold.environment
            ):
                raise BadConfig(
                    f"{place} never applies: threshold {earlier} matches the same executions",
                    hint="the first matching threshold applies: put the narrower one first",
                )
        thresholds.append(threshold)
    return thresholds


def _threshold(table: object, place: str) -> Threshold:
    keys = Threshold.__struct_fields__
    if not isinstance(table, dict):
        raise BadConfig(f"{place} is not a table", hint=_EXAMPLE)
    for key in table:
        if key not in keys:
            hint = f"{_hint(key, keys)}; its keys are {', '.join(keys)}"
            raise BadConfig(f"{place}: unknown key `{key}`", hint=hint)
    if "metric" not in table:
        raise BadConfig(f"{place}: `metric` is missing", hint=_EXAMPLE)
    try:
        return msgspec.convert(table, Threshold)
    except msgspec.ValidationError as error:
        said = taught(Threshold, "threshold", str(error)).removeprefix("threshold.")
        raise BadConfig(f"{place}: {said}", hint=_EXAMPLE) from error


def _hint(key: str, known: Sequence[str]) -> str:
    question = did_you_mean(key, known)
    return f"{question} {_EXAMPLE}" if question else _EXAMPLE


def _spelled(metric: str, place: str) -> str:
    """Expand ASCII stage names to their stored spelling."""
    prefix, _, rest = metric.partition(".")
    stage, _, column = rest.rpartition(".")
    if prefix == "stage":
        metric = f"stage.{STAGES.get(stage, stage)}.{column}"
    if metric not in METRICS:
        similar = nearest(metric, _METRIC_NAMES, cutoff=0)
        raise BadConfig(
            f"{place}: there is no metric `{metric}`",
            hint=f"the nearest metric is `{similar}`; the metrics are {_METRIC_FORMS}",
        )
    return metric


def _expect_order(threshold: Threshold, place: str) -> None:
    if threshold.warning is None or threshold.critical is None:
        return
    if threshold.direction * (threshold.critical - threshold.warning) <= 0:
        beyond = "below" if threshold.below else "above"
        raise BadConfig(
            f"{place}: critical ({threshold.critical:g}) is not {beyond} "
            f"warning ({threshold.warning:g})",
            hint="a value beyond `critical` is only a critical breach",
        )
