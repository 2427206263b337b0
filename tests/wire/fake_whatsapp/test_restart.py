"""A server that starts again knows everything that it had acknowledged."""

import asyncio
import signal
import sqlite3
from contextlib import closing

import pytest

from tests.wire.fake_whatsapp.conftest import PHONE, Wire
from tests.wire.fake_whatsapp.processes import PATIENCE_S

pytestmark = [pytest.mark.wire, pytest.mark.anyio]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_sessions_come_back_and_go_on_in_both_directions(wire: Wire, contact: str, how: signal.Signals) -> None:
    await wire.neonize.do("send", name="shop", to=contact, text="before")
    await wire.inbound(contact, f"before {how}")
    await wire.neonize.until("message", where=lambda said: said["text"] == f"before {how}")
    start = len(wire.neonize.events)

    await wire.server.restart(how)
    await wire.neonize.until("connected", after=start)
    await wire.neonize.do("send", name="shop", to=contact, text="after")
    await wire.inbound(contact, f"after {how}")

    await wire.neonize.until("message", after=start, where=lambda said: said["text"] == f"after {how}")
    assert [row["text"] for row in await wire.server.wire(contact=contact)] == ["before", "after"]


async def test_stored_messages_survive_a_kill_and_come_in_order_with_their_ids(wire: Wire, contact: str) -> None:
    start = len(wire.neonize.events)
    await wire.server.post("/faults", kind="refuse_connections", session_phone=PHONE)
    await wire.server.post("/faults", kind="drop_connection", session_phone=PHONE)
    await wire.neonize.until("disconnected", after=start)
    stored = [await wire.inbound(contact, f"stored {n}") for n in range(3)]

    await wire.server.restart(signal.SIGKILL)
    await wire.neonize.until("message", after=start, where=lambda said: said["id"] == stored[-1])

    heard = [said["id"] for said in wire.neonize.events[start:] if said["event"] == "message"]
    assert heard == stored


async def test_what_was_acknowledged_waits_no_longer(wire: Wire, contact: str) -> None:
    wire_id = await wire.neonize.do("send", name="shop", to=contact, text="hello")
    await wire.neonize.until("receipt", where=lambda said: wire_id in said["ids"])
    async with asyncio.timeout(PATIENCE_S):
        while wire_id in letters_on_disk(wire):
            # The library acknowledges in its own time, beside what else it does: each send is one more chance.
            await wire.neonize.do("send", name="shop", to=contact, text="later")

    await wire.server.restart(signal.SIGKILL)

    assert wire_id not in letters_on_disk(wire)


def letters_on_disk(wire: Wire) -> list[str]:
    with closing(sqlite3.connect(wire.server.data_dir / "fake_whatsapp.sqlite3")) as reader:
        return [row[0] for row in reader.execute("SELECT wire_id FROM letter")]


async def test_sigterm_and_sigint_end_it_cleanly(wire: Wire) -> None:
    codes = []
    for sent in (signal.SIGTERM, signal.SIGINT):
        codes.append(await wire.server.stop(sent))
        await wire.server.start(control_port=int(wire.server.control_url.rpartition(":")[2]))

    assert codes == [0, 0]
