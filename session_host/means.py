"""What the sessions of one process work with."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from session_host.fence import Fence
from session_host.records import SessionRecords
from session_host.turns import Turns
from session_host.whatsapp.port import ClientFactory


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The same for all sessions of a process. `on_leak` hears of a client that did not end when it was stopped."""

    make_client: ClientFactory
    records: SessionRecords
    fence: Fence
    turns: Turns
    on_leak: Callable[[], None]
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
