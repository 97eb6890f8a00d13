"""Mix: the event streams that benchmarks send, the same for the same seed.

Per execution 6 `audit`, 5 `stage_completed`, 1 `receipt_emitted`; random 64-hex execution ids;
8 agents; 1 `session_started` per 100 executions and 1 `collision` per 20; JSON fields of 40 to 300
bytes, a quarter of them nested. About 2 % of the durations break a shipped objective, so that the
hooks have something to write. Builds events, sends nothing.

- standard: the receipt comes about 2,000 executions after its stages: all stages are parked first.
- tight: the 12 events of an execution together, the receipt first: nothing is ever parked, however
  the stream is cut into batches.

Three more are made to hurt: late (all receipts at the end, so that everything is parked at once),
agents (tight, of 10,000 agents), large (receipts of 1 MiB, their limit, and nothing else).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from operator import itemgetter
from typing import Any, Literal, TypeAlias

import msgspec

from ggend.slo.objectives import EXECUTION_DURATION, STAGE_DURATIONS
from ggend_schema import (
    Audit,
    Collision,
    Event,
    ReceiptEmitted,
    SessionStarted,
    StageCompleted,
)
from ggend_schema.limits import JSON_BYTES

__all__ = ["Mix", "streams"]

Mix: TypeAlias = Literal["standard", "tight", "late", "agents", "large"]

#: Executions between the stages and the receipt of one, over all producers together.
RECEIPT_GAP = 2_000

#: Executions a session, and executions a collision.
SESSION_EXECUTIONS = 100
COLLISION_EXECUTIONS = 20

#: Events of one execution; sessions and collisions come on top.
EXECUTION_EVENTS = 12

#: Share of the stages and receipts that are over their warning limit.
BREACHING = 0.02

#: Executions over which the events of one are spread in the standard mix.
SPREAD = 8.0

#: Agents of the mix that has many.
MANY_AGENTS = 10_000

#: Executions of another mix for one receipt of the large one.
LARGE_EXECUTIONS = 40

_AGENTS = [f"agent-{number}" for number in range(1, 9)]
_MANY_AGENTS = [f"agent-{number}" for number in range(1, MANY_AGENTS + 1)]
_OPERATIONS = ("validation", "generation", "normalization", "extraction", "emission")
_AUDITED = ("load_ontology", "resolve_imports", "query", "render_template", "write_file", "sign")
_TEXT = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz _/.-", k=1024))


def streams(mix: Mix, *, events: int, producers: int, seed: int = 1) -> list[list[Event]]:
    """Return one stream for each producer, about `events` in all, of whole executions.

    Each has its own executions and sessions, and an equal share of the gap, so that the mix is
    the same however many producers send it.
    """
    executions = max(1, events // EXECUTION_EVENTS // producers)
    gap = RECEIPT_GAP / producers
    return [
        list(_stream(mix, executions, gap, random.Random(f"{mix}-{seed}-{number}")))
        for number in range(producers)
    ]


def _stream(mix: Mix, executions: int, gap: float, rng: random.Random) -> Iterator[Event]:
    if mix == "large":
        return _large(max(1, executions // LARGE_EXECUTIONS), rng)
    agents = _MANY_AGENTS if mix == "agents" else _AGENTS
    placed: list[tuple[float, int, Event]] = []
    tie = count()
    session_id = ""
    for number in range(executions):
        if number % SESSION_EXECUTIONS == 0:
            session_id = f"session-{rng.getrandbits(64):016x}"
            placed.append((number, next(tie), _session(session_id, rng)))
        receipt, others = _execution(session_id, agents, rng)
        if mix in ("tight", "agents"):
            placed += [(number, next(tie), event) for event in (receipt, *others)]
        else:
            moments = sorted(rng.uniform(0, SPREAD) for _ in others)
            placed += [
                (number + moment, next(tie), event)
                for moment, event in zip(moments, others, strict=True)
            ]
            late = executions if mix == "late" else 0
            placed.append((late + number + gap * rng.uniform(0.9, 1.1), next(tie), receipt))
        if number % COLLISION_EXECUTIONS == COLLISION_EXECUTIONS // 2:
            placed.append((number + 0.5, next(tie), _collision(session_id, rng)))
    placed.sort(key=itemgetter(0, 1))
    return (event for _, _, event in placed)


def _large(receipts: int, rng: random.Random) -> Iterator[Event]:
    """Return receipts whose JSON is as long as it may be."""
    text = _TEXT * (JSON_BYTES // len(_TEXT))
    for _ in range(receipts):
        receipt, _ = _execution("session-large", _AGENTS, rng)
        assert isinstance(receipt, ReceiptEmitted)
        yield msgspec.structs.replace(receipt, receipt=text[:-2])  # and its two quotes


def _execution(session_id: str, agents: list[str], rng: random.Random) -> tuple[Event, list[Event]]:
    """Return the receipt of one execution, and its audits and stages in their order."""
    execution_id = f"{rng.getrandbits(256):064x}"
    agent_id = rng.choice(agents)
    failed = rng.random() < 0.05
    receipt = ReceiptEmitted(
        execution_id=execution_id,
        agent_id=agent_id,
        operation=rng.choice(_OPERATIONS),  # type: ignore[arg-type]
        status="failed" if failed else "passed",
        duration_ms=_duration(EXECUTION_DURATION.first, rng),
        manifest_hash=f"{rng.getrandbits(256):064x}",
        ontology_hash=f"{rng.getrandbits(256):064x}",
        files_generated=rng.randrange(40),
        files_modified=rng.randrange(10),
        receipt=_json(rng),
        error_message="SHACL validation failed: sh:minCount" if failed else None,
        environment="dev",
        session_id=session_id,
    )
    others: list[Event] = []
    audits = iter(_AUDITED)
    for stage, objective in STAGE_DURATIONS.items():
        others.append(_audit(next(audits), execution_id, agent_id, session_id, rng))
        others.append(
            StageCompleted(
                execution_id=execution_id,
                stage=stage,  # type: ignore[arg-type]
                duration_ms=_duration(objective.first, rng),
                status="passed",
                input_size_bytes=rng.randrange(100_000),
                output_size_bytes=rng.randrange(100_000),
            )
        )
    others.append(_audit(next(audits), execution_id, agent_id, session_id, rng))
    return receipt, others


def _duration(warning: float, rng: random.Random) -> int:
    if rng.random() < BREACHING:
        return int(warning * rng.uniform(1.01, 4))
    return int(warning * rng.uniform(0.05, 0.95))


def _audit(
    operation: str, execution_id: str, agent_id: str, session_id: str, rng: random.Random
) -> Audit:
    return Audit(
        agent_id=agent_id,
        operation=operation,
        status="completed",
        duration_ms=rng.randrange(500),
        context=_json(rng),
        execution_id=execution_id,
        session_id=session_id,
    )


def _session(session_id: str, rng: random.Random) -> SessionStarted:
    return SessionStarted(session_id=session_id, agent_count=len(_AGENTS), context=_json(rng))


def _collision(session_id: str, rng: random.Random) -> Collision:
    one, other = rng.sample(_AGENTS, 2)
    return Collision(
        session_id=session_id,
        agent_id_1=one,
        agent_id_2=other,
        collision_type="file_conflict",
        description=f"both write src/generated/module_{rng.randrange(200)}.rs",
        severity="warning",
    )


def _json(rng: random.Random) -> dict[str, Any]:
    """Return a JSON object of 40 to 300 bytes as compact text."""
    value: dict[str, Any] = {"n": rng.randrange(1000, 10_000), "ok": True}
    if rng.random() < 0.25:
        value["files"] = [f"f{rng.randrange(100):02}", f"f{rng.randrange(100):02}"]
    value["note"] = ""
    size = len(msgspec.json.encode(value))
    start = rng.randrange(256)
    value["note"] = _TEXT[start : start + max(0, rng.randrange(40, 301) - size)]
    return value
