"""Receipt documents: what a receipt of ggen's simulator and CLI is as events.

Never opens a file, a socket or a database: a JSON value in, events out.

A document is a receipt object, bare or as `{"receipt": {…}}`. What belongs to it may stand in the
receipt, beside it, or in an object such as `metadata` in one of the two. It becomes one
receipt_emitted and a stage_completed for each stage. A document is a permanent producer of its
own, whose id `document_producer` derives from its content; the receipt is its number 1. A wrapper
that holds nothing but the receipt is no content.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

import msgspec

from ggend.importers.json_texts import canonical_json
from ggend.importers.receipt_words import (
    DRY_RUN,
    SKIPPED,
    known_statuses,
    nearest_operation,
    plain_word,
    stage_status,
    status,
)
from ggend_schema import limits
from ggend_schema.codec import DECODE_ERRORS, decode_event, encode_event
from ggend_schema.errors import InvalidEvent
from ggend_schema.events import (
    EVENT_TYPES,
    STAGES,
    DurationSource,
    Event,
    Operation,
    ReceiptEmitted,
    ReceiptStatus,
    Stage,
    StageCompleted,
    StageStatus,
)
from ggend_schema.portable import portable
from ggend_schema.rows import row_of
from ggend_schema.spelling import or_nearest
from ggend_schema.timestamps import format_ms, parse_us
from ggend_schema.value_words import shown

__all__ = ["DEFAULT_AGENT", "Document", "UnreadableDocument", "read_document"]

#: The agent of receipts that name none.
DEFAULT_AGENT = "ggen"

#: Objects that may hold what belongs to the receipt that they stand in, or beside.
_PLACES = ("metadata", "metrics", "execution", "timing", "performance", "summary", "pipeline")

_STAGES = ("pipeline_stages", "pipeline", "stages")
_DURATIONS = ("total_duration_ms", "duration_ms")

#: A hash may name its algorithm.
_HASH = re.compile(r"(?:[a-z0-9-]+:)?([0-9a-fA-F]{1,128})", re.ASCII)

#: What `portable` makes of an integer over 64 bits.
_LARGE = re.compile(r"-?[0-9]{19,}", re.ASCII)

#: Names of stages as they are stored, by the spellings that are accepted; and their order.
_STAGE_NAMES = {plain_word(spelling): stored for spelling, stored in STAGES.items()}
_STAGE_ORDER = {stored: number for number, stored in enumerate(dict.fromkeys(STAGES.values()))}

_Object: TypeAlias = Mapping[str, Any]


class UnreadableDocument(ValueError):
    """A JSON value is no receipt, or one over the limits of events."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One receipt as events, and what is stored otherwise than it says."""

    producer: bytes
    receipt: ReceiptEmitted
    stages: list[StageCompleted]
    #: In words, for people.
    notes: list[str]


def document_producer(content: bytes, agent: str) -> bytes:
    """Derive the producer id of a document.

    The agent is part of it: the same document for another agent is another receipt.
    """
    return hashlib.blake2b(
        content + b"\0" + agent.encode(),
        digest_size=limits.PRODUCER_BYTES,
        person=b"ggend receipts",
    ).digest()


def read_document(value: Any, *, agent: str, modified_ns: int) -> Document:
    """Read one document. Raises UnreadableDocument.

    `agent` is for a receipt that names none, `modified_ns` for one that has no time.
    """
    try:
        return _Reader(portable(value), agent=agent).read(modified_ns)
    except InvalidEvent as error:
        raise UnreadableDocument(error.message) from error
    except DECODE_ERRORS as error:
        raise UnreadableDocument(str(error)) from error


