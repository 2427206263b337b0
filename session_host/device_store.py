"""The Go library's device store: a schema of its own in our Postgres, and the few questions that we ask it ourselves.

whatsmeow writes the wire id of a message that carries a secret here before the frame leaves; that row is how a send in
doubt is settled.
"""

from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from session_host.votes import PollSecret
from shared.db.pool import AWAY, DatabaseError, Pool
from shared.domain.errors import Unavailable
from shared.domain.ids import WireId

SCHEMA: Final = "whatsmeow"
# The library never closes a connection of a client that was stopped, so Postgres does. One that is used again after
# that is made anew by the Go driver, before its statement is sent.
_IDLE_MS: Final = 60_000
_CAN_CLOSE_IDLE: Final = 140_000  # server_version_num
# One statement must not outlive the caller's patience with a stopped Postgres.
_TIMEOUT_S: Final = 3.0
# Making an index once, of a table that a host of an earlier version has filled.
_INDEX_TIMEOUT_S: Final = 60.0
# What both libpq and lib/pq know; each other parameter would be sent to the server as a setting.
_KEPT: Final = frozenset({"host", "port", "user", "password", "sslrootcert", "sslcert", "sslkey"})

_CREATE: Final = f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
_HAS_TABLE: Final = "SELECT to_regclass($1) IS NOT NULL"
# The library looks secrets up by chat and message; we by the secret alone.
_INDEX: Final = (
    f"CREATE INDEX IF NOT EXISTS zaphub_message_secrets_key ON {SCHEMA}.whatsmeow_message_secrets (key, our_jid)"
)
_HAS_DEVICE: Final = f"SELECT EXISTS (SELECT 1 FROM {SCHEMA}.whatsmeow_device WHERE jid = $1)"  # noqa: S608 - a constant
_SECRET: Final = f"SELECT message_id FROM {SCHEMA}.whatsmeow_message_secrets WHERE key = $1 AND our_jid = $2"  # noqa: S608 - as above
_BY_ID: Final = (
    f"CREATE INDEX IF NOT EXISTS zaphub_message_secrets_id ON {SCHEMA}.whatsmeow_message_secrets (message_id)"
)
_POLLS: Final = (
    "SELECT s.message_id, s.key, s.sender_jid, s.our_jid, d.lid"  # noqa: S608 - as above
    f"  FROM {SCHEMA}.whatsmeow_message_secrets s LEFT JOIN {SCHEMA}.whatsmeow_device d ON d.jid = s.our_jid"
    " WHERE s.message_id = ANY($1::text[])"
)
_NUMBERS: Final = f"SELECT lid, pn FROM {SCHEMA}.whatsmeow_lid_map WHERE lid = ANY($1::text[])"  # noqa: S608 - as above
_FORGET: Final = f"DELETE FROM {SCHEMA}.whatsmeow_device WHERE jid = $1"  # noqa: S608 - as above
_COUNT: Final = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
_VERSION: Final = "SELECT current_setting('server_version_num')::int"
_IS_ENCRYPTED: Final = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


