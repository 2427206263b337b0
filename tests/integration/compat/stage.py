"""Everything behind the doors, in this process: the API, a worker's queues, a host with a simulated WhatsApp."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from functions.resources import Resources, open_resources
from functions.worker import works
from session_host.whatsapp.simulated import SimulatedWhatsApp
from shared.queues.drain import Drain
from shared.queues.runtime import Queues
from shared.settings import Settings
from tests.contract.hosts.simulated_host import TOKEN, simulated_host, until
from tests.integration.api.conftest import ADMIN_KEY, running
from tests.integration.webhooks.servers import Server

T = TypeVar("T")


@dataclass
class Stage:
    api: httpx.AsyncClient
    server: SimulatedWhatsApp
    queues: Queues
    use: Resources

    async def work(self) -> None:
        """What is claimable now is done."""
        drain = Drain(self.queues, works, self.use, slots=dict.fromkeys(works, 3), worker="test")
        async with asyncio.timeout(20):
            await drain.until_idle()

    async def until(self, look: Callable[[], Awaitable[T]]) -> T:
        """Work until `look` finds something."""

        async def worked() -> T:
            await self.work()
            return await look()

        return await until(worked, within_s=20)


@asynccontextmanager
async def stage(database_url: str, folder: Path) -> AsyncIterator[Stage]:
    settings = Settings(
        _env_file=None,
        database_url=database_url,
        transport="memory",
        admin_key=SecretStr(ADMIN_KEY),
        secret_key=SecretStr("secret-key-of-the-tests"),
        host_token=SecretStr(TOKEN),
        data_dir=folder,
        db_pool_size=8,
        webhook_allow_networks=["127.0.0.0/8"],
    )
    server = SimulatedWhatsApp(not_on_whatsapp={"5511999990000"})
    async with (
        await Queues.open(settings) as queues,
        open_resources(queues) as use,
        simulated_host("a", queues, server, folder / "journal"),
        running(settings) as api,
    ):
        yield Stage(api=api, server=server, queues=queues, use=use)


def bodies(receiver: Server) -> list[Any]:
    """What the receiver was sent, each delivery once."""
    found = {}
    for request in receiver.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = (line.partition(": ") for line in head.decode().split("\r\n")[1:])
        headers = {name.lower(): text for name, _, text in lines}
        found[headers["webhook-id"]] = json.loads(body)
    return list(found.values())
