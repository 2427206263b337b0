"""The tour: every type sent and received, in a chat and in a group, and what is no message beside it."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from local.demo import samples
from local.demo.sink import Sink

_STEP_TIMEOUT_S = 30
_LOOK_EVERY_S = 0.1
_READ = frozenset({"read", "played"})

# Any: rows of JSON, described in the contract.
Row = dict[str, Any]
T = TypeVar("T")


class NotSo(Exception):
    """A step did not come out as it should; the text says how."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One row of the tour's table. None: there is no such way for it."""

    name: str
    sent: bool | None
    received: bool | None
    complaints: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.complaints


@dataclass(frozen=True, slots=True)
class Stop:
    """A type, what is said, how a contact would say it where that differs, and the event that tells of it."""

    name: str
    type: str
    payload: Row
    inbound: Row | None = None
    event: str = "message.received"
    # What the other side shows of the file, beside what was said.
    shown: Row = field(default_factory=dict)


def _file(data: bytes, **more: Any) -> Row:  # noqa: ANN401 - JSON
    return {"base64": base64.b64encode(data).decode(), **more}


STOPS = (
    Stop("text", "text", {"text": "a text"}),
    Stop("image", "image", _file(samples.picture(), caption="an image")),
    Stop("video", "video", _file(samples.film(), seconds=1), inbound=_file(samples.film())),
    Stop("audio", "audio", _file(samples.voice(2)), shown={"seconds": 2}),
    Stop("voice note", "audio", _file(samples.voice(3), ptt=True), shown={"seconds": 3, "ptt": True}),
    Stop("document", "document", _file(samples.document(), filename="a.pdf")),
    Stop("sticker", "sticker", _file(samples.sticker())),
    Stop("location", "location", {"latitude": -23.55, "longitude": -46.63, "name": "São Paulo"}),
    Stop("contact", "contact", {"name": "Ana", "phone": "5511900001111"}),
    Stop("poll", "poll", {"question": "When?", "options": ["now", "later"], "max": 1}),
)


