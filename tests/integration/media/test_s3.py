"""Files in a bucket: from the upload to the sweep, through the API's own way and into the same keys."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr

from shared.db.pool import Pool
from shared.media import Media
from shared.media.s3 import S3MediaStore
from shared.settings import Settings
from tests.contract.media.emulator import BUCKET, emulated_s3
from tests.integration.api.conftest import ADMIN_KEY, running

FILE = b"%PDF-1.7\n" + bytes(range(256)) * 30_000  # 7.7 MB: put in several parts


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with emulated_s3() as url:
        yield url


@pytest.fixture
def settings(database_url: str, tmp_path: Path, endpoint: str) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database_url,
        transport="memory",
        admin_key=SecretStr(ADMIN_KEY),
        secret_key=SecretStr("secret-key-of-the-tests"),
        data_dir=tmp_path / "not-made",
        media_store=f"s3://{BUCKET}/of/zaphub",
        media_endpoint=endpoint,
        media_region="us-east-1",
    )


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        yield client


def keys(endpoint: str) -> list[str]:
    listed = httpx.get(f"{endpoint}/{BUCKET}?list-type=2&prefix={quote('of/zaphub/')}").text
    return [part.partition("</Key>")[0] for part in listed.split("<Key>")[1:]]


async def test_a_file_lives_in_the_bucket_and_leaves_it(
    api: httpx.AsyncClient, endpoint: str, pool: Pool, tmp_path: Path
) -> None:
    made = (await api.post("/media", files={"file": ("a.pdf", FILE, "application/pdf")})).json()
    same = (await api.post("/media", content=FILE, headers={"Content-Type": "application/pdf"})).json()

    whole = await api.get(made["url"])
    part = await api.get(made["url"], headers={"Range": "bytes=7000000-7000099"})

    assert whole.content == FILE
    assert (part.status_code, part.content) == (206, FILE[7_000_000:7_000_100])
    [key] = keys(endpoint)
    assert key.startswith(f"of/zaphub/{made['sha256'][:2]}/{made['sha256']}.")
    assert not (tmp_path / "not-made").exists()

    for one in (made, same):
        assert (await api.delete(one["url"])).status_code == 204
    store = S3MediaStore(f"s3://{BUCKET}/of/zaphub", endpoint=endpoint, region="us-east-1")
    assert await Media(store, pool, max_bytes=1, keep_days=1).sweep() == 1
    await store.close()
    assert keys(endpoint) == []


async def test_a_bucket_that_is_not_there_is_an_outage_and_keeps_no_row(settings: Settings, pool: Pool) -> None:
    async with running(settings.model_copy(update={"media_store": "s3://nowhere"})) as api:
        answer = await api.post("/media", content=FILE, headers={"Content-Type": "application/pdf"})

    assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
    assert "ZAPHUB_MEDIA_STORE" in answer.json()["detail"]
    assert await pool.fetchval("SELECT count(*) FROM media") == 0
