"""AsyncClient against a real daemon; its waits when they are cancelled, or have no thread."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ggend_client import Client, DaemonAbsent
from ggend_client.async_client import AsyncClient
from ggend_client.context import Binding
from ggend_client.log_handler import AuditHandler
from ggend_client.memory import AgentUnnamed
from support.daemon_process import Daemon, free_place
from support.patience import PATIENCE_SECONDS, TEST_SECONDS


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with free_place() as place, Daemon(Path(place)) as started:
        yield started


async def test_what_is_emitted_is_durable_after_flush(daemon: Daemon) -> None:
    async with AsyncClient(daemon.socket, agent="runner", spool_dir="") as client:
        session, run = client.session(agent_count=1), client.execution(operation="generation")
        async with session, run, client.stage("emit") as stage:
            stage.output_size_bytes = 5
            assert client.audit(operation="o", status="completed")
        assert await client.flush(10)
        assert client.stats().acked == client.stats().offered == 5
        assert client.recent_rejects() == []
    assert daemon.query("SELECT status, execution_id, agent_id, session_id FROM receipts") == [
        ("passed", run.execution_id, "runner", session.session_id)
    ]
    assert daemon.query("SELECT status, output_size_bytes FROM pipeline_metrics") == [("passed", 5)]
    assert daemon.query("SELECT session_id, status, agent_count FROM workflow_sessions") == [
        (session.session_id, "completed", 1)
    ]


async def test_a_memory_comes_back_to_the_agent_bound_in_this_task(daemon: Daemon) -> None:
    async with AsyncClient(daemon.socket, spool_dir="") as client:
        with client.bind(agent="rememberer"):
            assert await client.load_memory(timeout=PATIENCE_SECONDS) is None
            assert client.save_memory(value={"k": [1, None, "é"]})
            # What was saved just before is stored first.
            assert await client.load_memory(timeout=PATIENCE_SECONDS) == {"k": [1, None, "é"]}
        assert await client.load_memory("rememberer", timeout=PATIENCE_SECONDS) == {
            "k": [1, None, "é"]
        }
        assert await client.load_memory("nobody", timeout=PATIENCE_SECONDS) is None
        with pytest.raises(AgentUnnamed):
            await client.load_memory(timeout=PATIENCE_SECONDS)


def test_a_memory_comes_back_to_the_synchronous_client(daemon: Daemon) -> None:
    with Client(daemon.socket, agent="synchronous", spool_dir="") as client:
        assert client.load_memory(timeout=PATIENCE_SECONDS) is None
        assert client.save_memory(value="remembered")
        assert client.load_memory(timeout=PATIENCE_SECONDS) == "remembered"
        with pytest.raises(AgentUnnamed):
            Client(daemon.socket, spool_dir="").load_memory()


async def test_without_a_daemon_only_load_memory_raises(tmp_path: Path) -> None:
    client = AsyncClient(tmp_path / "none.sock", agent="a", spool_dir="")
    assert client.audit(operation="o", status="started")
    assert await client.flush(0.01) is False
    with pytest.raises(DaemonAbsent):
        await client.load_memory(timeout=0.1)  # expected to run out
    assert await client.close(0.01) is False
    assert client.audit(operation="o", status="started") is False
    stats = client.stats()
    assert stats.offered == stats.queued + stats.dropped.total == 2


async def test_a_cancelled_flush_is_over_at_once_and_holds_nothing_up(tmp_path: Path) -> None:
    client = AsyncClient(tmp_path / "none.sock", agent="a", spool_dir="")
    assert client.audit(operation="o", status="started")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await client.flush(2 * TEST_SECONDS)
    # Neither the default executor, which asyncio.run() joins, nor the loop waits for the rest:
    # pytest-timeout would end this test.
    await asyncio.get_running_loop().shutdown_default_executor()
    await client.close(0.01)


async def test_the_loop_runs_on_while_a_flush_waits(tmp_path: Path) -> None:
    client = AsyncClient(tmp_path / "none.sock", agent="a", spool_dir="")
    assert client.audit(operation="o", status="started")
    flush = asyncio.create_task(client.flush(PATIENCE_SECONDS))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not flush.done()
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    await client.close(0.01)


async def test_a_wait_that_ends_after_it_was_cancelled_ends_in_silence(tmp_path: Path) -> None:
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
    client = AsyncClient(tmp_path / "none.sock", agent="a", spool_dir="")
    assert client.audit(operation="o", status="started")
    before = set(threading.enumerate())
    flush = asyncio.create_task(client.flush(0.1))
    await asyncio.sleep(0)
    (waiting,) = [
        thread for thread in set(threading.enumerate()) - before if thread.name == "ggend-wait"
    ]
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    waiting.join(PATIENCE_SECONDS)
    await asyncio.sleep(0)
    assert complaints == []
    await client.close(0.01)


def test_a_wait_that_outlives_its_loop_ends_in_silence(tmp_path: Path) -> None:
    client = AsyncClient(tmp_path / "none.sock", agent="a", spool_dir="")
    assert client.audit(operation="o", status="started")

    async def give_up() -> None:
        asyncio.create_task(client.flush(0.2)).cancel()
        flush = asyncio.create_task(client.flush(0.2))
        await asyncio.sleep(0)
        flush.cancel()

    before = set(threading.enumerate())
    asyncio.run(give_up())
    for thread in set(threading.enumerate()) - before:
        if thread.name == "ggend-wait":
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
    asyncio.run(client.close(0.01))


async def test_without_threads_the_wait_is_done_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = AsyncClient(tmp_path / "none.sock", agent="a", spool_dir="")

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    assert client.audit(operation="o", status="started")
    assert await client.flush(0.01) is False
    assert await client.close(0.01) is False


def test_the_two_clients_have_the_same_surface() -> None:
    def surface(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    def options(kind: type) -> dict[str, object]:
        parameters = inspect.signature(kind).parameters
        return {name: parameter.default for name, parameter in parameters.items()}

    assert surface(Client) - surface(AsyncClient) == {"begin_anew", "own_binding", "sockets"}
    assert surface(AsyncClient) <= surface(Client)
    # These two are for importers.
    importing = {"producer": None, "permanent": False}
    assert {**options(AsyncClient), **importing} == options(Client)
    for name in ("flush", "close", "load_memory"):
        assert inspect.iscoroutinefunction(getattr(AsyncClient, name))
        asked, told = (
            inspect.signature(getattr(kind, name)).parameters for kind in (AsyncClient, Client)
        )
        assert list(asked.values()) == list(told.values())


def test_every_option_reaches_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, object] = {}

    class Told(Client):
        def __init__(self, socket: Path, **options: Any) -> None:
            told.update(options, socket=socket)
            super().__init__(socket, **options)

    monkeypatch.setattr("ggend_client.async_client.Client", Told)
    asked: dict[str, Any] = {
        "socket": tmp_path / "none.sock",
        "service": "service",
        "agent": "agent",
        "session": "session",
        "spool_dir": tmp_path / "spool",
        "max_events": 7,
        "max_bytes": 8_000,
        "linger_seconds": 0.09,
        "exit_timeout": 0.1,
        "durable": True,
        "strict": True,
        "on_drop": print,
        "enabled": False,
    }
    assert set(asked) == set(inspect.signature(AsyncClient).parameters)
    client = AsyncClient(**asked)
    assert told == asked
    assert client.bound() == Binding(agent="agent", session="session")
    assert client.child_env()["GGEND_SOCKET"] == str(asked["socket"])


def test_the_package_brings_asyncio_only_with_the_async_client() -> None:
    program = (
        "import sys, ggend_client\n"
        "assert 'asyncio' not in sys.modules\n"
        "from ggend_client import AsyncClient\n"
        "assert AsyncClient.__name__ == 'AsyncClient'\n"
        "assert 'asyncio' in sys.modules and AsyncClient is ggend_client.AsyncClient\n"
        "assert 'AsyncClient' in ggend_client.__all__\n"
        "try:\n"
        "    ggend_client.NoSuchName\n"
        "except AttributeError as error:\n"
        "    assert 'NoSuchName' in str(error)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_memory_that_other_programs_wrote_can_be_loaded(daemon: Daemon) -> None:
    """An earlier version stored integers of any length, and any program any bytes."""
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        connection.execute(
            "INSERT INTO agent_memory (agent_id, memory_json) VALUES ('old', CAST(? AS TEXT))",
            (b'{"seed":%d,"path":"caf\xe9"}' % 2**64,),
        )
    with Client(daemon.socket, service="caf\udce9", spool_dir="") as client:
        assert client.load_memory("old", timeout=PATIENCE_SECONDS) == {
            "seed": str(2**64),
            "path": r"caf\xe9",
        }
        assert client.save_memory(agent_id="new", value={"seed": 2**64, "path": "caf\udce9"})
        assert client.load_memory("new", timeout=PATIENCE_SECONDS) == {
            "seed": str(2**64),
            "path": r"caf\xe9",
        }


@pytest.mark.parametrize("copy_of", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_client_is_not_copied_but_its_statistics_are(
    tmp_path: Path, copy_of: Callable[[object], object]
) -> None:
    client = Client(tmp_path / "none.sock", spool_dir="")
    for each in (client, AsyncClient(tmp_path / "none.sock", spool_dir="")):
        with pytest.raises(TypeError, match="belongs to its process and cannot be copied"):
            copy_of(each)
    with pytest.raises(TypeError, match="a Client belongs to its process"):
        pickle.dumps(AuditHandler(client))
    assert copy.deepcopy(client.stats()) == client.stats()
    assert pickle.loads(pickle.dumps(client.stats())) == client.stats()  # noqa: S301
