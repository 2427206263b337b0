"""The run that kills: children of the session host die while messages are on their way, and a checker counts."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from local.demo.errors import DemoStopped
from local.soak.evidence import DOUBT, Findings, Ledger, Letter
from local.soak.killing import Kill, kill_a_child
from local.soak.looking import look
from local.soak.stand import CHATS, Layout, Linked, Stand, contact_of, phones

# One message comes in for so many that are sent.
_SENDS_PER_INBOUND: Final = 4
_LOOK_S: Final = 1.0
# On a busy machine a message is this long on its way through the library, at the most.
_IN_THE_LIBRARY_S: Final = 2.0
_ON_THE_WIRE_S: Final = 120
_SETTLE_S: Final = 180
# Nothing has changed for so long, more than a message in doubt holds its chat: what is missing does not come.
_CALM_S: Final = 45


@dataclass(frozen=True, slots=True)
class Plan:
    """`seed` decides who is killed and when, so that a run can be repeated."""

    sends: int
    kills: int
    layout: Layout
    seed: int = 1


@dataclass(slots=True)
class Report:
    """How the run ended. `resolved`: in doubt, settled by no receipt but by a person who saw what the wire says."""

    findings: Findings
    kills: list[Kill]
    resolved: list[str]
    sending_s: float
    unexplained: list[str] = field(default_factory=list)
    still_in_doubt: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Nothing lost, nothing doubled, all in order, every doubt settled, nothing swallowed but at a kill."""
        return self.findings.holds and not self.still_in_doubt and not self.unexplained


async def run(stand: Stand, plan: Plan) -> Report:
    """Link, send, kill, settle, count. Raises DemoStopped when ZapHub does not come back after a kill."""
    numbers = range(plan.layout.sessions)
    linked = await stand.link(phones(plan.layout.sessions))
    for session in numbers:
        for chat in range(CHATS):
            contact = {
                "phone": contact_of(session, chat),
                "auto_receipts": ["delivered", "read"],
                "receipt_delay_ms": 300,
            }
            await stand.ask(stand.fake, "POST", "/contacts", json=contact)
    ledger, kills, chance = Ledger(), list[Kill](), Random(plan.seed)  # noqa: S311 - a choice, not a secret
    began = time.monotonic()
    rounds = plan.kills + 1
    for number in range(rounds):
        texts = range(plan.sends * number // rounds, plan.sends * (number + 1) // rounds)
        async with asyncio.TaskGroup() as group:
            group.create_task(_traffic(stand, linked, texts, ledger))
            if number < plan.kills:
                # At the latest in the middle: chats that a message in doubt holds send nothing for a while.
                more = chance.randint(1, max(len(texts) // 2, 1))
                group.create_task(_kill_after(stand, more, kills, chance))
    sending_s = time.monotonic() - began
    found = await _settled(stand, linked, ledger)
    resolved = await _resolve(stand, linked, found, ledger)
    if resolved:
        found = await _settled(stand, linked, ledger)
    return judged(found, ledger, kills, resolved, sending_s=sending_s)


def judged(found: Findings, ledger: Ledger, kills: list[Kill], resolved: list[str], *, sending_s: float) -> Report:
    """The report of what was found at the end."""
    unexplained = [text for text in found.swallowed if not _is_at_a_kill(text, ledger, kills)]
    return Report(found, kills, resolved, sending_s, unexplained=unexplained, still_in_doubt=found.in_doubt)


def _is_at_a_kill(text: str, ledger: Ledger, kills: Sequence[Kill]) -> bool:
    """Whether the library may have held it as it died; what comes while nobody is connected WhatsApp keeps."""
    [written] = [letter.at_s for letter in ledger.written if letter.text == text]
    return any(abs(kill.at_s - written) <= _IN_THE_LIBRARY_S for kill in kills)


async def _traffic(stand: Stand, linked: Sequence[Linked], texts: range, ledger: Ledger) -> None:
    """Send these texts over all sessions and chats, while contacts write."""
    for number in texts:
        session, chat = number % len(linked), number // len(linked) % CHATS
        one, contact, text = linked[session], contact_of(session, chat), f"out-{number}"
        await stand.send(one.connection_id, to=contact, text=text)
        ledger.accepted.append(Letter(contact, text))
        if number % _SENDS_PER_INBOUND == 0:
            # Another session's turn, so that all of them receive.
            session = number // _SENDS_PER_INBOUND % len(linked)
            contact, text = contact_of(session, chat), f"in-{number}"
            ledger.written.append(Letter(contact, text, at_s=time.monotonic()))
            await stand.write(linked[session].phone, sender=contact, text=text)


async def _kill_after(stand: Stand, more: int, kills: list[Kill], chance: Random) -> None:
    """Kill when so many more frames are on the wire: in the middle of sending."""
    began, before = time.monotonic(), len(await stand.wire())
    while len(await stand.wire()) < before + more:
        if time.monotonic() - began > _ON_THE_WIRE_S:
            raise DemoStopped(f"Fewer than {more} messages were on the wire after {_ON_THE_WIRE_S} s.")
        await asyncio.sleep(0.02)
    kills.append(await kill_a_child(stand, chance))


async def _settled(stand: Stand, linked: Sequence[Linked], ledger: Ledger) -> Findings:
    """Look until all is well, or until nothing has changed for a while."""
    began = changed = time.monotonic()
    before: Findings | None = None
    while True:
        found = await look(stand, linked, ledger)
        if found.holds and not found.in_doubt and not found.swallowed:
            return found
        if found != before:
            before, changed = found, time.monotonic()
        if time.monotonic() - changed > _CALM_S or time.monotonic() - began > _SETTLE_S:
            return found
        await asyncio.sleep(_LOOK_S)


async def _resolve(stand: Stand, linked: Sequence[Linked], found: Findings, ledger: Ledger) -> list[str]:
    """As a person does who looks at the phone: what is there was sent, what is not was not, and is sent again."""
    if not found.in_doubt:
        return []
    on_wire = {row["text"] for row in await stand.wire()}
    resolved: list[str] = []
    for one in linked:
        for row in await stand.messages(one.connection_id, "outbound"):
            if row["status"] == DOUBT:
                outcome = "sent" if row["message_id"] in on_wire else "not_sent"
                await stand.ask(stand.api, "POST", f"/messages/{row['id']}/resolve", json={"outcome": outcome})
                if outcome == "not_sent":
                    await stand.ask(stand.api, "POST", f"/messages/{row['id']}/retry")
                    ledger.again.append(row["message_id"])
                resolved.append(f"{row['message_id']}: {outcome}")
    return resolved
