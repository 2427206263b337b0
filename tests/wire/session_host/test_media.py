"""Files both ways: from the media store through the library to a contact, and from a contact to whoever asks."""

import base64
import io
import json
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image
from pydantic import SecretStr

from shared.db.media import NewMedium
from shared.domain.ids import DEFAULT_TENANT, ConnectionId
from shared.domain.media import MediaId, MediaOrigin
from shared.hosts import protocol
from shared.media.keeping import Media, open_media
from shared.settings import Settings
from tests.wire.session_host.stage import CONTACT, RECEIVE, HostProcess, Stage, send_command

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (300, 200), "red").save(out, format=kind)
    return out.getvalue()


def voice(seconds: int) -> bytes:
    """The first and the last page of an Ogg Opus file: what says how long it plays."""
    head = b"OpusHead" + bytes((1, 1)) + struct.pack("<HIhB", 312, 48_000, 0, 0)

    def page(flags: int, position: int, body: bytes) -> bytes:
        header = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, position, 1, 0, 0, 1)
        return header + bytes((len(body),)) + body

    return page(2, 0, head) + page(4, 312 + seconds * 48_000, b"sound")


@pytest.fixture
async def media(stage: Stage, database_url: str, tmp_path: Path) -> AsyncIterator[Media]:
    """The store that the hosts of the test use."""
    settings = Settings(
        _env_file=None,
        database_url=database_url,
        secret_key=SecretStr("a-secret-key-for-tests"),
        data_dir=tmp_path / "data",
    )
    async with open_media(settings, stage.pool) as opened:
        yield opened


async def stored(media: Media, data: bytes, mimetype: str, filename: str | None = None) -> str:
    new = NewMedium(
        id=MediaId(uuid4()),
        tenant_id=DEFAULT_TENANT,
        connection_id=None,
        origin=MediaOrigin.UPLOAD,
        mimetype=mimetype,
        filename=filename,
    )
    async with media.spool() as spool:
        await spool.write(data)
        return str((await media.add(await spool.finish(), new)).id)


SENT: list[tuple[str, bytes, str, dict[str, Any], dict[str, Any]]] = [
    (
        "image",
        picture("JPEG"),
        "image/jpeg",
        {"caption": "a photo"},
        {"caption": "a photo", "width": 300, "height": 200},
    ),
    ("sticker", picture("WEBP"), "image/webp", {}, {"width": 300, "height": 200}),
    ("video", b"\0\0\0\x18ftypmp42 and so on", "video/mp4", {"seconds": 7, "gif": True}, {"seconds": 7, "gif": True}),
    ("audio", b"ID3 some music", "audio/mpeg", {"seconds": 180}, {"seconds": 180, "ptt": False}),
    (
        "audio",
        voice(3),
        "audio/ogg",
        {"ptt": True, "waveform": base64.b64encode(bytes(range(64))).decode()},
        {
            "seconds": 3,
            "ptt": True,
            "mimetype": "audio/ogg; codecs=opus",
            "waveform": base64.b64encode(bytes(range(64))).decode(),
        },
    ),
    ("document", b"%PDF-1.4 x", "application/pdf", {"filename": "a.pdf"}, {"filename": "a.pdf"}),
]


async def test_every_kind_of_file_reaches_a_contact_whole(
    stage: Stage, start_host: Callable[..., HostProcess], media: Media
) -> None:
    phone = "5511988880004"
    await start_host().until_ready()
    session = await stage.connection()
    owner = await stage.pair(session, phone)

    for type_, data, mimetype, payload, told in SENT:
        media_id = await stored(media, data, mimetype)
        answer = await stage.client.send(owner, command(session, owner, type_, {**payload, "media_id": media_id}))
        assert isinstance(answer, protocol.Sent), answer
        row = stage.fake.wire(phone)[-1]
        assert (row["wire_id"], row["type"]) == (answer.wire_id, type_)
        assert base64.b64decode(row["payload"]["base64"]) == data
        assert {"mimetype": mimetype, **told}.items() <= row["payload"].items()


@pytest.mark.parametrize(
    ("type_", "payload", "code", "permanent"),
    [
        ("audio", {"ptt": True}, "MEDIA_UNFIT", True),
        ("image", {"media_id": str(uuid4())}, "MEDIA_GONE", True),
    ],
)
async def test_a_file_that_cannot_be_sent_is_refused_before_anything_leaves(
    stage: Stage,
    start_host: Callable[..., HostProcess],
    media: Media,
    type_: str,
    payload: dict[str, Any],
    code: str,
    permanent: bool,
) -> None:
    phone = "5511988880005"
    await start_host().until_ready()
    session = await stage.connection()
    owner = await stage.pair(session, phone)
    media_id = await stored(media, b"ID3 no voice", "audio/mpeg")

    answer = await stage.client.send(owner, command(session, owner, type_, {"media_id": media_id, **payload}))

    assert isinstance(answer, protocol.Refused)
    assert (answer.code, answer.permanent) == (code, permanent)
    assert stage.fake.wire(phone) == []


async def test_every_kind_of_file_that_came_in_can_be_fetched(
    stage: Stage, start_host: Callable[..., HostProcess]
) -> None:
    phone = "5511988880006"
    await start_host().until_ready()
    session = await stage.connection()
    owner = await stage.pair(session, phone)
    kinds = ["image", "video", "audio", "document", "sticker"]
    for kind in kinds:
        payload = {"base64": base64.b64encode(f"{kind} of a contact".encode()).decode()}
        stage.fake.post("/inbound", {"session_phone": phone, "from": CONTACT, "type": kind, "payload": payload})

    jobs = await stage.until_jobs(RECEIVE, count=len(kinds))

    for kind, job in zip(kinds, jobs, strict=True):
        got = bytearray()

        async def write(piece: bytes, got: bytearray = got) -> None:
            got.extend(piece)

        source = protocol.MediaSource.model_validate_json(json.dumps(job["content"]["source"]))
        found = protocol.Download(connection_id=session, epoch=owner.epoch, source=source)
        assert await stage.client.download(owner, found, write) is None
        assert bytes(got) == f"{kind} of a contact".encode()

        lost = source.model_copy(update={"direct_path": "/v/nowhere?ccb=1"})
        gone = await stage.client.download(owner, found.model_copy(update={"source": lost}), write)
        assert isinstance(gone, protocol.Refused)
        assert (gone.code, gone.permanent) == ("MEDIA_EXPIRED", True)


def command(session: ConnectionId, owner: Any, type_: str, payload: dict[str, Any]) -> protocol.Send:
    return send_command(session, owner, text="").model_copy(update={"type": type_, "payload": payload})
