"""Faults that strike live connections at once."""

from __future__ import annotations

from local.fake_whatsapp.devices import Device
from local.fake_whatsapp.exchange import Exchange
from local.fake_whatsapp.faults import Fault, FaultKind
from local.fake_whatsapp.session import Session

# WhatsApp's reason "sent to too many people", for an hour.
BAN_CODE = 101
BAN_S = 3600


async def strike(exchange: Exchange, fault: Fault) -> list[str]:
    """Let the fault happen now, to one session or to all; the phones that it struck."""
    wanted = [device for device in exchange.devices.all() if fault.session_phone in (None, device.phone)]
    return [device.phone for device in wanted if await _strike_one(exchange, fault.kind, device)]


async def _strike_one(exchange: Exchange, kind: FaultKind, device: Device) -> bool:
    session = exchange.live.get(device.phone)
    if kind is FaultKind.LOGGED_OUT:
        # A phone can unlink a device that is away: it hears of it when it comes back.
        exchange.devices.unlink(device.phone)
        await exchange.store.durable()
        if session is not None:
            await session.remove()
        return True
    if session is not None:
        await _strike_session(kind, session)
    return session is not None


async def _strike_session(kind: FaultKind, session: Session) -> None:
    match kind:
        case FaultKind.DROP_CONNECTION:
            session.drop()
        case FaultKind.REPLACED:
            await session.replace()
        case FaultKind.BANNED:
            await session.ban(code=BAN_CODE, expires_s=BAN_S)
