"""How a command to a session host is signed with ZAPHUB_HOST_TOKEN, and judged: each signature is good once.

    Authorization: ZapHub-HMAC-SHA256 <milliseconds>.<nonce>.<hex of the HMAC>

The HMAC is over the time, the nonce, the URL and the body, so that it speaks for one command to one host. The token
itself is never sent: who listens on the way, or stands in for a host, gets nothing that another host would take.
"""

import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

SCHEME: Final = "ZapHub-HMAC-SHA256"
# How far apart the clocks of two machines may be, and so for how long a signature could be used again.
WINDOW_S: Final = 60.0
_NONCE_BYTES: Final = 16
_MAX_HEADER: Final = 256
_PARTS: Final = 3


class Judgement(StrEnum):
    GENUINE = "genuine"
    WRONG = "wrong"  # another token, or a command that was changed on the way
    STALE = "stale"  # too old or too new by this machine's clock
    USED = "used"  # it came before


class Signer:
    """Signs for whoever holds the token."""

    def __init__(self, token: str, *, clock: Callable[[], float] = time.time) -> None:
        self._key = token.encode()
        self._clock = clock

    def header(self, url: str, body: bytes) -> str:
        """The `Authorization` of a POST of `body` to `url`; another one each time."""
        stamp, nonce = str(int(self._clock() * 1000)), secrets.token_hex(_NONCE_BYTES)
        return f"{SCHEME} {stamp}.{nonce}.{_mac(self._key, stamp, nonce, url, body)}"


class Judge:
    """Judges for one process, from its start to its end; the next one has another address, by its id."""

    def __init__(self, token: str, *, clock: Callable[[], float] = time.time) -> None:
        self._key = token.encode()
        self._clock = clock
        self._used: set[str] = set()
        self._used_before: set[str] = set()
        self._turned_at = clock()

    def judge(self, header: str, url: str, body: bytes) -> Judgement:
        """What to think of the `Authorization` of this request; a genuine one is used up by it."""
        scheme, _, signature = header[:_MAX_HEADER].partition(" ")
        parts = signature.split(".")
        if scheme != SCHEME or len(parts) != _PARTS or not signature.isascii():
            return Judgement.WRONG
        stamp, nonce, mac = parts
        if not hmac.compare_digest(mac, _mac(self._key, stamp, nonce, url, body)):
            return Judgement.WRONG
        # Only a holder of the token gets here, so nobody else can fill the memory or ask about the clock.
        now = self._clock()
        if abs(now - int(stamp) / 1000) > WINDOW_S:
            return Judgement.STALE
        self._forget(now)
        if nonce in self._used or nonce in self._used_before:
            return Judgement.USED
        self._used.add(nonce)
        return Judgement.GENUINE

    def _forget(self, now: float) -> None:
        """Keep each nonce for as long as its signature could be taken: from its window's begin to its end, and more."""
        if now - self._turned_at > 2 * WINDOW_S:
            self._used_before, self._used = self._used, set()
            self._turned_at = now


def is_here(url: str, sockname: tuple[str, int]) -> bool:
    """Whether the URL names the socket that the request came in by: another host's command is not for this one."""
    try:
        parsed = urlsplit(url)
        host, port = parsed.hostname or "", parsed.port
    except ValueError:
        return False
    if port != sockname[1]:
        return False
    try:
        return _plain(host) == _plain(sockname[0])
    except ValueError:
        return True  # a name, which only whoever gave it could compare


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _mac(key: bytes, stamp: str, nonce: str, url: str, body: bytes) -> str:
    return hmac.new(key, f"{stamp}\n{nonce}\n{url}\n".encode() + body, sha256).hexdigest()
