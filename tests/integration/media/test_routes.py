"""POST, GET, HEAD and DELETE /media: what goes in comes out, to whom it belongs, and never as something to run."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr

from shared.db.pool import Connection
from shared.settings import Settings
from tests.integration.api.conftest import ADMIN_KEY, running
from tests.integration.media.conftest import add_connection, add_message

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 400
BOUNDARY = "x-boundary-x"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database_url,
        transport="memory",
        admin_key=SecretStr(ADMIN_KEY),
        secret_key=SecretStr("secret-key-of-the-tests"),
        data_dir=tmp_path,
        media_max_bytes=200_000,
        db_pool_size=5,
    )


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running(settings) as client:
        yield client


def kept_files(settings: Settings) -> list[Path]:
    return [path for path in (settings.data_dir / "media").rglob("*") if path.is_file()]


async def upload(api: httpx.AsyncClient, data: bytes = PNG, **options: Any) -> dict[str, Any]:
    answer = await api.post("/media", content=data, **{"headers": {"Content-Type": "image/png"}, **options})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def limited_to(api: httpx.AsyncClient, *connection_ids: UUID) -> dict[str, str]:
    body = {
        "name": "limited",
        "scopes": ["messages:read", "messages:write"],
        "connection_ids": [str(one) for one in connection_ids],
    }
    return {"Authorization": f"Bearer {(await api.post('/api-keys', json=body)).json()['key']}"}


async def test_a_body_is_a_file(api: httpx.AsyncClient) -> None:
    made = await upload(api, params={"filename": "cat.png"})

    answer = await api.get(f"/media/{made['id']}")

    assert {name: made[name] for name in ("mimetype", "size", "sha256", "filename", "connection_id", "url")} == {
        "mimetype": "image/png",
        "size": len(PNG),
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "filename": "cat.png",
        "connection_id": None,
        "url": f"/media/{made['id']}",
    }
    assert made["created_at"] < made["expires_at"]
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(PNG))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "inline; filename=\"cat.png\"; filename*=UTF-8''cat.png"
    assert answer.headers["content-security-policy"].startswith("sandbox;")


async def test_a_form_s_part_is_a_file(api: httpx.AsyncClient) -> None:
    answer = await api.post("/media", files={"file": ("férias.png", PNG, "image/png")})

    assert answer.status_code == 201, answer.text
    assert answer.json()["filename"] == "férias.png"
    fetched = await api.get(answer.json()["url"])
    assert fetched.content == PNG
    assert fetched.headers["content-disposition"].endswith("filename*=UTF-8''f%C3%A9rias.png")


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_form_may_come_in_pieces_of_any_size(api: httpx.AsyncClient, size: int) -> None:
    data = b"\r\n--x-boundary\r\n" * 50 + b"\r\n--" + BOUNDARY[:-1].encode()
    form = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'.encode()
        + data
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(form), size):
            yield form[start : start + size]

    answer = await api.post(
        "/media", content=pieces(), headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    )

    assert answer.status_code == 201, answer.text
    assert (await api.get(answer.json()["url"])).content == data


def form_of(*parts: str, end: str = f"--{BOUNDARY}--\r\n") -> bytes:
    return "".join(f"--{BOUNDARY}\r\n{part}\r\n" for part in parts).encode() + end.encode()


FILE = 'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\ndata'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        form_of(),
        form_of(FILE, end=""),
        form_of('Content-Disposition: form-data; name="other"; filename="a"\r\n\r\ndata'),
        form_of(FILE, FILE),
        form_of("\r\ndata"),
        form_of(FILE.replace("data", "")),
        form_of("X: " + "y" * 100_000 + "\r\n\r\ndata"),
        form_of("\r\n".join(f"X-{n}: y" for n in range(1000)) + "\r\n\r\ndata"),
    ],
)
async def test_a_form_that_is_none_keeps_nothing(api: httpx.AsyncClient, settings: Settings, body: bytes) -> None:
    answer = await api.post(
        "/media", content=body, headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    )

    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "VALIDATION_ERROR"
    assert kept_files(settings) == []


@pytest.mark.parametrize("content_type", ["multipart/form-data", f"multipart/form-data; boundary={'x' * 1000}"])
async def test_a_boundary_that_is_none_is_refused(api: httpx.AsyncClient, content_type: str) -> None:
    answer = await api.post("/media", content=PNG, headers={"Content-Type": content_type})

    assert answer.status_code == 422


async def test_an_empty_file_is_refused(api: httpx.AsyncClient, settings: Settings) -> None:
    answer = await api.post("/media", content=b"", headers={"Content-Type": "image/png"})

    assert (answer.status_code, answer.json()["detail"]) == (422, "The file is empty.")
    assert kept_files(settings) == []


async def test_a_packed_body_is_refused(api: httpx.AsyncClient) -> None:
    answer = await api.post("/media", content=PNG, headers={"Content-Encoding": "gzip"})

    assert answer.status_code == 415


async def test_too_large_a_stream_is_refused_where_it_passes_the_limit(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    async def long() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(50_000)

    answer = await api.post("/media", content=long(), headers={"Content-Type": "image/png"})

    assert (answer.status_code, answer.json()["code"]) == (413, "MEDIA_TOO_LARGE")
    assert kept_files(settings) == []


async def test_a_length_that_is_too_much_is_refused_before_a_byte_is_kept(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    answer = await api.post("/media", content=bytes(300_000), headers={"Content-Type": "image/png"})

    assert (answer.status_code, answer.json()["code"]) == (413, "BODY_TOO_LARGE")
    assert not (settings.data_dir / "media").exists()


async def test_the_largest_file_fits_into_a_form_too(api: httpx.AsyncClient) -> None:
    largest = PNG + bytes(200_000 - len(PNG))

    taken = await api.post("/media", files={"file": ("a.png", largest, "image/png")})
    refused = await api.post("/media", files={"file": ("a.png", largest + b"!", "image/png")})

    assert (taken.status_code, taken.json()["size"]) == (201, 200_000)
    assert (refused.status_code, refused.json()["code"]) == (413, "MEDIA_TOO_LARGE")


async def test_an_upload_that_drips_ends_and_leaves_nothing(settings: Settings) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield PNG[:1000]
        await asyncio.Event().wait()

    async with running(settings.model_copy(update={"api_body_timeout_s": 0.2})) as api:
        answer = await api.post("/media", content=half(), headers={"Content-Type": "image/png"})

    assert (answer.status_code, answer.json()["code"]) == (408, "REQUEST_TIMEOUT")
    assert kept_files(settings) == []


async def test_a_client_that_leaves_half_way_leaves_nothing(api: httpx.AsyncClient, settings: Settings) -> None:
    came = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield PNG
        came.set()
        await asyncio.Event().wait()

    uploading = asyncio.ensure_future(api.post("/media", content=half()))
    await came.wait()
    uploading.cancel()
    await asyncio.wait([uploading])

    assert kept_files(settings) == []


@pytest.mark.parametrize(
    ("data", "declared", "kept"),
    [
        (b"<html><script>alert(1)</script>", "image/png", "text/html"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "image/png", "image/svg+xml"),
        (b"GIF89a/*<script>alert(1)</script>*/=1;", "text/html", "image/gif"),
        (PNG, "text/html", "image/png"),
        (b"%PDF-1.7 <script>", "image/jpeg", "application/pdf"),
        (b"MZ" + bytes(60), "image/jpeg", "application/x-msdownload"),
        (b"\x00\x01\x02\x03", "image/jpeg", "application/octet-stream"),
        (b"a,b\n1,2\n", "text/csv", "text/csv"),
        (b"a,b\n1,2\n", "text/html", "text/plain"),
        (b"a,b\n1,2\n", "not a type", "text/plain"),
    ],
)
async def test_the_bytes_say_the_type_and_what_might_run_is_only_saved(
    api: httpx.AsyncClient, data: bytes, declared: str, kept: str
) -> None:
    made = await upload(api, data, headers={"Content-Type": declared})

    answer = await api.get(made["url"])

    assert made["mimetype"] == answer.headers["content-type"] == kept
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith(
        "inline" if kept in {"image/png", "image/gif", "text/plain"} else "attachment"
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ('a"; filename="b.exe', "a; filename=b.exe"),
        ("a\r\nSet-Cookie: x=1.png", "aSet-Cookie x=1.png"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("..", None),
        ("/", None),
        ("x" * 1000 + ".png", "x" * 251 + ".png"),
        ("é" * 500 + ".jpeg", "é" * 125 + ".jpeg"),
        ("con<>:|?*.txt", "con.txt"),
        ("100%.png", "100%.png"),
    ],
)
async def test_a_hostile_name_is_a_name_at_most(
    api: httpx.AsyncClient, settings: Settings, given: str, kept: str | None
) -> None:
    made = await upload(api, params={"filename": given})

    answer = await api.get(made["url"])

    assert made["filename"] == kept
    assert answer.content == PNG
    assert answer.headers.get_list("set-cookie") == []
    assert "\n" not in answer.headers["content-disposition"]
    [path] = kept_files(settings)
    assert path.name.startswith(made["sha256"])


async def test_a_range_is_answered_with_that_part(api: httpx.AsyncClient) -> None:
    made = await upload(api)

    answer = await api.get(made["url"], headers={"Range": "bytes=100-199"})

    assert (answer.status_code, answer.content) == (206, PNG[100:200])
    assert answer.headers["content-range"] == f"bytes 100-199/{len(PNG)}"
    assert answer.headers["content-length"] == "100"


async def test_a_range_past_the_end_is_416(api: httpx.AsyncClient) -> None:
    made = await upload(api)

    answer = await api.get(made["url"], headers={"Range": f"bytes={len(PNG)}-"})

    assert (answer.status_code, answer.json()["code"]) == (416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == f"bytes */{len(PNG)}"


async def test_if_range_of_another_version_gives_the_whole(api: httpx.AsyncClient) -> None:
    made = await upload(api)
    first = await api.get(made["url"])

    same = await api.get(made["url"], headers={"Range": "bytes=0-9", "If-Range": first.headers["etag"]})
    by_date = await api.get(made["url"], headers={"Range": "bytes=0-9", "If-Range": first.headers["last-modified"]})
    other = await api.get(made["url"], headers={"Range": "bytes=0-9", "If-Range": '"other"'})

    assert (same.status_code, by_date.status_code, other.status_code) == (206, 206, 200)
    assert other.content == PNG


async def test_what_the_client_has_is_not_sent_again(api: httpx.AsyncClient) -> None:
    made = await upload(api)
    first = await api.get(made["url"])

    again = await api.get(made["url"], headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


async def test_head_tells_all_but_the_bytes(api: httpx.AsyncClient) -> None:
    made = await upload(api)

    answer = await api.head(made["url"], headers={"Range": "bytes=0-9"})

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(PNG))
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["accept-ranges"] == "bytes"


async def test_another_s_file_is_no_file(api: httpx.AsyncClient, database: Connection) -> None:
    own, other = await add_connection(database), await add_connection(database)
    limited = await limited_to(api, own)
    foreign = await upload(api, params={"connection_id": str(other)})
    common = await upload(api)

    answers = [
        await api.request(method, f"/media/{one}", headers=limited)
        for one in (foreign["id"], common["id"], str(uuid4()))
        for method in ("GET", "DELETE")
    ]

    assert [(answer.status_code, answer.json()["detail"]) for answer in answers] == [
        (404, "There is no such file.")
    ] * 6
    assert (await api.head(foreign["url"], headers=limited)).status_code == 404
    assert (await api.get(foreign["url"])).content == PNG


async def test_a_limited_key_uploads_for_its_own_connections(api: httpx.AsyncClient, database: Connection) -> None:
    own, second, other = [await add_connection(database) for _ in range(3)]
    one, two = await limited_to(api, own), await limited_to(api, own, second)

    by_default = await upload(api, headers=one)
    unsaid = await api.post("/media", content=PNG, headers=two)
    foreign = await api.post("/media", content=PNG, headers=two, params={"connection_id": str(other)})
    missing = await api.post("/media", content=PNG, params={"connection_id": str(uuid4())})

    assert by_default["connection_id"] == str(own)
    assert (await api.get(by_default["url"], headers=two)).content == PNG
    assert (unsaid.status_code, unsaid.json()["errors"][0]["pointer"]) == (422, "?connection_id")
    assert (foreign.status_code, missing.status_code) == (404, 404)


@pytest.mark.parametrize(
    ("scopes", "method", "path"),
    [(["messages:read"], "POST", "/media"), (["messages:write"], "GET", f"/media/{uuid4()}")],
)
async def test_each_call_needs_its_scope(api: httpx.AsyncClient, scopes: list[str], method: str, path: str) -> None:
    made = (await api.post("/api-keys", json={"name": "k", "scopes": scopes})).json()

    answer = await api.request(method, path, headers={"Authorization": f"Bearer {made['key']}"}, content=PNG)

    assert answer.status_code == 403


async def test_a_file_is_deleted_unless_a_waiting_message_needs_it(
    api: httpx.AsyncClient, database: Connection
) -> None:
    made = await upload(api)
    message_id = await add_message(database, await add_connection(database), made["id"], status="queued")

    needed = await api.delete(made["url"])
    await database.execute("UPDATE messages SET status = 'sent' WHERE id = $1", message_id)
    gone = await api.delete(made["url"])

    assert (needed.status_code, needed.json()["code"]) == (409, "INVALID_STATE")
    assert gone.status_code == 204
    assert (await api.get(made["url"])).status_code == 404
    assert (await api.delete(made["url"])).status_code == 404


async def test_bytes_that_were_deleted_past_us_are_a_problem_not_half_a_body(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    made = await upload(api)
    [path] = kept_files(settings)
    path.unlink()

    answer = await api.get(made["url"])

    assert (answer.status_code, answer.json()["code"]) == (410, "MEDIA_GONE")
