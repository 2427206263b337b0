"""Sign a webhook as Standard Webhooks says: `webhook-id`, `webhook-timestamp`, `webhook-signature`."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

from shared.domain.webhook_secret import key_of


def hub_signature(secret: str, *, body: bytes) -> str:
    """Return what a Cloud API client expects in `X-Hub-Signature-256`: of the body alone, by one secret.

    A secret that is `whsec_` and the base64 of a Meta app secret's characters signs as Meta does.
    """
    return f"sha256={hmac.new(key_of(secret), body, hashlib.sha256).hexdigest()}"


def sign(secrets: Sequence[str], *, webhook_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers. Every secret signs, so that a receiver may change from one to the next in its own time.

    `at` is the time of this attempt, with a time zone; receivers refuse one that is five minutes off.
    """
    timestamp = str(int(at.timestamp()))
    content = f"{webhook_id}.{timestamp}.".encode() + body
    macs = (hmac.new(key_of(secret), content, hashlib.sha256).digest() for secret in secrets)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(mac).decode()}" for mac in macs),
    }
