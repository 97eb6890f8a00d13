"""Who may ask for what is answered without the database."""

from __future__ import annotations

import os
from typing import cast

import pytest

from ggend.server.connection import Services
from ggend.server.requests import NotAllowed, UnknownRequest, local_answer, stored_answer
from ggend_schema.messages import Request


class Answers:
    """What of Services answers."""

    def status(self) -> dict[str, object]:
        """How it is."""
        return {"health": "ok"}

    def reload(self) -> dict[str, object]:
        """What holds."""
        return {"objectives": 6}


SERVICES = cast("Services", Answers())


def test_another_user_may_not_reload() -> None:
    request = Request(id=1, op="reload", arguments={})
    with pytest.raises(NotAllowed, match="the daemon's user"):
        local_answer(request, os.geteuid() + 1, SERVICES)


def test_the_own_user_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for uid in (0, 1000):
        answer = local_answer(Request(id=1, op="reload", arguments={}), uid, SERVICES)
        assert answer is not None
        assert answer() == {"objectives": 6}


def test_anybody_may_ask_how_it_is() -> None:
    answer = local_answer(Request(id=1, op="status", arguments={}), 12345, SERVICES)
    assert answer is not None
    assert answer() == {"health": "ok"}


def test_the_rest_is_answered_from_the_database() -> None:
    assert local_answer(Request(id=1, op="purge", arguments={}), 0, SERVICES) is None


def test_an_unknown_request_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(UnknownRequest) as caught:
        stored_answer(Request(id=1, op="load_memry", arguments={}), 0)
    said = str(caught.value)
    assert (
        'there is no request "load_memry" (did you mean `load_memory`?); the requests are ' in said
    )
    assert "requeue" in said
