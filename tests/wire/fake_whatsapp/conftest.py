"""One server and one process with the library per test module, with one session online."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.wire.fake_whatsapp.processes import Neonize, Server, running

PHONE = "5511988887777"
_contacts = count(5511999990001)


@dataclass(frozen=True, slots=True)
class Wire:
    """Both ends: the session `shop` of PHONE is online."""

    server: Server
    neonize: Neonize
    folder: Path

    async def pair(self, name: str, phone: str) -> str:
        """Link one more session by QR; its device number is the answer's."""
        return str((await self.neonize.pair(self.server, name, phone, self.folder / f"{name}.db"))["device"])

    async def inbound(self, contact: str, text: str, *, phone: str = PHONE) -> str:
        answer = await self.server.post("/inbound", session_phone=phone, **{"from": contact}, text=text)
        return str(answer["wire_id"])


@pytest.fixture(scope="module")
async def wire(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    folder = tmp_path_factory.mktemp("wire")
    async with running(folder / "server") as (server, neonize):
        wire = Wire(server, neonize, folder)
        await wire.pair("shop", PHONE)
        yield wire


@pytest.fixture
def contact() -> str:
    """A number that no other test writes to."""
    return str(next(_contacts))
