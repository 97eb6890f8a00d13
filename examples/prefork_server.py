"""A server that forks its workers after the client was made: each worker becomes a new producer."""

from __future__ import annotations

import os

from ggend_client import Client

WORKERS = 3


def main() -> None:
    """Emit in the parent and in every worker."""
    client = Client(agent="server")
    client.audit(operation="start", status="completed")
    workers = []
    for number in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            client.audit(operation=f"worker {number}", status="completed")
            client.close()
            os._exit(0)
        workers.append(pid)
    for pid in workers:
        os.waitpid(pid, 0)
    client.close()


if __name__ == "__main__":
    main()
