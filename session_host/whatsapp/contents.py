"""Builds the library's message from a type and its payload; another type is one entry in `_BUILDERS`."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from neonize.proto.waCommon import WACommon_pb2 as common
from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as e2e

from session_host.whatsapp import media
from session_host.whatsapp.port import Outgoing

# Any in this module: neonize ships no types for its generated messages.

_Payload = Mapping[str, Any]


class Unsupported(Exception):
    """No message of that type, or with that payload, can be sent from here."""


def build(message: Outgoing) -> Any:  # noqa: ANN401 - neonize ships no types
    """The message as the library sends it, with the secret that finds its wire id again. Raises Unsupported."""
    builder = _BUILDERS.get(message.type)
    if builder is None:
        raise Unsupported(f"messages of type {message.type} cannot be sent by this host")
    try:
        built = builder(message, message.payload)
    except (KeyError, TypeError, ValueError) as error:
        raise Unsupported(f"the payload of a {message.type} message is incomplete: {error}") from error
    return _with_secret(built, message)


def build_file(message: Outgoing, said: Mapping[str, Any], uploaded: Any) -> Any:  # noqa: ANN401 - as build
    """As `build`, of a message whose file was uploaded; `said` is what media.describe found."""
    built = media.message(message.type, said, uploaded)
    context = _context(message)
    if context is not None:
        getattr(built, f"{message.type}Message").contextInfo.CopyFrom(context)
    return _with_secret(built, message)


def _with_secret(built: Any, message: Outgoing) -> Any:  # noqa: ANN401 - as build
    built.messageContextInfo.messageSecret = message.secret
    return built


def _text(message: Outgoing, payload: _Payload) -> Any:  # noqa: ANN401 - as build
    preview = payload.get("preview")
    if message.reply_to is None and not message.mentions and not preview:
        return e2e.Message(conversation=payload["text"])
    text = e2e.ExtendedTextMessage(text=payload["text"], contextInfo=_context(message))
    if preview:
        text.matchedText, text.title = preview["url"], preview["title"]
        text.description = preview.get("description", "")
        text.previewType = e2e.ExtendedTextMessage.NONE
    return e2e.Message(extendedTextMessage=text)


def _location(message: Outgoing, payload: _Payload) -> Any:  # noqa: ANN401 - as build
    return e2e.Message(
        locationMessage=e2e.LocationMessage(
            degreesLatitude=payload["latitude"],
            degreesLongitude=payload["longitude"],
            name=payload.get("name"),
            address=payload.get("address"),
            contextInfo=_context(message),
        )
    )


def _contact(message: Outgoing, payload: _Payload) -> Any:  # noqa: ANN401 - as build
    name, phone = payload["name"], payload["phone"]
    shown = name.replace("\n", " ").replace("\r", " ")
    card = f"BEGIN:VCARD\nVERSION:3.0\nFN:{shown}\nTEL;type=CELL;waid={phone}:+{phone}\nEND:VCARD"
    return e2e.Message(contactMessage=e2e.ContactMessage(displayName=shown, vcard=card, contextInfo=_context(message)))


def _reaction(message: Outgoing, payload: _Payload) -> Any:  # noqa: ANN401 - as build
    return e2e.Message(
        reactionMessage=e2e.ReactionMessage(
            key=_key(message.to, payload), text=payload["emoji"], senderTimestampMS=int(time.time() * 1000)
        )
    )


def _poll(message: Outgoing, payload: _Payload) -> Any:  # noqa: ANN401 - as build
    # The secret that finds its wire id is also what its votes are encrypted with.
    return e2e.Message(
        pollCreationMessage=e2e.PollCreationMessage(
            name=payload["question"],
            options=[e2e.PollCreationMessage.Option(optionName=option) for option in payload["options"]],
            selectableOptionsCount=payload.get("max", 1),
            contextInfo=_context(message),
        )
    )


def _edit(message: Outgoing, payload: _Payload) -> Any:  # noqa: ANN401 - as build
    edited = e2e.ProtocolMessage(
        key=_key(message.to, {**payload, "from_me": True}),
        type=e2e.ProtocolMessage.MESSAGE_EDIT,
        editedMessage=e2e.Message(conversation=payload["text"]),
        timestampMS=int(time.time() * 1000),
    )
    return e2e.Message(editedMessage=e2e.FutureProofMessage(message=e2e.Message(protocolMessage=edited)))


def _revoke(message: Outgoing, payload: _Payload) -> Any:  # noqa: ANN401 - as build
    revoked = e2e.ProtocolMessage(key=_key(message.to, {"from_me": True, **payload}), type=e2e.ProtocolMessage.REVOKE)
    return e2e.Message(protocolMessage=revoked)


def _key(chat: str, payload: _Payload) -> Any:  # noqa: ANN401 - as build
    """The message that is meant: its wire id, whether we wrote it, and in a group who did."""
    return common.MessageKey(
        remoteJID=chat,
        fromMe=payload.get("from_me", False),
        ID=payload["message_id"],
        participant=payload.get("participant"),
    )


def _context(message: Outgoing) -> Any:  # noqa: ANN401 - as build
    if message.reply_to is None and not message.mentions:
        return None
    context = e2e.ContextInfo(mentionedJID=list(message.mentions))
    if message.reply_to is not None:
        context.stanzaID = message.reply_to.wire_id
        context.participant = message.reply_to.sender_jid
        if message.reply_to.chat_jid is not None:
            context.remoteJID = message.reply_to.chat_jid
        context.quotedMessage.CopyFrom(e2e.Message(conversation=message.reply_to.text))
    return context


_BUILDERS: Final[dict[str, Callable[[Outgoing, _Payload], Any]]] = {
    "text": _text,
    "location": _location,
    "contact": _contact,
    "reaction": _reaction,
    "poll": _poll,
    "edit": _edit,
    "revoke": _revoke,
}
