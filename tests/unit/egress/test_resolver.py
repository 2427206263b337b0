"""Lookups: each by itself, so many at once, and none that anybody else waits for."""

import asyncio
import socket
import threading
from ipaddress import ip_address

import pytest

from shared.egress.resolver import Lookups, resolve

FOUND = [
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80)),
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80)),
]


async def test_every_address_is_given_once_in_the_resolvers_order() -> None:
    lookups = Lookups(look=lambda *_, **__: FOUND)

    assert await lookups.ask("name.example", 80) == [ip_address("192.0.2.1"), ip_address("2001:db8::1")]


async def test_a_literal_is_its_own_answer_and_a_number_is_read_as_sockets_read_it() -> None:
    assert await resolve("2001:db8::1", 80) == [ip_address("2001:db8::1")]
    assert await resolve("0x7f.1", 80) == [ip_address("127.0.0.1")]


async def test_an_error_of_the_resolver_is_raised_to_whoever_asked() -> None:
    def fail(*_: object, **__: object) -> list[tuple[object, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.raises(socket.gaierror, match="unknown"):
        await Lookups(look=fail).ask("name.example", 80)


async def test_lookups_that_hang_hold_up_no_other_until_there_are_too_many() -> None:
    answered = threading.Event()

    def look(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host == "hangs.example":
            answered.wait(20)
        return FOUND  # type: ignore[return-value]

    lookups = Lookups(3, look=look)
    async with asyncio.TaskGroup() as tasks:
        hanging = [tasks.create_task(lookups.ask("hangs.example", 80)) for _ in range(2)]
        await asyncio.sleep(0)
        quick = await lookups.ask("good.example", 80)
        hanging.append(tasks.create_task(lookups.ask("hangs.example", 80)))
        await asyncio.sleep(0)
        with pytest.raises(socket.gaierror) as refused:
            await lookups.ask("good.example", 80)
        answered.set()

    assert len(quick) == 2
    assert refused.value.errno == socket.EAI_AGAIN, "our own lack, not the receiver's"
    assert [len(task.result()) for task in hanging] == [2, 2, 2]


async def test_a_machine_without_another_thread_is_our_own_lack_and_gives_the_place_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lookups = Lookups(1, look=lambda *_, **__: FOUND)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(socket.gaierror) as refused:
            await lookups.ask("name.example", 80)

    assert refused.value.errno == socket.EAI_MEMORY
    assert len(await lookups.ask("name.example", 80)) == 2


async def test_whoever_leaves_before_the_answer_is_not_told() -> None:
    answered, done = threading.Event(), threading.Event()

    def look(*_: object, **__: object) -> list[tuple[object, ...]]:
        answered.wait(20)
        done.set()
        return FOUND  # type: ignore[return-value]

    lookups = Lookups(1, look=look)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await lookups.ask("hangs.example", 80)
    answered.set()
    await asyncio.to_thread(done.wait, 20)
    while True:  # the place is free again as soon as the lookup has ended
        try:
            assert len(await lookups.ask("good.example", 80)) == 2
        except socket.gaierror:
            await asyncio.sleep(0)
        else:
            break
