"""Connections to a fresh ledger, and a short way to make jobs."""

from collections.abc import AsyncIterator

import pytest

from shared.db.pool import Connection, Pool, connect, open_pool


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Connection]:
    """A connection to this test's own database."""
    async with connect(database_url) as connection:
        yield connection


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Connection]:
    """A second connection, for two transactions that meet."""
    async with connect(database_url) as connection:
        yield connection


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool for many workers at once."""
    opened = await open_pool(database_url, max_size=14)
    yield opened
    await opened.close()
