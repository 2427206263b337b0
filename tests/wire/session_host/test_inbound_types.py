"""What each kind of inbound message becomes for `message:receive`."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.wire.session_host.stage import CONTACT, RECEIVE, HostProcess, Stage

pytestmark = [pytest.mark.wire, pytest.mark.timeout(120)]

FILE = base64.b64encode(b"a file of some kind").decode()
SENT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("text", {"text": "plain"}, {"text": "plain"}),
    ("image", {"base64": FILE, "caption": "a photo"}, {"mimetype": "image/png", "caption": "a photo", "bytes": 19}),
    ("audio", {"base64": FILE, "ptt": True}, {"ptt": True}),
    ("document", {"base64": FILE, "filename": "a.pdf", "mimetype": "application/pdf"}, {"filename": "a.pdf"}),
    ("sticker", {"base64": FILE}, {"mimetype": "image/webp"}),
    ("location", {"latitude": -23.5, "longitude": -46.6, "name": "here"}, {"latitude": -23.5, "name": "here"}),
    ("contact", {"name": "Ana", "phone": "5511900001111"}, {"name": "Ana", "phone": "5511900001111"}),
    ("reaction", {"message_id": "3EB0AA", "emoji": "👍"}, {"message_id": "3EB0AA", "emoji": "👍"}),
    ("poll", {"question": "when?", "options": ["now", "later"]}, {"question": "when?", "options": ["now", "later"]}),
    ("edit", {"message_id": "3EB0AA", "text": "better"}, {"message_id": "3EB0AA", "text": "better"}),
    ("revoke", {"message_id": "3EB0AA"}, {"message_id": "3EB0AA"}),
]


async def test_every_type_arrives_with_its_content_and_in_order(
    stage: Stage, start_host: Callable[..., HostProcess]
) -> None:
    phone = "5511988880002"
    await start_host().until_ready()
    await stage.pair(await stage.connection(), phone)

    for type_, payload, _ in SENT:
        stage.fake.post("/inbound", {"session_phone": phone, "from": CONTACT, "type": type_, "payload": payload})
    jobs = await stage.until_jobs(RECEIVE, count=len(SENT))

    assert [job["type"] for job in jobs] == [type_ for type_, _, _ in SENT]
    for job, (_, _, content) in zip(jobs, SENT, strict=True):
        assert content.items() <= job["content"].items()
        assert job["chat"] == f"{CONTACT}@s.whatsapp.net"
