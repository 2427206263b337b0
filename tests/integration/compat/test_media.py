"""Files through the doors: the same as through the own routes, in each gateway's own fields."""

import base64
import hashlib
from typing import Any

import httpx
import pytest

from shared.db.pool import Connection
from shared.settings import Settings
from tests.integration.compat.conftest import Ledger

NUMBER = "5511999998888"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LINK = "https://192.0.2.7/a.png"
CLOUD_MESSAGE = {"messaging_product": "whatsapp", "recipient_type": "individual", "to": NUMBER}


async def stored(database: Connection) -> list[tuple[str, dict[str, Any]]]:
    rows = await database.fetch("SELECT type, payload FROM messages ORDER BY created_at")
    return [(row["type"], row["payload"]) for row in rows]


@pytest.fixture
async def uploaded(api: httpx.AsyncClient, shop: dict[str, Any]) -> str:
    """The id of an image that the own route took."""
    answer = await api.post("/media", content=base64.b64decode(PNG), headers={"Content-Type": "image/png"})
    assert answer.status_code == 201, answer.text
    media_id: str = answer.json()["id"]
    return media_id


async def test_evolutions_files_come_by_url_base64_or_id(
    evolution: httpx.AsyncClient, database: Connection, uploaded: str
) -> None:
    image = {"number": NUMBER, "mediatype": "image", "mimetype": "image/png", "caption": "foto", "fileName": "a.png"}
    sent = [
        await evolution.post("/message/sendMedia/loja1", json={**image, "media": LINK}),
        await evolution.post("/message/sendMedia/loja1", json={**image, "media": PNG}),
        await evolution.post("/message/sendMedia/loja1", json={**image, "media": uploaded}),
        await evolution.post("/message/sendWhatsAppAudio/loja1", json={"number": NUMBER, "audio": LINK}),
        await evolution.post("/message/sendSticker/loja1", json={"number": NUMBER, "sticker": LINK}),
    ]

    assert [one.status_code for one in sent] == [201] * 5, [one.text for one in sent if one.is_error]
    rows = await stored(database)
    about = {"caption": "foto", "mimetype": "image/png", "filename": "a.png"}
    assert [type_ for type_, _ in rows] == ["image", "image", "image", "audio", "sticker"]
    assert rows[0][1] == {**about, "url": LINK}
    # base64 is stored at once: in the row there is an id in its place.
    assert set(rows[1][1]) == {*about, "media_id"}
    assert rows[2][1] == {**about, "media_id": uploaded}
    assert rows[3][1] == {"url": LINK, "ptt": True}
    assert rows[4][1] == {"url": LINK}
    assert sent[0].json()["messageType"] == "imageMessage"
    assert sent[0].json()["message"]["imageMessage"]["caption"] == "foto"
    assert sent[3].json()["message"]["audioMessage"]["ptt"] is True


async def test_the_cloud_apis_files_come_by_link_or_id(
    cloud: httpx.AsyncClient, database: Connection, uploaded: str
) -> None:
    sent = [
        await cloud.post("/loja1/messages", json={**CLOUD_MESSAGE, **said})
        for said in (
            {"type": "image", "image": {"link": LINK, "caption": "foto"}},
            {"type": "image", "image": {"id": uploaded}},
            {"type": "video", "video": {"link": LINK}},
            {"type": "audio", "audio": {"link": LINK, "voice": True}},
            {"type": "document", "document": {"link": LINK, "filename": "nota.pdf", "caption": "nota"}},
            {"type": "sticker", "sticker": {"link": LINK}},
        )
    ]

    assert [one.status_code for one in sent] == [200] * 6, [one.text for one in sent if one.is_error]
    assert await stored(database) == [
        ("image", {"url": LINK, "caption": "foto"}),
        ("image", {"media_id": uploaded}),
        ("video", {"url": LINK}),
        ("audio", {"url": LINK, "ptt": True}),
        ("document", {"url": LINK, "filename": "nota.pdf", "caption": "nota"}),
        ("sticker", {"url": LINK}),
    ]


