"""Signatures, against the verifier that receivers use."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.domain.errors import InvalidInput
from shared.domain.webhook_secret import Keyring, check_secret, new_secret
from shared.webhooks.signing import sign

BODY = '{"id":"1","text":"olá 👋"}'.encode()
START = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_independent_verifier_accepts_our_signature() -> None:
    secret = new_secret()

    headers = sign([secret], webhook_id="d-1", at=datetime.now(UTC), body=BODY)

    assert Webhook(secret).verify(BODY, headers) == {"id": "1", "text": "olá 👋"}


def test_every_valid_secret_verifies_and_another_does_not() -> None:
    old, new = new_secret(), new_secret()

    headers = sign([new, old], webhook_id="d-1", at=datetime.now(UTC), body=BODY)

    Webhook(old).verify(BODY, headers)
    Webhook(new).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


def test_a_changed_body_or_id_does_not_verify() -> None:
    secret = new_secret()
    headers = sign([secret], webhook_id="d-1", at=datetime.now(UTC), body=BODY)

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, headers | {"webhook-id": "d-2"})


def test_the_timestamp_is_the_same_moment_in_every_time_zone() -> None:
    secret = new_secret()
    brasilia = START.astimezone(timezone(timedelta(hours=-3)))

    assert sign([secret], webhook_id="d", at=brasilia, body=BODY) == sign([secret], webhook_id="d", at=START, body=BODY)


def test_the_published_example_of_standard_webhooks_gives_its_published_signature() -> None:
    headers = sign(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at=datetime.fromtimestamp(1614265330, UTC),
        body=b'{"test": 2432232314}',
    )

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_of_24_to_64_bytes_is_accepted(size: int) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * size).decode()

    assert check_secret(secret, pointer="/secret") == secret


@pytest.mark.parametrize(
    "secret",
    [
        *["", "whsec_", "hunter2", "whsec_nope!", "whsec_" + "ã" * 40, base64.b64encode(b"k" * 32).decode()],
        *["whsec_" + base64.b64encode(b"k" * size).decode() for size in (0, 23, 65)],
    ],
)
def test_another_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_secret(secret, pointer="/webhook_secret")

    assert refused.value.pointer == "/webhook_secret"
    assert secret in {"", "whsec_"} or secret not in refused.value.detail


def test_a_made_secret_has_the_form_that_we_ask_of_others() -> None:
    assert check_secret(new_secret(), pointer="") != new_secret()


def test_a_rotated_secret_signs_until_its_grace_is_over() -> None:
    ring = Keyring.of("whsec_old").rotated("whsec_new", at=START, grace=timedelta(hours=24))

    assert ring.valid(START + timedelta(hours=23)) == ["whsec_new", "whsec_old"]
    assert ring.valid(START + timedelta(hours=24)) == ["whsec_new"]


def test_no_more_than_three_secrets_sign() -> None:
    ring = Keyring.of("whsec_0")
    for number in range(1, 6):
        ring = ring.rotated(f"whsec_{number}", at=START, grace=timedelta(hours=24))

    assert ring.valid(START) == ["whsec_5", "whsec_4", "whsec_3"]


def test_a_keyring_comes_back_as_it_was_dumped_and_never_prints() -> None:
    ring = Keyring.of("whsec_0").rotated("whsec_1", at=START, grace=timedelta(hours=24))

    assert Keyring.load(ring.dump()) == ring
    assert "whsec" not in repr(ring)
