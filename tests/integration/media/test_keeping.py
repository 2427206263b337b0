"""Files are kept once by their content, for as long as somebody needs them, and no crash leaves bytes for ever."""

import asyncio
import hashlib
import os
from pathlib import Path
from uuid import uuid4

import pytest

from shared.db import media as rows
from shared.db.pool import Connection, Pool
from shared.domain.errors import NotFound, Unavailable
from shared.domain.ids import DEFAULT_TENANT
from shared.domain.media import MediaId
from shared.media import Media
from shared.media.files import FileStore
from shared.media.keeping import ABANDONED_S
from shared.media.spool import TooLarge
from tests.integration.media.conftest import add, add_connection, add_message, files_of

DATA = b"\x89PNG\r\n\x1a\n" + bytes(50_000)


async def objects(database: Connection) -> dict[str, str]:
    return {row["key"]: row["state"] for row in await database.fetch("SELECT key, state FROM media_objects")}


async def delete(pool: Pool, media_id: MediaId) -> bool | None:
    async with pool.acquire() as connection, connection.transaction():
        return await rows.delete(connection, media_id, tenant_id=DEFAULT_TENANT, allowed=None)


async def test_a_file_comes_back_as_it_was_given(media: Media) -> None:
    added = await add(media, DATA)

    data, found = await media.read(added.id)

    assert data == DATA
    assert found == added
    assert (found.size, found.sha256) == (len(DATA), hashlib.sha256(DATA).digest())


async def test_the_same_content_twice_lies_in_one_place(media: Media, store: FileStore) -> None:
    first, second = await add(media, DATA), await add(media, DATA, filename="other.png")

    assert first.id != second.id
    assert files_of(store) == [first.object_key] == [second.object_key]


async def test_uploads_of_the_same_content_at_once_end_in_one_place(
    media: Media, store: FileStore, database: Connection
) -> None:
    added = await asyncio.gather(*(add(media, DATA) for _ in range(12)))
    while await media.sweep():
        pass

    assert len({one.object_key for one in added}) == 1
    assert await objects(database) == {added[0].object_key: "kept"}
    assert files_of(store) == [added[0].object_key]
    assert [(await media.read(one.id))[0] for one in added] == [DATA] * 12


async def test_bytes_go_with_the_last_that_refers_to_them(
    media: Media, pool: Pool, store: FileStore, database: Connection
) -> None:
    first, second = await add(media, DATA), await add(media, DATA)

    assert await delete(pool, first.id)
    assert await media.sweep() == 0
    assert (await media.read(second.id))[0] == DATA

    assert await delete(pool, second.id)
    assert await media.sweep() == 1
    assert files_of(store) == []
    assert await objects(database) == {}


async def test_content_that_is_given_again_while_it_is_deleted_stays(media: Media, pool: Pool) -> None:
    """Deleting the last reference and uploading the same content, at once and often: what was answered is readable."""
    kept = await add(media, DATA)
    for _ in range(15):
        _, kept, _ = await asyncio.gather(delete(pool, kept.id), add(media, DATA), media.sweep())

        assert (await media.read(kept.id))[0] == DATA


async def test_doomed_bytes_are_never_taken_into_use_again(media: Media, pool: Pool, store: FileStore) -> None:
    first = await add(media, DATA)
    await delete(pool, first.id)

    second = await add(media, DATA)
    await media.sweep()

    assert second.object_key != first.object_key
    assert files_of(store) == [second.object_key]
    assert (await media.read(second.id))[0] == DATA


