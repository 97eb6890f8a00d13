"""An agent that counts its runs, and remembers the count in the daemon."""

from __future__ import annotations

from ggend_client import Client


def main() -> None:
    """Load the memory of the last run, work, save it."""
    with Client(agent="example-agent") as client:
        memory = client.load_memory() or {"runs": 0}
        memory["runs"] += 1
        client.audit(operation="work", status="completed", context={"run": memory["runs"]})
        client.save_memory(value=memory)
        is_durable = client.flush()
    print(f"run {memory['runs']}, {'stored' if is_durable else 'kept until a daemon takes it'}")


if __name__ == "__main__":
    main()
