"""A process with the real neonize library: reads commands on stdin, writes answers and events to a pipe.

neonize cannot be reset inside a process, and its Go half prints to stdout; hence a process, and a pipe of its own.
Usage: neonize_process.py CONTROL_URL PIPE_FD, with NEONIZE_BOT_TAG=off in the environment: Go does not see what
Python sets later.
"""

# ruff: noqa: ANN001 - neonize's objects have no static types

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from local.fake_whatsapp import connector

control_url, pipe_fd = sys.argv[1], int(sys.argv[2])
proxy_url = connector.install(control_url)

from neonize._binder import ProxySettings, gocode  # noqa: E402  # the connector must come first
from neonize.aioze import events  # noqa: E402
from neonize.aioze.client import NewAClient  # noqa: E402
from neonize.proto.Neonize_pb2 import JID, ReturnFunctionWithError  # noqa: E402
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import LocationMessage, Message  # noqa: E402
from neonize.utils.enum import ClientName, ClientType, ReceiptType, VoteType  # noqa: E402
from neonize.utils.jid import build_jid  # noqa: E402

clients = {}
pipe = os.fdopen(pipe_fd, "w", buffering=1)


def emit(**said: object) -> None:
    pipe.write(json.dumps(said) + "\n")


def jid_text(jid) -> str:
    return f"{jid.User}:{jid.Device}@{jid.Server}" if jid.Device else f"{jid.User}@{jid.Server}"


def message_event(name: str, event) -> dict:
    message = event.Message
    source = event.Info.MessageSource
    return {
        "event": "message",
        "name": name,
        "id": event.Info.ID,
        "from": jid_text(source.Sender),
        "push_name": event.Info.Pushname,
        "text": message.conversation or message.extendedTextMessage.text,
        "fields": [field.name for field, _ in message.ListFields() if field.name != "messageContextInfo"],
        "raw": message.SerializeToString().hex(),
        "event_raw": event.SerializeToString().hex(),
    }


def receipt_type(event) -> str:
    return event.DESCRIPTOR.fields_by_name["Type"].enum_type.values_by_number[event.Type].name.lower()


def subscribe(name: str, client: NewAClient) -> None:
    described = {
        events.ConnectedEv: lambda _: {"event": "connected", "name": name},
        events.DisconnectedEv: lambda _: {"event": "disconnected", "name": name},
        events.LoggedOutEv: lambda e: {"event": "logged_out", "name": name, "reason": e.Reason},
        events.StreamReplacedEv: lambda _: {"event": "replaced", "name": name},
        events.TemporaryBanEv: lambda e: {"event": "banned", "name": name, "expire_s": e.Expire},
        events.PairStatusEv: lambda e: {"event": "paired", "name": name, "user": e.ID.User, "device": e.ID.Device},
        events.MessageEv: lambda e: message_event(name, e),
        events.ReceiptEv: lambda e: {
            "event": "receipt",
            "name": name,
            "ids": list(e.MessageIDs),
            "type": receipt_type(e),
        },
    }

    def forward(describe: Callable) -> Callable[..., Awaitable[None]]:
        async def handler(_: NewAClient, event) -> None:
            emit(**describe(event))

        return handler

    for kind, describe in described.items():
        client.event(kind)(forward(describe))

    async def show_qr(_: NewAClient, code: bytes) -> None:
        emit(event="qr", name=name, code=code.decode())

    client.qr(show_qr)


async def open_session(name: str, db: str, user: str = "", device: int = 0) -> None:
    if user:
        jid = JID(User=user, Device=device, RawAgent=0, Integrator=0, Server="s.whatsapp.net", IsEmpty=False)
        client = NewAClient(db, jid=jid)
    else:
        client = NewAClient(db, uuid=name, new_device=True)
    subscribe(name, client)
    clients[name] = client
    client.pump = await client.connect(ProxySettings(proxy_url))
    client.pump.add_done_callback(lambda pump: emit(event="ended", name=name, error=str(pump.exception())))


async def send(name: str, to: str, text: str, *, kind: str = "text", target: str = "") -> str:
    client = clients[name]
    chat = build_jid(to)
    message: object = Message(conversation=text)
    match kind:
        case "location":
            message = Message(locationMessage=LocationMessage(degreesLatitude=-23.5, degreesLongitude=-46.6, name=text))
        case "reaction":
            message = await client.build_reaction(chat, chat, target, text)
        case "poll":
            message = await client.build_poll_vote_creation(text, ["a", "b"], VoteType.SINGLE)
        case "image":
            message = await client.build_image_message(bytes.fromhex(target), caption=text)
        case "document":
            message = await client.build_document_message(b"%PDF-1.4 x", filename=text, mimetype="application/pdf")
        case "edit":
            return (await client.edit_message(chat, target, Message(conversation=text))).ID
        case "revoke":
            return (await client.revoke_message(chat, (await client.get_me()).JID, target)).ID
        case "contact":
            return (await client.send_contact(chat, text, target)).ID
        case "group":
            chat = build_jid(to, "g.us")
    return (await client.send_message(chat, message)).ID


async def pair_phone(name: str, phone: str) -> str:
    return await clients[name].PairPhone(phone, True, ClientName.LINUX, ClientType.CHROME)


async def check(name: str, phones: list[str]) -> dict[str, bool]:
    return {found.Query.lstrip("+"): found.IsIn for found in await clients[name].is_on_whatsapp(*phones)}


async def stop(name: str) -> None:
    await clients[name].stop()


async def read(name: str, sender: str, ids: list[str]) -> None:
    jid = build_jid(sender)
    await clients[name].mark_read(*ids, chat=jid, sender=jid, receipt=ReceiptType.READ)


async def download(name: str, raw: str) -> str:
    return (await clients[name].download_any(Message.FromString(bytes.fromhex(raw)))).hex()


async def open_vote(name: str, raw: str) -> list[str]:
    # neonize's own wrapper takes the library's answer for bytes, and fails.
    event, uuid = bytes.fromhex(raw), clients[name].uuid
    answer = await asyncio.to_thread(gocode.DecryptPollVote, uuid, event, len(event))
    found = ReturnFunctionWithError.FromString(answer.contents.get_bytes())
    if found.Error:
        raise RuntimeError(found.Error)
    return [chosen.hex() for chosen in found.PollVoteMessage.selectedOptions]


async def logout(name: str) -> None:
    await clients[name].logout()


COMMANDS = {
    "open": open_session,
    "send": send,
    "pair_phone": pair_phone,
    "check": check,
    "stop": stop,
    "read": read,
    "download": download,
    "logout": logout,
    "open_vote": open_vote,
}


async def run(command: dict) -> None:
    number, what = command.pop("number"), command.pop("do")
    try:
        emit(answer=number, result=await COMMANDS[what](**command))
    except Exception as error:  # noqa: BLE001  # the root of this process: the test decides what it means
        emit(answer=number, error=f"{type(error).__name__}: {error}")


async def main() -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(256))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = set()
    while line := await reader.readline():
        task = loop.create_task(run(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
    # Threads of the library may never end; see the notes on stopping during the QR phase.
    os._exit(0)


asyncio.run(main())
