"""The client's contract on neonize. Its name keeps it out of a normal run, as it needs a process of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from itertools import count
from uuid import uuid4

import pytest

from session_host.whatsapp.port import ClientSpec
from shared.domain.ids import ConnectionId
from tests.contract.hosts.client_contract import CLAUSES, paired
from tests.contract.hosts.simulated_host import until
from tests.contract.hosts.worlds import FakeServerWorld, World, fake_server_world

Clause = Callable[[World, str], Awaitable[None]]
_phones = count(1)


@pytest.fixture(scope="module")
async def world(
    postgres_server: object, _migrated_template: str, _create_database: Callable[[str], str], server_dir: object
) -> AsyncIterator[FakeServerWorld]:
    name = _create_database(_migrated_template)
    async with fake_server_world(postgres_server.url(name), server_dir / "fake") as made:  # type: ignore[attr-defined,operator]  # conftest.py
        yield made


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
async def test_neonize(clause: Clause, world: FakeServerWorld) -> None:
    await clause(world, f"551198888{next(_phones):04d}")


async def test_a_client_whose_dial_hung_when_it_was_stopped_holds_nothing_once_the_dial_ends(
    world: FakeServerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, device = await paired(world, f"551198888{next(_phones):04d}")
    await first.client.stop(deadline_s=5)
    library = first.client._library  # type: ignore[attr-defined]  # the real client's
    monkeypatch.setattr(import_module("session_host.whatsapp.neonize_client"), "_REGISTERED_S", 0.3)
    dialled, may_end = asyncio.Event(), asyncio.Event()

    async def hang(_: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        dialled.set()
        await may_end.wait()
        out.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as proxy:
        url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"

        async def through() -> str:
            return url

        client = world.make_client(
            ClientSpec(
                connection_id=ConnectionId(uuid4()),
                device_jid=device,
                emit=lambda _: None,
                record=lambda _: None,
                proxy_url=through,
            )
        )
        await client.start()
        await dialled.wait()
        has_ended = await client.stop(deadline_s=0.4)
        held = library.leaked
        may_end.set()

        async def is_back() -> bool:
            return bool(library.leaked == 0)

        await until(is_back)
        assert (has_ended, held) == (False, 1)
