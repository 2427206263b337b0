"""The gate: calls may overlap, a connect or stop may not overlap the beginning of any."""

import asyncio

from session_host.whatsapp.gate import Gate


async def test_calls_run_side_by_side() -> None:
    gate, met = Gate(), asyncio.Barrier(3)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(gate.call(met.wait()))


async def test_a_writer_waits_for_calls_that_begin_and_new_calls_wait_for_the_writer() -> None:
    gate, order = Gate(), []
    begun, go = asyncio.Event(), asyncio.Event()

    async def call(name: str) -> None:
        order.append(name)
        begun.set()
        await go.wait()

    async def write() -> None:
        async with gate.writing():
            order.append("written")

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(gate.call(call("first")))
        await begun.wait()
        group.create_task(write())
        await asyncio.sleep(0)
        group.create_task(gate.call(call("second")))
        await asyncio.sleep(0)
        assert order == ["first"]
        go.set()

    assert order == ["first", "written", "second"]


async def test_a_send_that_takes_long_does_not_hold_up_a_writer() -> None:
    gate, answered = Gate(), asyncio.Event()

    async with asyncio.timeout(5):
        sending = asyncio.ensure_future(gate.call(answered.wait()))
        await asyncio.sleep(0)
        async with gate.writing():
            assert not sending.done()
        answered.set()
        await sending


async def test_a_lookup_of_the_librarys_own_keeps_writers_out() -> None:
    gate, order = Gate(), []

    async def write() -> None:
        async with gate.writing():
            order.append("written")

    async with asyncio.timeout(5):
        await gate.admit()
        writing = asyncio.ensure_future(write())
        await asyncio.sleep(0)
        order.append("looked up")
        await writing

    assert order == ["looked up", "written"]
