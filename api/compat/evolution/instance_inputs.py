"""What Evolution's `instance/create` takes, and how an instance is shown."""

from collections.abc import Mapping
from typing import Any, Final, Self
from urllib.parse import quote, unquote

from pydantic import Field, StrictBool, ValidationError, model_validator

from api.compat import named
from api.compat.evolution.inputs import Lenient
from api.compat.evolution.webhook import WebhookSettings
from api.inputs import Label
from shared.db.lifecycle import PairingView
from shared.domain.connection_config import HIDDEN, ConnectionConfig, parse_proxy
from shared.domain.content import Phone
from shared.webhooks.formats.evolution import qr_image, state_of

INTEGRATION: Final = "WHATSAPP-BAILEYS"
# What holds here, whatever was asked for.
_FIXED: Final[Mapping[str, Any]] = {"readStatus": False, "syncFullHistory": False, "wavoipToken": ""}
# Of our settings that may be refused, what a client of theirs calls them.
_THEIRS: Final = {"proxy": "Invalid proxy", "reject_calls": '"msgCall"'}
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
    reject_call: StrictBool | None = Field(None, alias="rejectCall")
    call_text: str | None = Field(None, alias="msgCall")
    ignore_groups: StrictBool | None = Field(None, alias="groupsIgnore")
    always_online: StrictBool | None = Field(None, alias="alwaysOnline")
    read_messages: StrictBool | None = Field(None, alias="readMessages")
    proxy_host: str | None = Field(None, alias="proxyHost")
    proxy_port: str | int | None = Field(None, alias="proxyPort")
    proxy_protocol: str | None = Field(None, alias="proxyProtocol")
    proxy_user: str | None = Field(None, alias="proxyUsername")
    proxy_password: str | None = Field(None, alias="proxyPassword", repr=False)
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
        if self.chatwoot_account:
            raise ValueError("Chatwoot is not enabled: connect it with a webhook")
        if enabled := [name for name in _SINKS if getattr(self, name).enabled]:
            raise ValueError(f'"{enabled[0]}" is not there: events come by webhook, GET /events or SSE')
        try:
            self.config()
        except ValidationError as error:
            raise ValueError(_why(error)) from None
        return self

    def config(self) -> ConnectionConfig:
        """What of it is a connection's config; what is left out, or null, has our default, which is theirs too."""
        on_call = _given({"enabled": self.reject_call, "text": self.call_text or None})
        return ConnectionConfig.model_validate(
            _given(
                {
                    "reject_calls": on_call or None,
                    "ignore_groups": self.ignore_groups,
                    "always_online": self.always_online,
                    "read_messages": self.read_messages,
                    "proxy": self._proxy(),
                }
            )
        )

    def _proxy(self) -> str | None:
        """The proxy's URL. Raises ValueError when a part is missing: theirs would connect without it."""
        if not self.proxy_host:
            return None
        if not self.proxy_port or not self.proxy_protocol:
            raise ValueError('Invalid proxy: give "proxyPort" and "proxyProtocol" with "proxyHost"')
        host = self.proxy_host.strip("[]").lower()
        user, password = (quote(one or "", safe="") for one in (self.proxy_user, self.proxy_password))
        login = f"{user}:{password}@" if password else f"{user}@" if user else ""
        around = f"[{host}]" if ":" in host else host
        url = f"{self.proxy_protocol}://{login}{around}:{self.proxy_port}"
        try:
            is_as_given = parse_proxy(url).host == host
        except ValueError as error:
            raise ValueError(f"Invalid proxy: {error}") from None
        if not is_as_given:
            # Another character that parts a URL would make another proxy of it.
            raise ValueError('Invalid proxy: "proxyHost" is a name or an address, and nothing else')
        return url


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _why(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = _THEIRS.get(str(first["loc"][0]), "The settings") if first["loc"] else "The settings"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


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
        "Proxy": _proxy_shown(shown),
        "Setting": {"instanceId": shown["id"], **settings_shown(shown)},
    }


def settings_shown(shown: Mapping[str, Any]) -> dict[str, Any]:
    """A connection's settings in their words."""
    config = ConnectionConfig.from_stored(shown["config"])
    return {
        "rejectCall": config.reject_calls.enabled,
        "msgCall": config.reject_calls.text or "",
        "groupsIgnore": config.ignore_groups,
        "alwaysOnline": config.always_online,
        "readMessages": config.read_messages,
        **_FIXED,
    }


def _proxy_shown(shown: Mapping[str, Any]) -> dict[str, Any] | None:
    """The proxy without its password; None: there is none."""
    url = ConnectionConfig.from_stored(shown["config"]).proxy
    if url is None:
        return None
    address = parse_proxy(url)
    return {
        "enabled": True,
        "host": address.host,
        "port": str(address.port),
        "protocol": address.scheme,
        "username": unquote(address.user),
        "password": HIDDEN if address.password else "",
        "instanceId": shown["id"],
    }
