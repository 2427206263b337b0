"""Calls of contacts to a session: the offer as the client gets it. What the client answers is a signal."""

from __future__ import annotations

import secrets
import time

from local.fake_whatsapp.phones import Phone
from local.fake_whatsapp.protocol.node import Node


def new_call_id() -> str:
    """An id as phones make them."""
    return secrets.token_hex(16).upper()


def offer(caller: Phone, call_id: str, *, by_alias: bool) -> Node:
    """A voice call that rings at every device of the session; `by_alias` names the caller by `@lid` first."""
    creator, other = (caller.lid, {"caller_pn": caller.jid}) if by_alias else (caller.jid, {"caller_lid": caller.lid})
    content = Node("offer", {"call-id": call_id, "call-creator": creator, **other}, (Node("audio", {"enc": "opus"}),))
    attrs = {"from": creator, "id": f"call-{call_id}", "t": str(int(time.time())), "platform": "android"}
    return Node("call", {**attrs, "version": "2.24.1"}, (content,))
