"""A connection's `config`: every setting with its meaning, unit, default and bounds; unknown names are refused."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv6Address
from typing import Annotated, Any, Final, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from shared.domain.content import storable
from shared.domain.pacing import Pacing
from shared.domain.quiet_hours import QuietHours

_MAX_JSON_BYTES: Final = 16_384
_MAX_RATE: Final = 100_000
_MAX_CALL_TEXT: Final = 4096  # characters
_MAX_PORT: Final = 65_535
# What stands for a password in everything that is shown; sent back, it means the one that is stored.
HIDDEN: Final = "***"
# A proxy's port when its URL names none: what curl and browsers take.
_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080}
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")


class ChatKind(StrEnum):
    """Chats that a connection may ignore, in the words of its config and of the metric that counts what was dropped."""

    GROUPS = "groups"
    STATUS = "status"
    NEWSLETTERS = "newsletters"


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """A proxy's URL in its parts; user and password as they stand in a URL, percent-encoded."""

    scheme: str
    host: str  # an IPv6 address without its brackets
    port: int
    user: str = ""
    password: str = ""

    def url(self) -> str:
        """The whole URL with its password: for the one who dials, and for the seal."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{self._login()}{host}:{self.port}"

    def shown(self) -> str:
        """The URL as it may be shown and logged."""
        return (replace(self, password=HIDDEN) if self.password else self).url()

    @property
    def is_hidden(self) -> bool:
        """Whether it is as it was shown, so that its password is not known from it."""
        return bool(self.password) and self.shown() == self.url()

    def _login(self) -> str:
        if not self.user and not self.password:
            return ""
        return f"{self.user}:{self.password}@" if self.password else f"{self.user}@"


def parse_proxy(url: str) -> ProxyAddress:
    """Read `http|https|socks5://[user[:password]@]host[:port]`. Raises ValueError, which never repeats the URL."""
    if not url.isascii() or any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("a proxy's URL holds no spaces and no letters beyond ASCII; percent-encode them")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("this is not a proxy's URL; write it as http://user:password@host:port") from None
    if parts.scheme not in _PORTS:
        raise ValueError("a proxy's URL starts with http://, https:// or socks5://")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("a proxy's URL ends after its port")
    host = _host(parts)
    if port is None:
        port = _PORTS[parts.scheme]
    if not 1 <= port <= _MAX_PORT:
        raise ValueError(f"a proxy's port is from 1 to {_MAX_PORT}")
    if parts.password and not parts.username:
        raise ValueError("a proxy's URL with a password names its user too")
    return ProxyAddress(parts.scheme, host, port, parts.username or "", parts.password or "")


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not (_HOST.fullmatch(host) or _is_ipv6(host)):
        raise ValueError("a proxy's URL names a host: letters, digits, hyphens and dots, or an address")
    return host


def _is_ipv6(host: str) -> bool:
    try:
        return IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _proxy(url: str) -> str:
    return parse_proxy(url).url()


class _Settings(BaseModel):
    """Settings that a client sends: unknown ones are refused, values are not guessed at, and none is ever echoed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class RejectCalls(_Settings):
    """What becomes of calls to the connection's number."""

    enabled: StrictBool = Field(default=False, description="true: each call is declined at once")
    text: (
        Annotated[str, StringConstraints(min_length=1, max_length=_MAX_CALL_TEXT), AfterValidator(storable)] | None
    ) = Field(None, description="sent to the caller, once per call, as a message like any other; null: nothing is sent")


class ConnectionConfig(_Settings):
    """A connection's settings. What is left out has its default; a change reaches a live session within seconds."""

    send_rate_per_minute: StrictInt | None = Field(
        None, ge=0, le=_MAX_RATE, description="messages per minute; 0: no limit; null: as the service is set"
    )
    send_weight: StrictInt = Field(1, ge=1, le=100, description="messages in its turn, when connections take turns")
    pacing: Pacing | None = Field(
        None, description="how its messages are spread out, see docs/pacing.md; null: only by its rate"
    )
    quiet_hours: QuietHours | None = Field(None, description="when nothing is sent; null: it is sent at any hour")
    proxy: Annotated[str, StringConstraints(max_length=2048), AfterValidator(_proxy)] | None = Field(
        None,
        repr=False,
        description=(
            "`http://`, `https://` or `socks5://[user:password@]host[:port]`: this connection's socket and media go "
            f"through it. Its password is stored encrypted and shown as `{HIDDEN}`; sent back so, it stays as it is"
        ),
        examples=["socks5://user:password@proxy.example.com:1080"],
    )
    ignore_groups: StrictBool = Field(default=False, description="true: messages in groups are dropped, no events")
    ignore_status: StrictBool = Field(default=True, description="false: contacts' status updates come in as messages")
    ignore_newsletters: StrictBool = Field(default=True, description="false: posts in channels come in as messages")
    reject_calls: RejectCalls = RejectCalls()
    always_online: StrictBool = Field(
        default=False,
        description="true: contacts see it online while it is connected, and the phone may not ring; false: never",
    )
    read_messages: StrictBool = Field(
        default=False, description="true: each message that comes in is marked read as soon as it is stored"
    )

    @model_validator(mode="after")
    def _is_small(self) -> Self:
        if len(json.dumps(self.to_store(), ensure_ascii=False).encode()) > _MAX_JSON_BYTES:
            raise ValueError(f"must not be longer than {_MAX_JSON_BYTES} bytes of JSON")
        return self

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Self:
        """What a row says. Names that this version does not know, and values that it refuses, count as left out."""
        known = {name: value for name, value in stored.items() if name in cls.model_fields}
        while True:
            try:
                return cls.model_validate(known)
            except ValidationError as error:
                refused = {str(one["loc"][0]) for one in error.errors(include_input=False) if one["loc"]}
                right = {name: value for name, value in known.items() if name not in refused}
                known = right if len(right) < len(known) else {}

    def ignores(self, chat: str) -> ChatKind | None:
        """As what messages of this chat are dropped; None: they are not. `chat` is a JID."""
        _, _, server = chat.rpartition("@")
        match server:
            case "g.us" if self.ignore_groups:
                return ChatKind.GROUPS
            case "broadcast" if self.ignore_status:
                return ChatKind.STATUS
            case "newsletter" if self.ignore_newsletters:
                return ChatKind.NEWSLETTERS
        return None

    def to_store(self) -> dict[str, Any]:
        """What was given, as the row keeps and the API shows it: a proxy's password is hidden."""
        given = self.model_dump(mode="json", exclude_unset=True)
        if self.proxy is not None:
            given["proxy"] = parse_proxy(self.proxy).shown()
        return given
