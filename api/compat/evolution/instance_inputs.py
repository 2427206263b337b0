"""What Evolution's `instance/create` takes, and how an instance is shown."""

from collections.abc import Mapping
from typing import Any, Final, Self

from pydantic import Field, StrictBool, model_validator

from api.compat import named
from api.compat.evolution.inputs import Lenient
from api.compat.evolution.webhook import WebhookSettings
from api.inputs import Label
from shared.db.lifecycle import PairingView
from shared.domain.content import Phone
from shared.webhooks.formats.evolution import qr_image, state_of

INTEGRATION: Final = "WHATSAPP-BAILEYS"
# What holds here, whatever was asked for: nobody is answered, refused or marked as read but by a call.
SETTINGS: Final[Mapping[str, Any]] = {
    "rejectCall": False,
    "msgCall": "",
    "groupsIgnore": False,
    "alwaysOnline": False,
    "readMessages": False,
    "readStatus": False,
    "syncFullHistory": False,
    "wavoipToken": "",
}
_SINKS: Final = ("websocket", "rabbitmq", "nats", "sqs", "kafka", "pusher")


class Sink(Lenient):
    enabled: StrictBool = False


class CreateInstance(Lenient):
    """A name is at most 100 characters, as a connection's label and external id."""

    name: Label = Field(alias="instanceName")
    integration: str = INTEGRATION
    qrcode: StrictBool = False
    number: Phone | None = None
    token: str | None = None
    webhook: WebhookSettings | None = None
    proxy_host: str | None = Field(None, alias="proxyHost")
    chatwoot_account: str | int | None = Field(None, alias="chatwootAccountId")
    websocket: Sink = Sink()
    rabbitmq: Sink = Sink()
    nats: Sink = Sink()
    sqs: Sink = Sink()
    kafka: Sink = Sink()
    pusher: Sink = Sink()

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if self.integration != INTEGRATION:
            raise ValueError(f"Invalid integration: ZapHub has {INTEGRATION} alone")
        if self.token:
            raise ValueError('"token" is not there: ZapHub makes the key itself and answers it as "hash"')
        if self.proxy_host:
            raise ValueError("Invalid proxy: ZapHub has none, and would connect without it")
        if self.chatwoot_account:
            raise ValueError("Chatwoot is not enabled: connect it with a webhook")
        if enabled := [name for name in _SINKS if getattr(self, name).enabled]:
            raise ValueError(f'"{enabled[0]}" is not there: events come by webhook, GET /events or SSE')
        return self


def qrcode_shown(view: PairingView, *, pairing_code: str | None) -> dict[str, Any]:
    """`count` 0: there is no code yet; another call, or QRCODE_UPDATED, brings it."""
    return {
        "pairingCode": pairing_code,
        "code": view.qr_code,
        "base64": None if view.qr_code is None else qr_image(view.qr_code),
        "count": 0 if view.qr_code is None else view.qr_attempt,
    }


def instance_shown(shown: Mapping[str, Any]) -> dict[str, Any]:
    """As `fetchInstances` lists it; `token` is null, as keys are shown once."""
    return {
        "id": shown["id"],
        "name": named.name_of(dict(shown)),
        "connectionStatus": state_of(shown["status"]),
        "ownerJid": shown["jid"],
        "profileName": shown["push_name"],
        "profilePicUrl": None,
        "integration": INTEGRATION,
        "number": shown["phone"],
        "businessId": None,
        "token": None,
        "clientName": "zaphub",
        "disconnectionReasonCode": None,
        "disconnectionObject": None,
        "disconnectionAt": None,
        "createdAt": shown["created_at"],
        "updatedAt": shown["updated_at"],
        "Setting": {"instanceId": shown["id"], **SETTINGS},
    }
