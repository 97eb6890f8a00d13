"""Agents as asyncio tasks: each binds its own name, and emit() is not awaited."""

from __future__ import annotations

import asyncio

from ggend_client import AsyncClient


async def work(client: AsyncClient, name: str) -> None:
    """Emit in the name of one agent."""
    with client.bind(agent=name):
        client.audit(operation="begin", status="started")
        await asyncio.sleep(0)
        client.audit(operation="begin", status="completed")


async def main() -> None:
    """Run three agents in one session."""
    async with AsyncClient() as client:
        with client.session(agent_count=3):
            await asyncio.gather(*(work(client, f"agent-{number}") for number in range(3)))


if __name__ == "__main__":
    asyncio.run(main())
