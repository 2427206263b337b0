"""What a phone sends to a device that it has just linked: the conversations that it had before."""

from __future__ import annotations

import asyncio
import secrets
import zlib

from local.fake_whatsapp import mailbox
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.incoming import new_wire_id
from local.fake_whatsapp.media import Encrypted
from local.fake_whatsapp.phones import phone_jid
from local.fake_whatsapp.protocol.protos import HistorySync, Message
from local.fake_whatsapp.requests import PastChat

INITIAL_BOOTSTRAP = 0
HISTORY_SYNC_NOTIFICATION = 5


async def post(exchange: Exchange, *, phone: str, chats: list[PastChat]) -> None:
    """Put the history where clients download media, and write to the device, as the phone itself, where it is.

    The caller waits for the disk and wakes the session.
    """
    file = await asyncio.to_thread(exchange.media.encrypt, "history", _packed(chats))
    exchange.mailbox.post(phone, contact=phone, kind=mailbox.MESSAGE, wire_id=new_wire_id(), body=_notification(file))


def _packed(chats: list[PastChat]) -> bytes:
    history = HistorySync(syncType=INITIAL_BOOTSTRAP, chunkOrder=1, progress=100)
    for chat in chats:
        jid = phone_jid(chat.phone)
        conversation = history.conversations.add(ID=jid, name=chat.name)
        history.pushnames.add(ID=jid, pushname=chat.name or chat.phone)
        for order, past in enumerate(chat.messages):
            message = conversation.messages.add(msgOrderID=order).message
            message.key.remoteJID, message.key.fromMe, message.key.ID = jid, past.from_me, new_wire_id()
            message.message.conversation = past.text
            message.messageTimestamp = past.timestamp
            # Of a poll it would open the votes: the library keeps those of the history too.
            message.messageSecret = secrets.token_bytes(32)
    packed: bytes = zlib.compress(history.SerializeToString())
    return packed


def _notification(file: Encrypted) -> bytes:
    message = Message()
    message.protocolMessage.type = HISTORY_SYNC_NOTIFICATION
    notification = message.protocolMessage.historySyncNotification
    notification.syncType, notification.chunkOrder, notification.progress = INITIAL_BOOTSTRAP, 1, 100
    notification.directPath, notification.mediaKey = file.direct_path, file.media_key
    notification.fileSHA256, notification.fileEncSHA256 = file.file_sha256, file.file_enc_sha256
    notification.fileLength = file.file_bytes
    serialized: bytes = message.SerializeToString()
    return serialized
