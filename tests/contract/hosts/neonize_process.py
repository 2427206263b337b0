"""The client's contract on neonize. Its name keeps it out of a normal run, as it needs a process of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest

from tests.contract.hosts.client_contract import CLAUSES
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
