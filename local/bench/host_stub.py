"""A session host that says "sent" to every send at once: `python -m local.bench.host_stub PORT`."""

import asyncio
import sys
from datetime import UTC, datetime
from uuid import uuid4

import uvloop
from aiohttp import web

from shared.domain.ids import WireId
from shared.hosts.protocol import Sent


async def _answer(request: web.BaseRequest) -> web.Response:
    await request.read()
    sent = Sent(wire_id=WireId(uuid4().hex.upper()), at=datetime.now(UTC))
    return web.Response(text=sent.model_dump_json(), content_type="application/json")


async def main() -> None:
    """Answer until the process ends."""
    runner = web.ServerRunner(web.Server(_answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
