"""A client that may reach loopback, and a database with a tenant's connection."""

from collections.abc import AsyncIterator

import pytest

from shared.webhooks.client import SafeClient
from shared.webhooks.target import Rule
from tests.integration.webhooks.servers import LOOPBACK


@pytest.fixture
async def client() -> AsyncIterator[SafeClient]:
    """A client that may reach loopback, with a short deadline."""
    async with SafeClient(Rule(allow=LOOPBACK), timeout_s=5) as opened:
        yield opened
