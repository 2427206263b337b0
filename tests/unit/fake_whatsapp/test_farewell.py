"""A client that is told to leave hears it before the line closes, however busy it is."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from local.fake_whatsapp import farewell
from local.fake_whatsapp.farewell import Farewell
from local.fake_whatsapp.protocol.node import Node

WORD = Node("stream:error", {}, (Node("conflict", {"type": "replaced"}),))


class Line:
    """The server's end of a channel: what was sent on it, and whether it is open."""

    def __init__(self) -> None:
        self.sent: list[Node] = []
        self.is_open = True

    async def send(self, node: Node) -> None:
        await checkpoint()
        self.sent.append(node)

    async def close(self) -> None:
        await checkpoint()
        self.is_open = False


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def goodbye(line: Line) -> Farewell:
    return Farewell(line)  # type: ignore[arg-type]  # a Channel needs a socket


async def test_the_line_stays_open_until_the_client_acknowledges_what_follows_the_farewell(
    line: Line, goodbye: Farewell
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(goodbye.hang_up)
        await goodbye.say(WORD)
        goodbye.listen(Node("ack", {"class": "message", "id": "3A01"}))
        await anyio.wait_all_tasks_blocked()
        was_open = line.is_open
        question = line.sent[1]
        goodbye.listen(Node("ack", {"class": question.tag, "id": question.attrs["id"]}))

    assert (line.sent[0], was_open, line.is_open) == (WORD, True, False)


async def test_a_client_that_never_answers_is_cut_off(
    line: Line, goodbye: Farewell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell, "PATIENCE_S", 0.01)

    await goodbye.say(WORD)
    await goodbye.hang_up()

    assert not line.is_open
