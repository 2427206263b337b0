"""Messages with a file, from the API to the contact: as base64, as an upload, from a URL."""

import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from tests.e2e.conftest import until
from tests.wire.messages.conftest import Chat

pytestmark = [pytest.mark.wire, pytest.mark.timeout(180)]


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "blue").save(out, format="PNG")
    return out.getvalue()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
async def page() -> AsyncIterator[str]:
    """A picture on somebody's web server."""

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=picture(), content_type="image/png")

    app = web.Application()
    app.router.add_get("/a.png", show)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/a.png"
    await runner.cleanup()


async def test_a_file_given_as_base64_arrives_with_its_caption_and_reply(chat: Chat) -> None:
    question = await chat.received(await chat.write("text", {"text": "show me"}))

    sent = await chat.send("image", {"base64": base64_of(picture()), "caption": "this"}, reply_to=question["id"])

    assert "base64" not in sent["payload"]
    assert sent["payload"]["media_id"]
    row = await chat.on_wire(sent)
    told: dict[str, Any] = {"caption": "this", "mimetype": "image/png", "width": 64, "height": 48}
    assert {**told, "reply_to": question["wa_message_id"]}.items() <= row["payload"].items()
    assert base64.b64decode(row["payload"]["base64"]) == picture()


async def test_an_uploaded_file_is_sent_by_its_id_as_often_as_wanted(chat: Chat) -> None:
    pdf = b"%PDF-1.4 a document"
    uploaded = await chat.stack.api.post("/media", content=pdf, headers={"Content-Type": "application/pdf"})
    assert uploaded.status_code == 201, uploaded.text

    for name in ("one.pdf", "two.pdf"):
        sent = await chat.send("document", {"media_id": uploaded.json()["id"], "filename": name})
        row = await chat.on_wire(sent)
        assert (row["type"], row["payload"]["filename"]) == ("document", name)
        assert base64.b64decode(row["payload"]["base64"]) == pdf


async def test_the_file_of_a_url_is_fetched_and_sent(chat: Chat, page: str) -> None:
    sent = await chat.send("image", {"url": page})

    row = await chat.on_wire(sent)
    assert base64.b64decode(row["payload"]["base64"]) == picture()


async def test_files_go_to_groups(group: Chat) -> None:
    sent = await group.send("image", {"base64": base64_of(picture())})

    row = await group.on_wire(sent)
    assert (row["to"], base64.b64decode(row["payload"]["base64"])) == (group.group, picture())


async def test_a_contacts_file_is_told_of_at_once_fetched_and_served(chat: Chat) -> None:
    given = {"base64": base64_of(picture()), "caption": "look"}

    received = await chat.received(await chat.write("image", given))

    assert (received["payload"]["caption"], received["payload"]["bytes"]) == ("look", len(picture()))
    assert "source" not in received["payload"]
    told = await chat.told("message.received", received["id"])
    assert told["payload"]["media_id"] == received["payload"]["media_id"]

    async def served() -> bytes | None:
        answer = await chat.stack.api.get(f"/media/{received['payload']['media_id']}")
        return answer.content if answer.status_code == 200 else None

    assert await until(served, within_s=60, what="the file is served") == picture()


async def test_a_voice_note_that_is_none_is_refused_for_good(chat: Chat) -> None:
    music = base64_of(b"ID3\x04\0\0\0\0\0\0 not spoken")

    message = await chat.accept("audio", {"base64": music, "ptt": True, "mimetype": "audio/mpeg"})
    refused = await chat.settled(message["id"], "dlq")

    assert refused["error"]["code"] == "MEDIA_UNFIT"
    assert "Ogg Opus" in refused["error"]["detail"]


@pytest.mark.parametrize(
    ("type_", "payload", "says"),
    [
        ("image", {"ptt": True}, "has no ptt"),
        ("sticker", {"caption": "no"}, "has no caption"),
        ("audio", {"width": 4}, "has no width"),
        ("image", {"url": "https://a.example/a.png"}, "exactly one"),
    ],
)
async def test_what_a_type_cannot_show_is_refused_at_the_door(
    chat: Chat, type_: str, payload: dict[str, Any], says: str
) -> None:
    body = {"to": chat.jid, "type": type_, "payload": {"base64": base64_of(picture()), **payload}}

    answer = await chat.stack.api.post(f"/connections/{chat.connection}/send", json=body)

    assert answer.status_code == 422
    assert says in answer.text
