"""Every media store keeps the same promises: local files, and S3 as an emulator on loopback speaks it."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from local.ports import free_port
from shared.domain.errors import Unavailable
from shared.media.files import FileStore
from shared.media.s3 import S3MediaStore
from shared.media.store import BytesMissing, MediaStore
from tests.contract.media.emulator import BUCKET, emulated_s3

KEY = f"{'ab' * 32}.{'0' * 16}"


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with emulated_s3() as endpoint:
        yield endpoint


@pytest.fixture(params=["files", "s3"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MediaStore]:
    store: MediaStore
    if request.param == "files":
        store = FileStore(tmp_path / "media")
    else:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        store = S3MediaStore(
            f"s3://{BUCKET}/{tmp_path.name}", endpoint=request.getfixturevalue("s3_endpoint"), region="us-east-1"
        )
    yield store
    await store.close()


def spooled(store: MediaStore, data: bytes) -> Path:
    store.spool_folder.mkdir(parents=True, exist_ok=True)
    path = store.spool_folder / "one.part"
    path.write_bytes(data)
    return path


async def read(store: MediaStore, key: str, start: int, stop: int) -> bytes:
    async with aclosing(store.read(key, start=start, stop=stop)) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_what_was_put_is_read_whole_and_in_part(store: MediaStore) -> None:
    data = bytes(range(256)) * 40_000  # 10 MB, which S3 takes in several parts

    await store.put(KEY, spooled(store, data))

    assert await read(store, KEY, 0, len(data)) == data
    assert await read(store, KEY, 5_000_001, 5_000_009) == data[5_000_001:5_000_009]
    assert await read(store, KEY, len(data) - 3, len(data)) == data[-3:]
    assert await read(store, KEY, 7, 7) == b""


async def test_an_empty_file_is_a_file(store: MediaStore) -> None:
    await store.put(KEY, spooled(store, b""))

    assert await read(store, KEY, 0, 0) == b""


async def test_putting_the_same_key_again_is_harmless(store: MediaStore) -> None:
    await store.put(KEY, spooled(store, b"once"))
    await store.put(KEY, spooled(store, b"once"))

    assert await read(store, KEY, 0, 4) == b"once"


async def test_what_is_deleted_is_missing_and_deleting_it_again_is_fine(store: MediaStore) -> None:
    await store.put(KEY, spooled(store, b"gone soon"))
    await store.delete(KEY)
    await store.delete(KEY)

    with pytest.raises(BytesMissing):
        await read(store, KEY, 0, 9)


async def test_what_was_never_put_is_missing(store: MediaStore) -> None:
    with pytest.raises(BytesMissing):
        await read(store, KEY, 0, 1)


async def test_a_reader_that_leaves_early_is_fine(store: MediaStore) -> None:
    await store.put(KEY, spooled(store, bytes(3_000_000)))

    async with aclosing(store.read(KEY, start=0, stop=3_000_000)) as pieces:
        first = await anext(pieces)

    assert first == bytes(len(first))


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "ab", f"{KEY}/..", KEY.upper(), f"{KEY}\n"])
async def test_a_key_that_is_none_reaches_no_file(tmp_path: Path, key: str) -> None:
    store = FileStore(tmp_path)

    with pytest.raises(ValueError, match="not the key"):
        await store.delete(key)


async def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "media")
    await store.put(KEY, spooled(store, b"private"))

    [folder] = [path for path in (tmp_path / "media").iterdir() if path.name == "ab"]

    assert folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in folder.iterdir()] == [KEY]


async def test_a_disk_that_refuses_is_an_outage_and_names_no_path(tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file where the folder should be")
    (tmp_path / "one.part").write_bytes(b"data")
    store = FileStore(tmp_path / "media")

    with pytest.raises(Unavailable) as refused:
        await store.put(KEY, tmp_path / "one.part")

    assert not re.search(re.escape(str(tmp_path)), refused.value.detail)


async def test_an_s3_that_does_not_answer_is_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    store = S3MediaStore("s3://media", endpoint=f"http://127.0.0.1:{free_port('127.0.0.1')}", region="us-east-1")

    with pytest.raises(Unavailable):
        await store.put(KEY, spooled(store, b"data"))

    await store.close()
