"""Whatever the body is, the receivers' verifier takes it as it was sent and in no other form."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shared.domain.webhook_secret import Keyring, key_of, new_secret
from shared.webhooks.signing import sign

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
SECRETS = st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=3).map(
    lambda keys: [new_secret(lambda _, key=key: key) for key in keys]
)
IDS = st.uuids().map(str)


def body_of(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def flipped(data: bytes, bit: int) -> bytes:
    place, mask = bit // 8 % len(data), 1 << bit % 8
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


@given(JSON, SECRETS, IDS)
def test_any_body_verifies_with_each_of_the_secrets_that_hold(value: Any, secrets: list[str], webhook_id: str) -> None:
    body = body_of(value)
    headers = sign(secrets, webhook_id=webhook_id, at=datetime.now(UTC), body=body)

    for secret in secrets:
        assert Webhook(secret).verify(body, headers) == value


@given(JSON, SECRETS, IDS, st.integers(0, 10_000), st.sampled_from(["body", "secret", "webhook-id", "signature"]))
def test_one_flipped_bit_anywhere_does_not_verify(
    value: Any, secrets: list[str], webhook_id: str, bit: int, where: str
) -> None:
    body, secret = body_of(value), secrets[0]
    headers = sign([secret], webhook_id=webhook_id, at=datetime.now(UTC), body=body)
    key = key_of(secret)
    match where:
        case "body":
            body = flipped(body, bit)
        case "secret":
            key = flipped(key, bit)
        case "webhook-id":
            headers["webhook-id"] = flipped(webhook_id.encode(), bit).decode("latin-1")
        case _:
            signature = headers["webhook-signature"].removeprefix("v1,")
            place = bit % (len(signature) - 2)  # the last character before the padding holds bits that nobody reads
            other = "A" if signature[place] != "A" else "B"
            headers["webhook-signature"] = f"v1,{signature[:place]}{other}{signature[place + 1 :]}"

    # A body that is no UTF-8 any more is refused before the comparison.
    with pytest.raises((WebhookVerificationError, UnicodeDecodeError)):
        Webhook(new_secret(lambda _: key)).verify(body, headers)


@given(SECRETS)
def test_a_keyring_comes_back_as_it_was_and_never_prints(secrets: list[str]) -> None:
    ring = Keyring.of(secrets[0])

    assert Keyring.load(ring.dump()) == ring
    assert secrets[0] not in repr(ring)