class DeviceStore:
    """Questions to the library's tables. Every call raises Unavailable when Postgres does not answer in 3 s."""

    def __init__(self, pool: Pool, dsn: str, *, name: str) -> None:
        self._pool = pool
        self.dsn = dsn
        self._name = name
        self._has_index = False

    @classmethod
    async def open(cls, pool: Pool, database_url: str, *, name: str, closes_idle: bool = True) -> "DeviceStore":
        """Make the schema when it is missing; `name` is what Postgres shows for the library's connections.

        `closes_idle` False: a pooler stands before Postgres, which knows no such setting.
        """
        try:
            await pool.execute(_CREATE, timeout=_TIMEOUT_S)
        except DatabaseError as error:
            # Two hosts may create it at the same moment, and one may lack the right to; it exists in both cases.
            if not await pool.fetchval("SELECT to_regnamespace($1) IS NOT NULL", SCHEMA, timeout=_TIMEOUT_S):
                raise Unavailable(f"the schema {SCHEMA} cannot be created: {type(error).__name__}") from error
        is_encrypted = await pool.fetchval(_IS_ENCRYPTED, timeout=_TIMEOUT_S)
        can_close = closes_idle and await pool.fetchval(_VERSION, timeout=_TIMEOUT_S) >= _CAN_CLOSE_IDLE
        dsn = library_dsn(
            database_url, is_encrypted=bool(is_encrypted), name=name, idle_ms=_IDLE_MS if can_close else None
        )
        store = cls(pool, dsn, name=name)
        if await store._has("whatsmeow_message_secrets"):
            # Now, before anybody waits for an answer that needs them.
            await store._index()
        return store

    async def has_device(self, device_jid: str) -> bool:
        """Whether the store has keys for the device. Opening one that it lacks aborts the process."""
        return await self._has("whatsmeow_device") and bool(await self._value(_HAS_DEVICE, device_jid))

    async def wire_id_of(self, secret: bytes, *, device_jid: str) -> WireId | None:
        """The wire id of the message that carried this secret; None when no row says that one was prepared."""
        if not await self._has("whatsmeow_message_secrets"):
            return None
        await self._index()
        found = await self._value(_SECRET, secret, device_jid)
        return None if found is None else WireId(str(found))

    async def numbers_of(self, lids: list[str]) -> dict[str, str]:
        """The phone-number JIDs of `@lid` JIDs, as far as the store knows them."""
        if not lids or not await self._has("whatsmeow_lid_map"):
            return {}
        users = [lid.partition("@")[0] for lid in lids]
        try:
            rows = await self._pool.fetch(_NUMBERS, users, timeout=_TIMEOUT_S)
        except AWAY as error:
            raise Unavailable("the device store does not answer") from error
        return {f"{row['lid']}@lid": f"{row['pn']}@s.whatsapp.net" for row in rows}

    async def poll_secrets(self, wire_ids: list[str]) -> dict[str, list[PollSecret]]:
        """What opens the votes in these polls, as far as the store knows."""
        if not wire_ids or not await self._has("whatsmeow_message_secrets"):
            return {}
        await self._index()
        try:
            rows = await self._pool.fetch(_POLLS, wire_ids, timeout=_TIMEOUT_S)
        except AWAY as error:
            raise Unavailable("the device store does not answer") from error
        found: dict[str, list[PollSecret]] = {}
        for row in rows:
            writers = (_person(row["sender_jid"]), _person(row["our_jid"]), _person(row["lid"] or ""))
            secret = PollSecret(key=row["key"], writers=tuple(dict.fromkeys(one for one in writers if one)))
            found.setdefault(row["message_id"], []).append(secret)
        return found

    async def forget(self, device_jid: str) -> None:
        """Delete the device's keys, when WhatsApp cannot be asked to unlink it."""
        if await self._has("whatsmeow_device"):
            await self._value(_FORGET, device_jid)

    async def connections(self) -> int:
        """How many connections to Postgres the library holds in this process."""
        found = await self._value(_COUNT, self._name)
        return int(str(found))

    async def ping(self) -> None:
        """Raises Unavailable while the store is away."""
        await self._value("SELECT 1")

    async def _index(self) -> None:
        # The library makes its tables at its first connect, so ours come when they are first needed.
        if not self._has_index:
            for index in (_INDEX, _BY_ID):
                await self._make(index)
            self._has_index = True

    async def _make(self, index: str) -> None:
        try:
            await self._value(index, timeout_s=_INDEX_TIMEOUT_S)
        except DatabaseError:
            # Another host makes it at the same moment, in spite of IF NOT EXISTS; by now it is there.
            await self._value(index, timeout_s=_INDEX_TIMEOUT_S)

    async def _has(self, table: str) -> bool:
        return bool(await self._value(_HAS_TABLE, f"{SCHEMA}.{table}"))

    async def _value(self, query: str, *args: object, timeout_s: float = _TIMEOUT_S) -> object:
        try:
            return await self._pool.fetchval(query, *args, timeout=timeout_s)
        except AWAY as error:
            raise Unavailable("the device store does not answer") from error


def _person(jid: str) -> str:
    """The JID without a device."""
    user, _, server = jid.partition("@")
    return f"{user.partition(':')[0]}@{server}" if server else ""


def library_dsn(database_url: str, *, is_encrypted: bool, name: str, idle_ms: int | None = None) -> str:
    """The same database for the Go driver (lib/pq), which knows other parameters than libpq and no `prefer`.

    A unix socket stays a `host=` parameter; every connection works in the library's own schema. After `idle_ms`
    without a statement the server closes it.
    """
    parts = urlsplit(database_url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    kept = {key: value for key, value in given.items() if key in _KEPT}
    mode = given.get("sslmode", "")
    if mode not in {"require", "verify-ca", "verify-full", "disable"}:
        mode = "require" if is_encrypted else "disable"
    ours = {"sslmode": mode, "search_path": SCHEMA, "application_name": name, "connect_timeout": "5"}
    if idle_ms is not None:
        ours["idle_session_timeout"] = str(idle_ms)
    query = urlencode({**kept, **ours}, quote_via=quote, safe="/")
    return urlunsplit(("postgres", parts.netloc, parts.path, query, ""))
