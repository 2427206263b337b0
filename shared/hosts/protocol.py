"""What is said to a session host and what it answers: the border, parsed on both sides.

A command about a session names the lease's `epoch`; a host that has another answers NotOwner, untouched.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.domain.ids import WireId

# Where the commands live under a host's address; each is a POST with a JSON body.
COMMANDS = "/v1"
# The body of a 401 for a signature that is right and of another minute.
STALE = b'{"error": "STALE"}'


class _Strict(BaseModel):
    # Bytes are base64 on the wire, and bytes in Python.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


# ---- commands


class Open(_Strict):
    """Take the session, or keep it; `restart` closes a socket that is open first.

    `to_unlink` takes one that is deleted or shall be offline: a Logout follows.
    """

    connection_id: UUID
    restart: bool = False
    to_unlink: bool = False


class Close(_Strict):
    """Close the socket, stay linked; status `closed`."""

    connection_id: UUID
    epoch: int


class Logout(_Strict):
    """Unlink at the phone, once a login under way is done; status `logged_out`, or `closed` when it is deleted."""

    connection_id: UUID
    epoch: int
    is_deleted: bool = False


class PairCode(_Strict):
    """Ask WhatsApp for a code that is typed on the phone; only while a QR code is shown."""

    connection_id: UUID
    epoch: int
    phone: str = Field(pattern=r"^\d{5,20}$")


class Quoted(_Strict):
    """The message that is replied to, by its wire id and its writer's JID; `chat_jid` when it is of another chat."""

    wire_id: str
    sender_jid: str
    text: str = ""
    chat_jid: str | None = None


class Try(_Strict):
    """One try of one message. `secret` is the 32 bytes by which the device store finds the try's wire id again."""

    connection_id: UUID
    message_id: UUID
    send_no: int = Field(ge=1)
    secret: bytes = Field(min_length=32, max_length=32, repr=False)


class Send(Try):
    """`to` is a canonical JID: `5511…@s.whatsapp.net`, or a group's."""

    epoch: int
    to: str
    type: str
    payload: dict[str, Any]
    reply_to: Quoted | None = None
    mentions: list[str] = []


class Lookup(Try):
    """What became of a try: with the host, epoch and device that were committed before it."""

    send_host: str
    send_epoch: int
    send_device: str


class Check(_Strict):
    """Which of these numbers (digits with country code) are on WhatsApp."""

    connection_id: UUID
    epoch: int
    phones: list[str] = Field(min_length=1, max_length=100)


class MediaSource(_Strict):
    """Where WhatsApp keeps a file that came in, and what opens it: the `source` of an inbound message's content."""

    kind: Literal["image", "video", "audio", "document", "sticker"]
    direct_path: str
    media_key: bytes = Field(repr=False)
    sha256: bytes
    enc_sha256: bytes
    size: int


class Download(_Strict):
    """Fetch a file that came in. Answered with its bytes (application/octet-stream), or why not (JSON)."""

    connection_id: UUID
    epoch: int
    source: MediaSource


TypingState = Literal["composing", "recording", "paused"]


class Typing(_Strict):
    """Let the chat `to` see that somebody types, or records a voice note, or does no longer."""

    connection_id: UUID
    epoch: int
    to: str
    state: TypingState


class ReadFrom(_Strict):
    """Messages of one writer in one chat; the JIDs are those of their stanzas."""

    chat: str
    sender: str
    wire_ids: list[WireId] = Field(min_length=1)


class Read(_Strict):
    """Let the writers of these messages see that they were read."""

    connection_id: UUID
    epoch: int
    messages: list[ReadFrom] = Field(min_length=1, max_length=100)


class State(_Strict):
    connection_id: UUID


class TryProxy(_Strict):
    """Whether WhatsApp can be reached the way that this connection's config says. Any host can be asked."""

    connection_id: UUID


# ---- answers to a send

# What holds more than one message: a chat that WhatsApp restricts, and the whole number.
CHAT_RESTRICTED = "CHAT_RESTRICTED"
RATE_OVERLIMIT = "RATE_OVERLIMIT"


class _Answer(BaseModel):
    # Old and new code talk to each other during an update, so an answer's unknown fields are skipped.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Sent(_Answer):
    """WhatsApp has it, under this wire id."""

    kind: Literal["sent"] = "sent"
    wire_id: WireId
    at: datetime


class Refused(_Answer):
    """It was definitely not sent. `permanent`: the same message is refused again, or after `max_tries` tries in all."""

    kind: Literal["refused"] = "refused"
    code: str
    detail: str
    permanent: bool = False
    retry_after_s: float | None = None
    max_tries: int | None = None


class Ambiguous(_Answer):
    """It may or may not have been sent: look it up before anything else."""

    kind: Literal["ambiguous"] = "ambiguous"
    detail: str