@pytest.mark.parametrize("point", ["media_announced", "media_placed"])
async def test_a_crash_between_bytes_and_row_leaves_nothing_for_ever(
    media: Media, store: FileStore, database: Connection, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def crash(reached: str) -> None:
        if reached == point:
            raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("shared.media.keeping.reach", crash)
        with pytest.raises(SystemExit):
            await add(media, DATA)
    assert list((await objects(database)).values()) == ["incoming"]
    assert await media.sweep() == 0, "its uploader may be alive"

    await database.execute(
        "UPDATE media_objects SET changed_at = now() - make_interval(secs => $1)", float(ABANDONED_S + 1)
    )
    swept = await media.sweep()

    assert swept == 1
    assert (files_of(store), await objects(database)) == ([], {})
    assert (await media.read((await add(media, DATA)).id))[0] == DATA


async def test_an_uploader_that_was_given_up_does_not_refer_to_deleted_bytes(
    media: Media, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was so slow that the sweep took its object: the upload fails and may be repeated."""

    async def sweep_meanwhile(key: str, path: Path) -> None:
        await put(key, path)
        await database.execute("UPDATE media_objects SET changed_at = now() - make_interval(secs => 7200)")
        assert await media.sweep() == 1

    put = media._store.put
    monkeypatch.setattr(media._store, "put", sweep_meanwhile)

    with pytest.raises(Unavailable):
        await add(media, DATA)

    assert await database.fetchval("SELECT count(*) FROM media") == 0


async def test_a_store_that_is_away_keeps_the_doomed_for_later(
    media: Media, pool: Pool, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = await add(media, DATA)
    await delete(pool, added.id)

    async def away(_key: str) -> None:
        raise Unavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(store, "delete", away)
        assert await media.sweep() == 0
    assert files_of(store) == [added.object_key]

    assert await media.sweep() == 1
    assert files_of(store) == []


async def test_too_large_a_file_is_refused_as_it_comes_and_leaves_nothing(media: Media, store: FileStore) -> None:
    async with media.spool() as spool:
        await spool.write(bytes(media.max_bytes))
        with pytest.raises(TooLarge):
            await spool.write(b"x")

    assert files_of(store) == []


async def test_what_dead_uploads_left_aside_is_tidied_after_an_hour(media: Media, store: FileStore) -> None:
    store.spool_folder.mkdir(parents=True)
    old, young = store.spool_folder / "old.part", store.spool_folder / "young.part"
    for path in (old, young):
        path.write_bytes(b"half of a file")
    os.utime(old, (0, 0))

    assert await media.tidy() == 1
    assert files_of(store) == ["young.part"]


@pytest.mark.parametrize("status", ["scheduled", "queued", "processing", "failed", "unknown"])
async def test_what_a_waiting_message_needs_is_neither_deleted_nor_expired(
    media: Media, pool: Pool, database: Connection, status: str
) -> None:
    added = await add(media, DATA)
    await add_message(database, await add_connection(database), added.id, status=status)
    await database.execute("UPDATE media SET expires_at = now() - interval '1 s'")

    async with pool.acquire() as connection, connection.transaction():
        assert await rows.delete_expired(connection, limit=10) == 0
    assert await delete(pool, added.id) is False
    assert (await media.read(added.id))[0] == DATA


@pytest.mark.parametrize("status", ["sent", "delivered", "dlq", "expired", "canceled"])
async def test_what_is_over_expires(media: Media, pool: Pool, database: Connection, status: str) -> None:
    added, stays = await add(media, DATA), await add(media, DATA)
    await add_message(database, await add_connection(database), added.id, status=status)
    await database.execute("UPDATE media SET expires_at = now() - interval '1 s' WHERE id = $1", added.id)

    async with pool.acquire() as connection, connection.transaction():
        assert await rows.delete_expired(connection, limit=10) == 1

    with pytest.raises(NotFound, match="no longer") as gone:
        await media.read(added.id)
    assert gone.value.public_code == "MEDIA_GONE"
    assert (await media.read(stays.id))[0] == DATA


async def test_a_file_that_a_message_is_about_to_use_outlives_its_time(
    media: Media, pool: Pool, database: Connection
) -> None:
    """Accepting looks first and inserts the message later; the cleanup comes in between."""
    added = await add(media, DATA)
    await database.execute("UPDATE media SET expires_at = now() + interval '1 s'")

    usable = await rows.usable(database, [added.id, uuid4()], tenant_id=DEFAULT_TENANT, allowed=None)
    left_s = await database.fetchval("SELECT extract(epoch FROM expires_at - now()) FROM media")

    assert usable == {added.id: "image/png"}
    assert left_s > 3600
    async with pool.acquire() as cleanup, cleanup.transaction():
        assert await rows.delete_expired(cleanup, limit=10) == 0


async def test_the_cleanup_and_a_message_that_wants_the_file_do_not_both_win(
    media: Media, pool: Pool, database: Connection
) -> None:
    added = await add(media, DATA)
    await database.execute("UPDATE media SET expires_at = now() - interval '1 s'")

    async with pool.acquire() as cleanup:
        deleting = cleanup.transaction()
        await deleting.start()
        assert await rows.delete_expired(cleanup, limit=10) == 1
        asked = asyncio.ensure_future(rows.usable(database, [added.id], tenant_id=DEFAULT_TENANT, allowed=None))
        await deleting.commit()

    assert await asked == {}


async def test_a_file_of_a_connection_that_is_not_there_leaves_nothing(media: Media, database: Connection) -> None:
    with pytest.raises(NotFound):
        await add(media, DATA, connection_id=uuid4())

    assert await database.fetchval("SELECT count(*) FROM media") == 0
