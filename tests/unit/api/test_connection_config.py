"""A connection's config: what is refused, what is shown of a proxy, and rows of other versions."""

import pytest
from pydantic import ValidationError

from shared.domain.connection_config import ConnectionConfig, parse_proxy


@pytest.mark.parametrize(
    ("given", "whole", "shown"),
    [
        ("http://proxy.example.com", "http://proxy.example.com:80", "http://proxy.example.com:80"),
        ("https://u:p%40x@h:8443/", "https://u:p%40x@h:8443", "https://u:***@h:8443"),
        ("socks5://u@192.0.2.1", "socks5://u@192.0.2.1:1080", "socks5://u@192.0.2.1:1080"),
        ("SOCKS5://u:p@[2001:DB8::1]:9", "socks5://u:p@[2001:db8::1]:9", "socks5://u:***@[2001:db8::1]:9"),
    ],
)
def test_a_proxy_is_kept_whole_and_shown_without_its_password(given: str, whole: str, shown: str) -> None:
    address = parse_proxy(given)

    assert (address.url(), address.shown()) == (whole, shown)
    assert ConnectionConfig(proxy=given).to_store() == {"proxy": shown}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "proxy.example.com:8080",
        "ftp://h:1",
        "socks4://h:1",
        "http://",
        "http://h:0",
        "http://h:70000",
        "http://h:x",
        "http://h/path",
        "http://h?q",
        "http://h#f",
        "http://:secret@h:1",
        "http://u:secret@h h:1",
        "http://u:secret@ü.example:1",
        "http://u:secret@[::1%25eth0]:1",
        "http://u:se\x00cret@h:1",
        "http://u:secret@a_/b:1",
    ],
)
def test_what_is_no_proxy_is_refused_and_never_repeated(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ConnectionConfig(proxy=url)

    assert "secret" not in str(refused.value)


def test_the_model_never_prints_a_proxy() -> None:
    assert "secret" not in repr(ConnectionConfig(proxy="http://u:secret@h:1"))


def test_a_row_of_another_version_loads_with_what_is_understood_of_it() -> None:
    stored = {"retryLimit": 3, "send_weight": "heavy", "ignore_groups": True, "reject_calls": {"enabled": True, "x": 1}}

    config = ConnectionConfig.from_stored(stored)

    assert config == ConnectionConfig(ignore_groups=True)
