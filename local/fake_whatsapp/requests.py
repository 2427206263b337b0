"""What the control API accepts: parsed at the door, and refused there when it is wrong."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from local.fake_whatsapp.compose import Payload, PollVotePayload, TextPayload, Type, parse_payload
from local.fake_whatsapp.contacts import Addressing
from local.fake_whatsapp.faults import WITH_A_CODE, Fault, FaultKind

LONGEST_DELAY_MS = 600_000
LONGEST_AGE_S = 30 * 86_400
# They mean a message in a way that only a contact's side is written for.
NOT_FROM_THE_PHONE = frozenset({"reaction", "poll_vote"})
ReceiptType = Literal[
    "delivered", "read", "played", "read-self", "played-self", "sender", "inactive", "retry", "server-error"
]


def _digits(value: object) -> object:
    """A phone as digits, with a leading plus, or as a JID."""
    return value.strip().removesuffix("@s.whatsapp.net").removeprefix("+") if isinstance(value, str) else value


def _once(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise ValueError("each of them comes once")
    return values


PhoneNumber = Annotated[str, BeforeValidator(_digits), StringConstraints(pattern=r"^[1-9]\d{4,19}$")]
WireId = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,128}$")]


GroupJid = Annotated[str, StringConstraints(pattern=r"^[1-9]\d{9,24}@g\.us$")]
# A group, a channel, or the status updates of contacts.
ChatJid = Annotated[str, StringConstraints(pattern=r"^([1-9]\d{9,24}@(g\.us|newsletter)|status@broadcast)$")]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PastMessage(Request):
    """`timestamp` in seconds since the epoch."""

    text: str
    from_me: bool = False
    timestamp: Annotated[int, Field(ge=0)]


class PastChat(Request):
    """A conversation that the phone had before it linked this device, oldest message first."""

    phone: PhoneNumber
    name: str = ""
    messages: list[PastMessage]


class ScanRequest(Request):
    """`history`: what the phone sends to the device as soon as it is linked."""

    qr: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    phone: PhoneNumber
    history: list[PastChat] = []


class LinkCodeRequest(Request):
    code: Annotated[str, StringConstraints(pattern=r"^[\s0-9A-Za-z-]{8,16}$")]
    phone: PhoneNumber


class ContactRequest(Request):
    """A field that is left out keeps what is known of the contact."""

    phone: PhoneNumber
    name: Annotated[str, StringConstraints(max_length=200)] | None = None
    on_whatsapp: bool | None = None
    auto_receipts: Annotated[list[Literal["delivered", "read"]], AfterValidator(_once)] | None = None
    receipt_delay_ms: Annotated[int, Field(ge=0, le=LONGEST_DELAY_MS)] | None = None
    addressing: Addressing | None = None
    spellings: Annotated[list[PhoneNumber], AfterValidator(_once)] | None = None


class GroupRequest(Request):
    """Sessions are in every group but those of `without`; `members` are the others. No `jid`: it is a new one."""

    jid: GroupJid | None = None
    subject: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "A group"
    members: Annotated[list[PhoneNumber], Field(min_length=1, max_length=1024), AfterValidator(_once)]
    without: list[PhoneNumber] = []


class InboundRequest(Request):
    """`group`: written there, not in the contact's own chat. From the session's phone itself: there, or `to` a person.

    `undecryptable`: the device cannot read it until it has asked for it again. `age_s`: it was written so long ago.
    """

    session_phone: PhoneNumber
    sender: PhoneNumber = Field(alias="from")
    to: PhoneNumber | None = None
    text: str | None = None
    type: Type = "text"
    payload: dict[str, object] | None = None
    id: WireId | None = None
    group: ChatJid | None = None
    undecryptable: bool = False
    age_s: Annotated[int, Field(ge=0, le=LONGEST_AGE_S)] = 0

    @model_validator(mode="after")
    def _is_written_to_somebody(self) -> InboundRequest:
        if self.sender != self.session_phone:
            if self.to is not None:
                raise ValueError("to goes with what the session's own phone writes; a contact writes to the session")
            return self
        if (self.to is None) == (self.group is None) or self.to == self.session_phone:
            raise ValueError("the phone itself writes to a contact, or in a group; not to itself")
        if self.type in NOT_FROM_THE_PHONE:
            raise ValueError(f"{self.type} cannot be sent by the phone itself here")
        return self

    @model_validator(mode="after")
    def _says_one_thing(self) -> InboundRequest:
        if (self.text is None) == (self.payload is None):
            raise ValueError("give either text, or type and payload")
        if self.text is not None and self.type != "text":
            raise ValueError("text goes with type text; give a payload for the others")
        self.content()
        return self

    def content(self) -> Payload:
        """The payload of this type; raises pydantic's ValidationError, but no more once it was parsed."""
        return TextPayload(text=self.text) if self.text is not None else parse_payload(self.type, self.payload)

    def poll(self) -> str | None:
        """The poll that is voted in."""
        content = self.content()
        return content.message_id if isinstance(content, PollVotePayload) else None


class CallRequest(Request):
    """A voice call of a contact; the session must be connected. The caller is named as messages name it."""

    session_phone: PhoneNumber
    sender: PhoneNumber = Field(alias="from")
    id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{1,64}$")] | None = None


class ReceiptRequest(Request):
    """`participant`: whose receipt it is, of a message to a group; its first member's when left out."""

    session_phone: PhoneNumber
    wire_id: WireId
    type: ReceiptType
    participant: PhoneNumber | None = None


class FaultRequest(Request):
    """`code` goes with ack_error and query_error and is required there, `ms` likewise with ack_delay."""

    kind: FaultKind
    code: Annotated[int, Field(ge=1, le=999)] | None = None
    ms: Annotated[int, Field(ge=0, le=LONGEST_DELAY_MS)] | None = None
    session_phone: PhoneNumber | None = None
    contact: PhoneNumber | None = None
    count: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    @model_validator(mode="after")
    def _fits_its_kind(self) -> FaultRequest:
        if (self.code is None) is (self.kind in WITH_A_CODE):
            raise ValueError("code is required for ack_error and query_error, and goes with nothing else")
        if (self.ms is None) is (self.kind is FaultKind.ACK_DELAY):
            raise ValueError("ms is required for ack_delay, and goes with nothing else")
        return self

    def fault(self) -> Fault:
        return Fault(
            kind=self.kind,
            session_phone=self.session_phone,
            contact=self.contact,
            count=self.count,
            code=self.code or 0,
            ms=self.ms or 0,
        )


class WireQuery(Request):
    session_phone: PhoneNumber | None = None
    contact: Annotated[str, BeforeValidator(_digits)] | None = None
    after: Annotated[int, Field(ge=0)] = 0


class SignalsQuery(Request):
    session_phone: PhoneNumber | None = None
    after: Annotated[int, Field(ge=0)] = 0