class Busy(_Answer):
    """The session is sending another message; this one was not touched."""

    kind: Literal["busy"] = "busy"


class NotOwner(_Answer):
    """The host does not hold the session in that epoch; nothing was done."""

    kind: Literal["not_owner"] = "not_owner"


class NotConnected(_Answer):
    """The session is not online; nothing was sent."""

    kind: Literal["not_connected"] = "not_connected"


SendAnswer = Annotated[Sent | Refused | Ambiguous | Busy | NotOwner | NotConnected, Field(discriminator="kind")]
SEND_ANSWER: TypeAdapter[SendAnswer] = TypeAdapter(SendAnswer)


# ---- answers to a lookup


class Running(_Answer):
    """The try is still running on this host."""

    kind: Literal["running"] = "running"


class Left(_Answer):
    """Its frame was prepared under this wire id and may have left; a receipt settles it."""

    kind: Literal["left"] = "left"
    wire_id: WireId


class NeverLeft(_Answer):
    """Nothing left, and nothing of this try can leave any more."""

    kind: Literal["never_left"] = "never_left"


class CannotSay(_Answer):
    """The proof is missing; `detail` says which."""

    kind: Literal["cannot_say"] = "cannot_say"
    detail: str


LookupAnswer = Annotated[Running | Sent | Left | NeverLeft | CannotSay, Field(discriminator="kind")]
LOOKUP_ANSWER: TypeAdapter[LookupAnswer] = TypeAdapter(LookupAnswer)


# ---- the other answers


class Taken(_Answer):
    """The host holds the session now, in this epoch."""

    kind: Literal["taken"] = "taken"
    status: str
    epoch: int


class Full(_Answer):
    """The host holds as many sessions as it may."""

    kind: Literal["full"] = "full"


class HeldElsewhere(_Answer):
    """Another living host holds the lease."""

    kind: Literal["held_elsewhere"] = "held_elsewhere"


class NoSession(_Answer):
    """There is no such connection, or it was deleted."""

    kind: Literal["no_session"] = "no_session"


OpenAnswer = Annotated[Taken | Full | HeldElsewhere | NoSession, Field(discriminator="kind")]
OPEN_ANSWER: TypeAdapter[OpenAnswer] = TypeAdapter(OpenAnswer)


class Ended(_Answer):
    """The session is closed and its lease given back. `unlinked` False: the phone still lists the device."""

    kind: Literal["ended"] = "ended"
    unlinked: bool = False


EndAnswer = Annotated[Ended | NotOwner | NotConnected, Field(discriminator="kind")]
END_ANSWER: TypeAdapter[EndAnswer] = TypeAdapter(EndAnswer)


class ProxyTried(_Answer):
    """`trouble` says why WhatsApp was not reached; it names no address."""

    kind: Literal["tried"] = "tried"
    is_reachable: bool
    duration_ms: int
    trouble: str | None = None


ProxyAnswer = Annotated[ProxyTried | NoSession, Field(discriminator="kind")]
PROXY_ANSWER: TypeAdapter[ProxyAnswer] = TypeAdapter(ProxyAnswer)


class CodeShown(_Answer):
    kind: Literal["code"] = "code"
    code: str
    expires_at: datetime


PairCodeAnswer = Annotated[CodeShown | Refused | NotOwner | NotConnected, Field(discriminator="kind")]
PAIR_CODE_ANSWER: TypeAdapter[PairCodeAnswer] = TypeAdapter(PairCodeAnswer)


class Checked(_Answer):
    """Each number, whether it is on WhatsApp, and of those that are the JID as it is registered and the alias."""

    kind: Literal["checked"] = "checked"
    on_whatsapp: dict[str, bool]
    jids: dict[str, str] = {}
    lids: dict[str, str] = {}


CheckAnswer = Annotated[Checked | Refused | NotOwner | NotConnected, Field(discriminator="kind")]
CHECK_ANSWER: TypeAdapter[CheckAnswer] = TypeAdapter(CheckAnswer)


class Shown(_Answer):
    """It was handed to WhatsApp, which confirms no such thing."""

    kind: Literal["shown"] = "shown"


ShowAnswer = Annotated[Shown | Refused | NotOwner | NotConnected, Field(discriminator="kind")]
SHOW_ANSWER: TypeAdapter[ShowAnswer] = TypeAdapter(ShowAnswer)


NoFile = Annotated[Refused | NotOwner | NotConnected, Field(discriminator="kind")]
NO_FILE: TypeAdapter[NoFile] = TypeAdapter(NoFile)


class StateAnswer(_Answer):
    """What the host itself knows of a session; `is_held` False: it does not hold it."""

    kind: Literal["state"] = "state"
    is_held: bool
    epoch: int | None = None
    phase: str | None = None
    is_sending: bool = False


STATE_ANSWER: TypeAdapter[StateAnswer] = TypeAdapter(StateAnswer)
