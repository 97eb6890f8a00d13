"""What type checkers are told about `ggend_client`: mypy reads this file, and pytest runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from ggend_client import (
    AsyncClient,
    Audit,
    Binding,
    Client,
    Event,
    ExecutionSpan,
    SessionSpan,
    StageSpan,
    Statistics,
)
from ggend_schema.messages import Reject

AUDIT = Audit(agent_id="a", operation="o", status="completed")


def test_a_client_says_what_its_methods_return() -> None:
    with Client(enabled=False) as client:
        assert_type(client, Client)
        assert_type(client.emit(AUDIT), bool)
        assert_type(client.audit(agent_id="a", operation="o", status="started"), bool)
        assert_type(client.flush(), bool)
        assert_type(client.stats(), Statistics)
        assert_type(client.bound(), Binding)
        assert_type(client.recent_rejects(), list[Reject])
        assert_type(client.sockets(), list[Path])
        assert_type(client.child_env(), dict[str, str])


def test_spans_are_typed_inside_their_block() -> None:
    with Client(agent="a", enabled=False) as client:
        with client.session(agent_count=1) as session:
            assert_type(session, SessionSpan)
        with client.execution(operation="generation") as execution:
            assert_type(execution, ExecutionSpan)
            with client.stage("extract") as stage:
                assert_type(stage, StageSpan)


def test_a_decorated_function_keeps_its_signature() -> None:
    with Client(agent="a", enabled=False) as client:

        @client.staged("extract")
        def extract(source: str, *, limit: int = 1) -> list[str]:
            return [source] * int(limit == 1)

        assert_type(extract("a b"), list[str])
        extract("a b", limit="many")  # type: ignore[arg-type]


def test_words_of_the_contract_are_checked() -> None:
    with Client(agent="a", enabled=False) as client:
        client.audit(operation="o", status="done")  # type: ignore[arg-type]
        client.stage("compile")  # type: ignore[arg-type]
        client.audit("o", status="started")  # type: ignore[call-arg]


async def test_an_async_client_is_awaited_where_it_waits() -> None:
    async with AsyncClient(enabled=False) as client:
        assert_type(client, AsyncClient)
        assert_type(client.emit(AUDIT), bool)
        assert_type(await client.flush(), bool)


def test_every_event_is_an_event() -> None:
    def take(event: Event) -> Event:
        return event

    assert take(AUDIT) is AUDIT
    context: Any = AUDIT.context
    assert context is None
