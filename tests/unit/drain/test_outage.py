"""A loop that lives through outages still ends when it is told to."""

import asyncio

import pytest

from shared.domain.errors import Unavailable
from shared.queues.outage import Outage


async def test_a_cancellation_that_a_library_turned_into_an_error_ends_the_loop() -> None:
    waits = asyncio.Event()

    async def library() -> None:
        try:
            waits.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Unavailable("the connection is closed") from None

    async def loop() -> None:
        outage = Outage("bell")
        while True:
            try:
                await library()
            except Unavailable as error:
                await asyncio.sleep(outage.began(error))

    looping = asyncio.ensure_future(loop())
    await waits.wait()
    looping.cancel()

    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await looping
