"""Testing: what a program emits, in the hands of its tests. Never imported by the client itself.

    from ggend_client.testing import FakeDaemon

    def test_the_plan_is_recorded() -> None:
        with FakeDaemon() as daemon:
            my_program.run(socket=daemon.socket)
            assert [event.operation for event in daemon.of_type(Audit)] == ["plan"]

With pytest, the fixture `ggend_events` is such a daemon, and every client without a socket of its
own finds it, in subprocesses too: see `ggend_client.testing.plugin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ggend_client.testing.fake_daemon import FakeDaemon, Refused

__all__ = ["FakeDaemon", "Refused"]


def __getattr__(name: str) -> object:
    # Late: every run of pytest imports this package, for the plugin in it.
    if name in __all__:
        from ggend_client.testing import fake_daemon

        return getattr(fake_daemon, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
