"""maintenance:cleanup takes the files whose time is over, in batches, and their bytes after them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from functions.maintenance_cleanup import handle
from functions.resources import Resources
from shared.db import retention
from shared.db.pool import Connection, Pool
from shared.domain.errors import Unavailable
from shared.domain.jobs import Progress
from shared.domain.outcome import Done
from shared.media import Media
from shared.media.files import FileStore
from shared.settings import Settings
from tests.integration.media.conftest import add, add_connection, add_message, files_of


async def clean(pool: Pool, media: Media, database_url: str) -> dict[str, Any]:
    settings = Settings(_env_file=None, database_url=database_url, secret_key="s" * 16)  # type: ignore[arg-type]  # parsed
    use = cast("Resources", SimpleNamespace(settings=settings, pool=pool, media=media))
    outcome = await handle(cast("Any", SimpleNamespace(progress=Progress())), use)
    assert isinstance(outcome, Done)
    assert outcome.result is not None
    return outcome.result


async def expire(database: Connection, *names: str) -> None:
    await database.execute(
        "UPDATE media SET expires_at = now() - interval '1 s' WHERE filename = ANY($1::text[])", list(names)
    )


async def test_what_is_over_goes_with_its_bytes_and_the_rest_stays(
    media: Media, pool: Pool, store: FileStore, database: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 2)
    for number in range(5):
        await add(media, b"old %d" % number, filename=f"old-{number}")
    shared_old = await add(media, b"shared", filename="shared-old")
    shared_new = await add(media, b"shared", filename="shared-new")
    needed = await add(media, b"needed", filename="needed")
    await add_message(database, await add_connection(database), needed.id, status="scheduled")
    await expire(database, *(f"old-{number}" for number in range(5)), "shared-old", "needed")

    result = await clean(pool, media, database_url)

    assert (result["media"], result["media_objects"]) == (6, 5)
    assert shared_old.object_key == shared_new.object_key
    assert files_of(store) == sorted(str(one.object_key) for one in (shared_new, needed))
    assert await database.fetchval("SELECT count(*) FROM media_objects") == 2
    again = await clean(pool, media, database_url)
    assert (again["media"], again["media_objects"]) == (0, 0)


async def test_a_store_that_is_away_keeps_nothing_else_from_being_cleaned(
    media: Media, pool: Pool, store: FileStore, database: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def away(key: str) -> None:
        asked.append(key)
        raise Unavailable("away")

    for name in ("a", "b", "c"):
        await add(media, name.encode(), filename=name)
    await expire(database, "a", "b", "c")
    with monkeypatch.context() as patched:
        patched.setattr(store, "delete", away)
        result = await clean(pool, media, database_url)

    assert (result["media"], result["media_objects"], len(asked)) == (3, 0, 1)
    assert len(files_of(store)) == 3
    assert (await clean(pool, media, database_url))["media_objects"] == 3
    assert files_of(store) == []
