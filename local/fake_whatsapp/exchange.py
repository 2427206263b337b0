"""What all connections of one server share: its keys, its registries, and who is connected now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local.fake_whatsapp.certificates import Identity
from local.fake_whatsapp.contacts import Contacts
from local.fake_whatsapp.conversations import Conversations
from local.fake_whatsapp.devices import Devices
from local.fake_whatsapp.faults import Faults
from local.fake_whatsapp.groups import Groups
from local.fake_whatsapp.mailbox import Mailbox
from local.fake_whatsapp.media import MediaFiles
from local.fake_whatsapp.polls import Polls
from local.fake_whatsapp.protocol.codec import Codec
from local.fake_whatsapp.signals import Signals
from local.fake_whatsapp.store import Store
from local.fake_whatsapp.wire_log import WireLog

if TYPE_CHECKING:
    from local.fake_whatsapp.pairing import WaitingClient
    from local.fake_whatsapp.session import Session


@dataclass(frozen=True)
class Exchange:
    """One per server. `live` is keyed by phone, `waiting` holds the clients that show a QR code."""

    store: Store
    identity: Identity
    codec: Codec
    contacts: Contacts
    devices: Devices
    conversations: Conversations
    mailbox: Mailbox
    wire: WireLog
    media: MediaFiles
    groups: Groups
    polls: Polls
    signals: Signals
    faults: Faults = field(default_factory=Faults)
    live: dict[str, Session] = field(default_factory=dict)
    waiting: set[WaitingClient] = field(default_factory=set)
