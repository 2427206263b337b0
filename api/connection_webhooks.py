"""What becomes of a connection's `webhook_url` and its secret: judged, then made, moved, re-keyed or taken away."""

from api.auth import Principal
from api.inputs import PatchConnection
from api.resources import Resources
from shared.db import webhooks
from shared.db.pool import Connection
from shared.domain.errors import InvalidInput
from shared.domain.ids import ConnectionId
from shared.egress.target import Rule, Target
from shared.sealing import Sealer
from shared.webhooks import endpoints


async def judge(parts: Resources, url: str | None) -> Target | None:
    """A webhook URL that may be called. Asks a name server, so it comes before the transaction. Raises InvalidInput."""
    if url is None:
        return None
    return await Rule(allow=tuple(parts.settings.webhook_allow_networks)).check(url)


async def keep(
    connection: Connection,
    parts: Resources,
    caller: Principal,
    connection_id: ConnectionId,
    wanted: PatchConnection,
    target: Target | None,
) -> str | None:
    """Move, make, take away or re-key the endpoint of a locked connection; returns a secret that was made.

    Raises InvalidInput for a secret that is none, or has no URL.
    """
    sealer = Sealer(parts.settings.secret_key)
    secret = wanted.webhook_secret.get_secret_value() if wanted.webhook_secret else None
    if "webhook_url" in wanted.model_fields_set:
        registered = await endpoints.set_for_connection(
            connection, connection_id, target, sealer=sealer, secret=secret, tenant_id=caller.tenant_id
        )
        return registered.new_secret if registered else None
    if secret is not None:
        endpoint = await webhooks.of_connection(connection, connection_id)
        if endpoint is None:
            raise InvalidInput(
                "This connection has no webhook_url; give one with the secret.", pointer="/webhook_secret"
            )
        await endpoints.set_secret(connection, endpoint.id, secret, sealer=sealer, pointer="/webhook_secret")
    return None