@dataclass(slots=True)
class Tour:
    """`phone` is the linked one, `contact` somebody who answers with receipts."""

    api: httpx.AsyncClient
    fake: httpx.AsyncClient
    sink: Sink
    connection_id: str
    phone: str
    contact: str
    group: str = ""

    async def walk(self) -> list[Visit]:
        """Every row, in order; a step that fails is a complaint, and the next one begins."""
        visits = [await self._stop(stop, chat="") for stop in STOPS]
        visits += [await self._marks(), await self._votes()]
        self.group = (await self._ask(self.fake, "POST", "/groups", {"subject": "Tour", "members": [self.contact]}))[
            "jid"
        ]
        group = Stop("text in a group", "text", {"text": "to the group"})
        visits.append(await self._stop(group, chat=self.group))
        visits.append(await self._beside())
        return visits

    async def _stop(self, stop: Stop, *, chat: str) -> Visit:
        async def out() -> None:
            sent = await self._sent(stop.type, stop.payload, chat=chat)
            await self._is_on_wire(sent, {**stop.payload, **stop.shown})

        async def back() -> None:
            payload = stop.inbound or stop.payload
            wire_id = await self._written(stop.type, payload, chat=chat)
            row = await self._stored(wire_id, stop.event)
            said = {name: value for name, value in payload.items() if name not in {"base64", "max"}}
            _expect(said.items() <= row["payload"].items(), f"what was stored says {row['payload']}")
            _expect(not chat or row["participant"] == f"{self.contact}@s.whatsapp.net", "nobody knows who wrote it")

        return await _visit(stop.name, out, back)

    async def _marks(self) -> Visit:
        """A reaction, an edit and a revocation: of our message, and of the contact's."""

        async def out() -> None:
            target = await self._sent("text", {"text": "frist"})
            for type_, payload in (("reaction", {"emoji": "👍"}), ("edit", {"text": "first"}), ("revoke", {})):
                sent = await self._sent(type_, {"message_id": target["message_id"], **payload})
                await self._is_on_wire(sent, {"message_id": target["wa_message_id"], **payload})
            shown = await self._ask(self.api, "GET", f"/messages/{target['id']}")
            _expect(shown["edited"]["text"] == "first" and shown["revoked_at"], "the message does not show it")

        async def back() -> None:
            ours = await self._sent("text", {"text": "what do you think?"})
            theirs = await self._written("text", {"text": "I thnik"})
            await self._stored(theirs, "message.received")
            for type_, event, wire_id, payload in (
                ("reaction", "message.reaction", ours["wa_message_id"], {"emoji": "❤"}),
                ("edit", "message.edited", theirs, {"text": "I think"}),
                ("revoke", "message.revoked", theirs, {}),
            ):
                mark = await self._written(type_, {"message_id": wire_id, **payload})
                row = await self._stored(mark, event)
                _expect(row["target_id"] is not None, f"a {type_} means nothing that is known")

        return await _visit("reaction, edit, revoke", out, back)

    async def _votes(self) -> Visit:
        async def back() -> None:
            poll = await self._sent("poll", {"question": "Tea?", "options": ["yes", "no"]})
            said = {"message_id": poll["wa_message_id"], "options": ["yes"]}
            row = await self._stored(await self._written("poll_vote", said), "message.poll_vote")
            _expect(row["payload"]["options"] == ["yes"], f"the vote says {row['payload']}")

        return await _visit("vote in a poll", None, back)

    async def _beside(self) -> Visit:
        """Typing, marking as read, and asking whether a number is there."""

        async def out() -> None:
            where = f"/connections/{self.connection_id}"
            wire_id = await self._written("text", {"text": "read me"})
            row = await self._stored(wire_id, "message.received")
            await self._ask(self.api, "POST", f"{where}/typing", {"to": self.contact, "state": "composing"})
            await self._ask(self.api, "POST", f"{where}/read", {"message_ids": [row["id"]]})
            checked = await self._ask(self.api, "POST", f"{where}/contacts/check", {"phones": [self.contact]})
            _expect(checked["data"][0]["on_whatsapp"], "the contact is not found")

            async def seen() -> bool:
                answer = await self._ask(self.fake, "GET", f"/signals?session_phone={self.phone}")
                return {"typing", "read"} <= {signal["kind"] for signal in answer["data"]}

            await _until(seen, what="the contact saw it")

        return await _visit("typing, read, number check", out, None)

    # ---- what each step is made of

    async def _sent(self, type_: str, payload: Row, *, chat: str = "") -> Row:
        """The message, once the contact has read it and a webhook has said so."""
        body = {"to": chat or self.contact, "type": type_, "payload": payload}
        accepted = await self._ask(self.api, "POST", f"/connections/{self.connection_id}/send", body)
        message_id = accepted["message"]["id"]

        async def read() -> Row | None:
            row = await self._ask(self.api, "GET", f"/messages/{message_id}")
            _expect(row["status"] not in {"dlq", "expired"}, f"it is refused: {row['error']}")
            return row if row["status"] in _READ else None

        row = await _until(read, what=f"the {type_} was read")
        await self._told("message.read", message_id)
        return row

    async def _is_on_wire(self, message: Row, said: Row) -> None:
        answer = await self._ask(self.fake, "GET", f"/wire?session_phone={self.phone}")
        rows = [row for row in answer["data"] if row["wire_id"] == message["wa_message_id"]]
        _expect(len(rows) == 1, f"it was on the wire {len(rows)} times")
        _expect(rows[0]["type"] == message["type"], f"it was on the wire as {rows[0]['type']}")
        _expect(said.items() <= rows[0]["payload"].items(), f"the wire says {rows[0]['payload']}")

    async def _written(self, type_: str, payload: Row, *, chat: str = "") -> str:
        body: Row = {"session_phone": self.phone, "from": self.contact, "type": type_, "payload": payload}
        return str(
            (await self._ask(self.fake, "POST", "/inbound", {**body, **({"group": chat} if chat else {})}))["wire_id"]
        )

    async def _stored(self, wire_id: str, event: str) -> Row:
        """What came in, once it is stored and a webhook has told of it."""
        path = f"/connections/{self.connection_id}/messages?direction=inbound&limit=20"

        async def stored() -> Row | None:
            rows: list[Row] = (await self._ask(self.api, "GET", path))["data"]
            return next((row for row in rows if row["wa_message_id"] == wire_id), None)

        row = await _until(stored, what="it was stored")
        return await self._told(event, row["id"])

    async def _told(self, event: str, message_id: str) -> Row:
        async def told() -> Row | None:
            bodies = [one.body for one in self.sink.webhooks.values() if one.event == event]
            return next((body["payload"] for body in bodies if body["payload"]["id"] == message_id), None)

        return await _until(told, what=f"a webhook {event} came")

    async def _ask(self, client: httpx.AsyncClient, method: str, path: str, body: Row | None = None) -> Row:
        answer = await client.request(method, path, json=body)
        _expect(answer.is_success, f"{method} {path} was answered with {answer.status_code}: {answer.text[:500]}")
        found: Row = answer.json()
        return found


async def _visit(
    name: str, out: Callable[[], Awaitable[None]] | None, back: Callable[[], Awaitable[None]] | None
) -> Visit:
    ways: list[bool | None] = []
    complaints: list[str] = []
    for way, step in (("sent", out), ("received", back)):
        try:
            if step is not None:
                await step()
            ways.append(None if step is None else True)
        except NotSo as reason:
            ways.append(False)
            complaints.append(f"{name}, {way}: {reason}")
    return Visit(name, ways[0], ways[1], tuple(complaints))


async def _until(look: Callable[[], Awaitable[T | None]], *, what: str) -> T:
    end = time.monotonic() + _STEP_TIMEOUT_S
    while not (found := await look()):
        _expect(time.monotonic() < end, f"not within {_STEP_TIMEOUT_S} s: {what}")
        await asyncio.sleep(_LOOK_EVERY_S)
    return found


def _expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise NotSo(otherwise)
