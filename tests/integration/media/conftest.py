"""Media over a fresh database, in files of this test's own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.db.media import Medium, NewMedium
from shared.db.pool import Connection, Pool, connect, open_pool
from shared.domain.ids import DEFAULT_TENANT, ConnectionId
from shared.domain.media import MediaId, MediaOrigin
from shared.media import Media
from shared.media.files import FileStore


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database_url, max_size=6)
    yield pool
    await pool.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Connection]:
    async with connect(database_url) as connection:
        yield connection


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "media")


@pytest.fixture
def media(store: FileStore, pool: Pool) -> Media:
    return Media(store, pool, max_bytes=1_000_000, keep_days=30)


async def add(media: Media, data: bytes, **fields: Any) -> Medium:
    """Store a file under a row that is valid; `fields` are those that matter."""
    new = {
        "id": MediaId(uuid4()),
        "tenant_id": DEFAULT_TENANT,
        "connection_id": None,
        "origin": MediaOrigin.UPLOAD,
        "mimetype": "image/png",
        "filename": "picture.png",
    }
    async with media.spool() as spool:
        await spool.write(data)
        return await media.add(await spool.finish(), NewMedium(**{**new, **fields}))


async def add_connection(database: Connection, tenant: UUID = DEFAULT_TENANT) -> ConnectionId:
    connection_id = uuid4()
    await database.execute(
        "INSERT INTO connections (id, tenant_id, label) VALUES ($1, $2, 'Shop')", connection_id, tenant
    )
    return ConnectionId(connection_id)


async def add_message(database: Connection, connection_id: ConnectionId, media_id: UUID, *, status: str) -> UUID:
    """An outbound message that has this file."""
    message_id = uuid4()
    await database.execute(
        "INSERT INTO messages (id, connection_id, message_id, direction, source, from_me, jid, type, payload, status)"
        " VALUES ($1, $2, $3, 'outbound', 'api', true, '5511987654321@s.whatsapp.net', 'image', $4, $5)",
        message_id,
        connection_id,
        str(message_id),
        {"media_id": str(media_id)},
        status,
    )
    return message_id


def files_of(store: FileStore) -> list[str]:
    """The names of all files that lie in the store, those on their way in included."""
    root = store.spool_folder.parent
    return sorted(path.name for path in root.rglob("*") if path.is_file())
