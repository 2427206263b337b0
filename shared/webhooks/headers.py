"""The headers of a webhook: which of its own an endpoint may have, and ours, which nothing overrides."""

import re
from collections.abc import Mapping
from typing import Final

from shared.domain.errors import InvalidInput

_MAX_HEADERS: Final = 20
_MAX_VALUE: Final = 1024
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # RFC 9110's token
# Visible ASCII and inner spaces: anything else fails when it is sent, on every attempt.
_VALUE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
# They belong to the connection, to the form of the body, or to whoever routes the request, not to the endpoint.
_RESERVED: Final = frozenset(
    {"host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "max-forwards"}
    | {"accept-encoding", "user-agent", "cookie", "set-cookie", "http2-settings", "range", "forwarded", "via"}
    | {"x-real-ip", "x-original-url", "x-rewrite-url", "x-http-method", "x-http-method-override", "x-method-override"}
)
_RESERVED_PREFIXES: Final = ("webhook-", "x-zaphub-", "x-hub-signature", "content-", "proxy-", "x-forwarded-")


def check_headers(headers: Mapping[str, str], *, pointer: str = "/headers") -> dict[str, str]:
    """Return the endpoint's own headers when they may be sent. Raises InvalidInput naming the header, not its value."""
    if len(headers) > _MAX_HEADERS:
        raise InvalidInput(f"at most {_MAX_HEADERS} headers.", pointer=pointer)
    if len({_folded(name) for name in headers}) < len(headers):
        raise InvalidInput("a header is named twice; names differ by more than case, - and _.", pointer=pointer)
    for name, value in headers.items():
        at = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if _NAME.fullmatch(name) is None:
            raise InvalidInput("a header's name is made of letters, digits and !#$%&'*+.^_`|~-.", pointer=at)
        if _folded(name) in _RESERVED or _folded(name).startswith(_RESERVED_PREFIXES):
            raise InvalidInput("this header is ZapHub's own or the connection's; take another name.", pointer=at)
        if len(value) > _MAX_VALUE or _VALUE.fullmatch(value) is None:
            raise InvalidInput(f"a header's value is 1 to {_MAX_VALUE} visible ASCII characters.", pointer=at)
    return dict(headers)


def merge(own: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Ours and the endpoint's. Ours win whatever is stored, in any case of letters."""
    taken = {_folded(name) for name in ours}
    return {**{name: value for name, value in own.items() if _folded(name) not in taken}, **ours}


def _folded(name: str) -> str:
    """The name as receivers read it: to CGI and WSGI, `webhook-id` and `WEBHOOK_ID` are one."""
    return name.lower().replace("_", "-")
