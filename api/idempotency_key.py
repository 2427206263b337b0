"""The `Idempotency-Key` header: what it counts for, and how its request is told from another with the same key."""

import re
from hashlib import sha256
from typing import Final

from fastapi import Request

from api.auth import Principal
from shared.db.idempotency import KeyedRequest
from shared.domain.errors import InvalidInput

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


async def keyed_request(request: Request, caller: Principal) -> KeyedRequest | None:
    """The request as its key makes it known, None without the header. Raises InvalidInput for a key that is none.

    The key counts per path, so one of another connection or call is another key.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidInput("Use 1 to 255 visible ASCII characters.", pointer="Idempotency-Key")
    return KeyedRequest(
        tenant_id=caller.tenant_id,
        scope=f"{request.method} {request.url.path}",
        key=key,
        body_hash=sha256(await request.body()).digest(),
    )
