"""Nodes, the XML-like tree that WhatsApp Web speaks, and the JIDs that name its parties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

USER_SERVER = "s.whatsapp.net"
LID_SERVER = "lid"
GROUP_SERVER = "g.us"


class Jid(str):
    """An address such as `5511999990001:7@s.whatsapp.net`; a bare server has no user and no `@`."""

    __slots__ = ()

    @property
    def user(self) -> str:
        return self.rpartition("@")[0].partition(":")[0]

    @property
    def device(self) -> int:
        """The device number; 0 is the phone itself."""
        return int(self.rpartition("@")[0].partition(":")[2] or 0)

    @property
    def server(self) -> str:
        return self.rpartition("@")[2]


SERVER = Jid(USER_SERVER)

Content: TypeAlias = "tuple[Node, ...] | bytes | None"


@dataclass(frozen=True, slots=True)
class Node:
    """One element: a tag, attributes (text or `Jid`), and children or bytes."""

    tag: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    content: Content = None

    @property
    def children(self) -> tuple[Node, ...]:
        return self.content if isinstance(self.content, tuple) else ()

    @property
    def data(self) -> bytes:
        """The bytes inside; empty when the node holds children or nothing."""
        return self.content if isinstance(self.content, bytes) else b""

    def child(self, tag: str) -> Node | None:
        return next((child for child in self.children if child.tag == tag), None)

    def require(self, tag: str) -> Node:
        """The first child of that tag; LookupError when the peer left it out."""
        found = self.child(tag)
        if found is None:
            raise LookupError(f"<{self.tag}> has no <{tag}>")
        return found

    def jid(self, name: str) -> Jid:
        """The attribute as an address; LookupError when it is absent."""
        if name not in self.attrs:
            raise LookupError(f"<{self.tag}> has no {name}")
        return Jid(self.attrs[name])
