"""Message ids as Cloud API clients know them: `wamid.` and base64 of an id of ours, or of a wire id."""

import base64
import binascii
from typing import Final

_PREFIX: Final = "wamid."


def wamid(reference: str) -> str:
    """The Cloud API's name of the message that goes by `reference` here."""
    return _PREFIX + base64.urlsafe_b64encode(reference.encode()).decode()


def reference_of(text: str) -> str | None:
    """What a wamid of ours names; None for one that Meta made, and for anything else."""
    try:
        decoded = base64.b64decode(text.removeprefix(_PREFIX), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        return None
    is_ours = text.startswith(_PREFIX) and decoded.isascii() and decoded.isprintable() and decoded != ""
    return decoded if is_ours and wamid(decoded) == text else None