class _Reader:
    """One document, and what was noted so far."""

    __slots__ = ("_agent", "_document", "_notes", "_objects")

    def __init__(self, value: Any, *, agent: str) -> None:
        receipt = _receipt_of(value)
        self._document = receipt if value.keys() == {"receipt"} else value
        around = [receipt] if value is receipt else [receipt, value]
        self._objects = [
            *around,
            *(one[name] for one in around for name in _PLACES if isinstance(one.get(name), dict)),
        ]
        self._agent = agent
        self._notes: list[str] = []

    def read(self, modified_ns: int) -> Document:
        content = canonical_json(self._document)
        word = self._text("status")
        if word is None:
            raise UnreadableDocument("not a receipt: it has no `status`")
        known = status(word)
        if known is None:
            raise UnreadableDocument(_unknown_status(word))
        agent = self._text("agent_id") or self._agent
        timestamp = self._text("timestamp", "started_at", "created_at")
        started_us = modified_ns // 1000 if timestamp is None else parse_us(timestamp)
        duration_ms, duration_source = self._duration()
        receipt = ReceiptEmitted(
            execution_id=self._text("execution_id") or hashlib.sha256(content).hexdigest(),
            agent_id=agent,
            operation=self._operation(word),
            status=known,
            duration_ms=duration_ms,
            duration_source=duration_source,
            timestamp=timestamp or format_ms(started_us // 1000),
            manifest_hash=self._hash("manifest"),
            ontology_hash=self._hash("ontology"),
            files_generated=self._count("files_generated", "files_synced"),
            files_modified=self._count("files_modified"),
            receipt=self._document,
            error_message=_error_text(self._find(("error_message", "error"))),
            environment=self._text("environment"),
            session_id=self._text("session_id"),
        )
        stages = self._stages(receipt, started_us)
        events: list[Event] = [receipt, *stages]
        for event in events:
            # What the daemon would reject is reported here, with the document.
            row_of(decode_event(encode_event(event)), 0)
        return Document(
            producer=document_producer(content, agent),
            receipt=receipt,
            stages=stages,
            notes=self._notes,
        )

    def _operation(self, status_word: str) -> Operation:
        word = self._text("operation")
        if word is None:
            if plain_word(status_word) == DRY_RUN:
                return "dry_run"
            self._notes.append("no operation: generation is stored")
            return "generation"
        nearest = nearest_operation(word)
        if nearest != plain_word(word):
            self._notes.append(
                f'operation "{word[:50]}" is stored as {nearest}; receipt_json keeps the original'
            )
        return nearest

    def _duration(self) -> tuple[int, DurationSource | None]:
        """Return the duration and its source, as the events have them."""
        found = self._find(_DURATIONS)
        if found is None:
            return 0, "unknown"
        name, value = found
        return _milliseconds(value, name), None

    def _hash(self, of: str) -> str | None:
        hashes = self._find(("hashes",))
        inside = hashes[1] if hashes is not None and isinstance(hashes[1], dict) else {}
        value = inside.get(of, inside.get(f"{of}_hash"))
        if value is None:
            value = self._text(f"{of}_hash")
        if value is None:
            return None
        found = _HASH.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            self._notes.append(f"the {of} hash is not hexadecimal; only receipt_json keeps it")
            return None
        return found[1]

    def _count(self, *names: str) -> int | None:
        found = self._find(names)
        if found is None:
            return None
        name, value = found
        if isinstance(value, list):
            return len(value)
        return _whole_number(value, name)

    def _text(self, *names: str) -> str | None:
        found = self._find(names)
        if found is None or found[1] == "":
            return None
        name, value = found
        if type(value) is int:
            return str(value)  # an id
        if not isinstance(value, str):
            raise UnreadableDocument(f"`{name}` must be text, not {_kind(value)}")
        return value

    def _find(self, names: tuple[str, ...]) -> tuple[str, Any] | None:
        """Return the first of these names that has a value, and the value."""
        for inside in self._objects:
            for name in names:
                if inside.get(name) is not None:
                    return name, inside[name]
        return None

    def _stages(self, receipt: ReceiptEmitted, started_us: int) -> list[StageCompleted]:
        """Return the stages; each begins when the one before it has ended, unless it says when."""
        stages: dict[str, StageCompleted] = {}
        found = sorted(self._named_stages(), key=lambda stage: _STAGE_ORDER[stage[0]])
        at_ms = started_us // 1000
        for name, stage in found:
            if name in stages:
                raise UnreadableDocument(f"stage {name} occurs twice")
            duration = next((stage[key] for key in _DURATIONS if stage.get(key) is not None), None)
            word = stage.get("status")
            if word is not None and plain_word(str(word)) in SKIPPED:
                self._notes.append(f'stage {name} is "{word}" and is not stored')
                continue
            stages[name] = StageCompleted(
                execution_id=receipt.execution_id,
                stage=cast("Stage", name),
                duration_ms=_milliseconds(
                    0 if duration is None else duration, f"{name}.duration_ms"
                ),
                duration_source="unknown" if duration is None else None,
                status=_status_of_stage(name, word, receipt.status),
                input_size_bytes=_optional(stage, "input_size_bytes"),
                output_size_bytes=_optional(stage, "output_size_bytes"),
                error_message=_error_text(
                    ("error", stage.get("error_message", stage.get("error")))
                ),
                timestamp=stage.get("timestamp") or format_ms(at_ms),
            )
            at_ms += stages[name].duration_ms
        return list(stages.values())

    def _named_stages(self) -> Iterator[tuple[str, _Object]]:
        """Find the stages: an object by name, or an array of objects that have names."""
        for inside in self._objects:
            for key in _STAGES:
                found = list(_stages_in(inside.get(key)))
                if any(name in _STAGE_NAMES for name, _ in found):
                    for name, stage in found:
                        if name in _STAGE_NAMES:
                            yield _STAGE_NAMES[name], stage
                        elif isinstance(inside[key], list) or "status" in stage:
                            self._notes.append(
                                f'"{name[:50]}" is none of the five stages and is not stored'
                            )
                    return


def _receipt_of(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableDocument(f"a receipt must be a JSON object, not {_kind(value)}")
    kind = value.get("type")
    if isinstance(kind, str) and kind in EVENT_TYPES:
        raise UnreadableDocument("this is an event: use `ggend import events`")
    if isinstance(value.get("record"), dict) and isinstance(value.get("payload"), dict):
        raise UnreadableDocument("this is a line of a log: use `ggend import ggen-log`")
    receipt = value.get("receipt", value)
    if not isinstance(receipt, dict):
        raise UnreadableDocument(f"`receipt` must be an object, not {_kind(receipt)}")
    return receipt


def _stages_in(value: Any) -> Iterator[tuple[str, _Object]]:
    if isinstance(value, dict):
        for name, stage in value.items():
            if isinstance(stage, dict):
                yield plain_word(name), stage
            elif stage is not None and plain_word(name) in _STAGE_NAMES:
                yield plain_word(name), {"duration_ms": stage}
    elif isinstance(value, list):
        for stage in value:
            if isinstance(stage, dict):
                name = stage.get("name", stage.get("stage"))
                yield plain_word(str(name)), stage


def _status_of_stage(name: str, word: Any, receipt: ReceiptStatus) -> StageStatus:
    if word is None:
        if receipt != "passed":
            raise UnreadableDocument(
                f"stage {name} has no status, and the receipt is {receipt}: give the stage a "
                "status, such as passed or failed"
            )
        return "passed"
    known = stage_status(word) if isinstance(word, str) else None
    if known is None:
        raise UnreadableDocument(f"stage {name}: {_unknown_status(word)}")
    return known


def _unknown_status(word: object) -> str:
    known = known_statuses()
    near = or_nearest(str(word), known)
    return f"unknown status {shown(word)}{near}; the known ones are {', '.join(known)}"


def _error_text(found: tuple[str, Any] | None) -> str | None:
    """Return the text of an error, which some write as an object; what is too long is cut."""
    if found is None or found[1] is None:
        return None
    value = found[1]
    text = value if isinstance(value, str) else canonical_json(value).decode()
    return text[: limits.ERROR_CHARS]


def _optional(stage: _Object, name: str) -> int | None:
    value = stage.get(name)
    return None if value is None else _whole_number(value, name)


def _milliseconds(value: Any, name: str) -> int:
    if isinstance(value, float) and math.isfinite(value):
        return _whole_number(round(value), name)
    return _whole_number(value, name)


def _whole_number(value: Any, name: str) -> int:
    if isinstance(value, str) and _LARGE.fullmatch(value):
        value = math.inf  # an integer that only a text can carry
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise UnreadableDocument(f"`{name}` must be a number, not {_kind(value)}")
    if not 0 <= value <= limits.COUNT_MAX:
        raise UnreadableDocument(f"`{name}` must be from 0 to {limits.COUNT_MAX}")
    if value != int(value):
        raise UnreadableDocument(f"`{name}` must be a whole number, not {value}")
    return int(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "an array" if isinstance(value, list) else "an object"
