"""The device store's address in the Go driver's words."""

from urllib.parse import parse_qs, urlsplit

import pytest

from session_host.device_store import library_dsn


@pytest.mark.parametrize(
    ("given", "netloc", "host"),
    [
        ("postgresql://zaphub@/zaphub?host=/tmp/a/sockets", "zaphub@", ["/tmp/a/sockets"]),
        ("postgresql://u:p%40ss@db.internal:5433/zaphub", "u:p%40ss@db.internal:5433", None),
    ],
)
def test_the_librarys_address_names_its_own_schema(given: str, netloc: str, host: list[str] | None) -> None:
    parts = urlsplit(library_dsn(given, is_encrypted=False, name="x"))
    query = parse_qs(parts.query)

    assert (parts.scheme, parts.netloc, parts.path) == ("postgres", netloc, "/zaphub")
    assert query["search_path"] == ["whatsmeow"]
    assert query["sslmode"] == ["disable"]
    assert query.get("host") == host


def test_an_encrypted_connection_stays_encrypted_and_a_stricter_wish_is_kept() -> None:
    prefer = library_dsn("postgresql://u@h/d?sslmode=prefer", is_encrypted=True, name="x")
    strict = library_dsn("postgresql://u@h/d?sslmode=verify-full", is_encrypted=True, name="x")

    assert "sslmode=require" in prefer
    assert "sslmode=verify-full" in strict


def test_postgres_closes_what_the_library_leaves_open_where_it_knows_how() -> None:
    modern = parse_qs(urlsplit(library_dsn("postgresql://u@h/d", is_encrypted=True, name="x", idle_ms=60_000)).query)
    old = parse_qs(urlsplit(library_dsn("postgresql://u@h/d", is_encrypted=True, name="x")).query)

    assert modern["idle_session_timeout"] == ["60000"]
    assert "idle_session_timeout" not in old