async def test_evolutions_client_gets_a_file_back_as_text(evolution: httpx.AsyncClient, shop: dict[str, Any]) -> None:
    image = {"number": NUMBER, "mediatype": "image", "media": PNG, "caption": "foto", "fileName": "a.png"}
    key = (await evolution.post("/message/sendMedia/loja1", json=image)).json()["key"]
    text = (await evolution.post("/message/sendText/loja1", json={"number": NUMBER, "text": "oi"})).json()["key"]

    async def fetched(of: Any, **more: Any) -> httpx.Response:
        return await evolution.post("/chat/getBase64FromMediaMessage/loja1", json={"message": {"key": of}, **more})

    found = await fetched(key, convertToMp4=False)
    refused = [await fetched(text), await fetched({"id": "nobody"}), await fetched(key, convertToMp4=True)]

    assert found.status_code == 201, found.text
    assert found.json()["base64"] == PNG
    assert (found.json()["mediaType"], found.json()["mimetype"]) == ("imageMessage", "image/png")
    assert (found.json()["caption"], found.json()["fileName"]) == ("foto", "a.png")
    assert [one.status_code for one in refused] == [400, 400, 400]


async def test_a_file_whose_bytes_are_gone_is_said_to_be(
    evolution: httpx.AsyncClient, settings: Settings, shop: dict[str, Any]
) -> None:
    image = {"number": NUMBER, "mediatype": "image", "media": PNG}
    key = (await evolution.post("/message/sendMedia/loja1", json=image)).json()["key"]
    kept = [one for one in (settings.data_dir / "media").rglob("*") if one.is_file()]
    for one in kept:
        one.unlink()

    answer = await evolution.post("/chat/getBase64FromMediaMessage/loja1", json={"message": {"key": key}})

    assert kept
    assert answer.status_code == 400, answer.text
    assert answer.json()["response"]["code"].startswith("MEDIA_")


async def test_a_file_too_large_for_text_is_fetched_elsewhere(
    evolution: httpx.AsyncClient, shop: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.compat.evolution.files.MAX_BYTES", 10)
    image = {"number": NUMBER, "mediatype": "image", "media": PNG}
    key = (await evolution.post("/message/sendMedia/loja1", json=image)).json()["key"]

    answer = await evolution.post("/chat/getBase64FromMediaMessage/loja1", json={"message": {"key": key}})

    assert (answer.status_code, answer.json()["response"]["code"]) == (400, "MEDIA_TOO_LARGE")


async def test_the_cloud_apis_client_is_told_where_a_file_is(
    api: httpx.AsyncClient, cloud: httpx.AsyncClient, uploaded: str, limited: str
) -> None:
    told = await cloud.get(f"/{uploaded}")
    content = await api.get(told.json()["url"])
    strangers = [
        await cloud.get("/5d0b9d3f-6a5e-4b0e-9c51-0a1d6fd8d6b7"),
        await cloud.get("/106540352242922"),
        await api.get(f"/compat/cloud/{uploaded}", headers={"Authorization": f"Bearer {limited}"}),
    ]

    assert told.json() == {
        "messaging_product": "whatsapp",
        "url": f"http://api.test/media/{uploaded}",
        "mime_type": "image/png",
        "sha256": hashlib.sha256(base64.b64decode(PNG)).hexdigest(),
        "file_size": str(len(base64.b64decode(PNG))),
        "id": uploaded,
    }
    assert content.content == base64.b64decode(PNG)
    assert [one.json()["error"].get("error_subcode") for one in strangers] == [33, 33, 33]


async def test_a_file_that_is_judged_later_is_told_by_the_callers_field(
    evolution: httpx.AsyncClient, cloud: httpx.AsyncClient, ledger: Ledger, uploaded: str
) -> None:
    before = await ledger.rows()
    nobody = "5d0b9d3f-6a5e-4b0e-9c51-0a1d6fd8d6b7"

    theirs = [
        await evolution.post(
            "/message/sendMedia/loja1", json={"number": NUMBER, "mediatype": "video", "media": uploaded}
        ),
        await evolution.post("/message/sendSticker/loja1", json={"number": NUMBER, "sticker": nobody}),
    ]
    metas = [
        await cloud.post("/loja1/messages", json={**CLOUD_MESSAGE, "type": "video", "video": {"id": uploaded}}),
        await cloud.post("/loja1/messages", json={**CLOUD_MESSAGE, "type": "image", "image": {"id": nobody}}),
    ]

    assert [one.status_code for one in (*theirs, *metas)] == [400] * 4
    assert [one.json()["response"]["message"][0].partition(":")[0] for one in theirs] == ["media", "sticker"]
    assert [one.json()["error"]["code"] for one in metas] == [131009, 131009]
    details = [one.json()["error"]["error_data"]["details"].partition(":")[0] for one in metas]
    assert details == ["video.id", "image.id"]
    assert await ledger.rows() == before
