"""One linked phone for the module, as in tests/wire/messages, and people of every kind on the other side."""

from tests.wire.messages.conftest import chat, linked

__all__ = ["chat", "linked"]
