"""Settings from Secrets Manager: what the environment leaves unset, asked for once, and said clearly when it fails."""

import json
import socket
from collections.abc import Callable, Iterator

import botocore.session
import httpx
import pytest
from botocore.exceptions import ClientError

from shared.domain.errors import Misconfigured, Unavailable
from shared.settings import load

ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:zaphub-test/functions"
Keep = Callable[[str], str]
VALUES = {
    "ZAPHUB_DATABASE_URL": "postgresql://zaphub:from-the-secret@db:5432/zaphub",
    "ZAPHUB_SECRET_KEY": "from-the-secret" * 3,
    "ZAPHUB_HOST_TOKEN": "from-the-secret" * 3,
    "ZAPHUB_ADMIN_KEY": "",
    "ZAPHUB_CONCURRENCY": "message:send=9",
    "SOMETHING_ELSE": "of somebody else",
}


@pytest.fixture
def keep(sqs_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keep]:
    """Keep a text as a secret; the environment names it, and nothing that is secret."""
    httpx.post(f"{sqs_endpoint}/moto-api/reset").raise_for_status()
    for name in ("ZAPHUB_DATABASE_URL", "ZAPHUB_SECRET_KEY", "ZAPHUB_HOST_TOKEN", "ZAPHUB_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", sqs_endpoint)
    monkeypatch.setenv("ZAPHUB_SECRETS_ARN", ARN)
    client = botocore.session.get_session().create_client(
        "secretsmanager", region_name="us-east-1", endpoint_url=sqs_endpoint
    )

    def put(text: str) -> str:
        arn: str = client.create_secret(Name="zaphub-test/functions", SecretString=text)["ARN"]
        monkeypatch.setenv("ZAPHUB_SECRETS_ARN", arn)
        return arn

    load.cache_clear()
    yield put
    load.cache_clear()


def test_what_the_environment_leaves_unset_comes_from_the_secret(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(json.dumps(VALUES))
    monkeypatch.setenv("ZAPHUB_HOST_TOKEN", "of the environment")

    settings = load()

    assert settings.database_url == VALUES["ZAPHUB_DATABASE_URL"]
    assert settings.secret_key.get_secret_value() == VALUES["ZAPHUB_SECRET_KEY"]
    assert settings.concurrency == {"message:send": 9}
    assert settings.admin_key is None
    assert settings.host_token is not None
    assert settings.host_token.get_secret_value() == "of the environment"
    assert "from-the-secret" not in repr(settings)


def test_the_secret_is_asked_for_once(keep: Keep, sqs_endpoint: str) -> None:
    keep(json.dumps(VALUES))
    first = load()
    httpx.post(f"{sqs_endpoint}/moto-api/reset").raise_for_status()

    assert load() is first


def test_a_secret_that_was_mended_is_read_by_the_next_call(keep: Keep) -> None:
    with pytest.raises(Misconfigured) as raised:
        load()
    assert raised.value.detail == f"ZAPHUB_SECRETS_ARN: {ARN} cannot be read (ResourceNotFoundException)."
    assert isinstance(raised.value.__cause__, ClientError)

    keep(json.dumps(VALUES))
    assert load().database_url == VALUES["ZAPHUB_DATABASE_URL"]


@pytest.mark.parametrize("text", ["hunter2", '["hunter2"]', '{"ZAPHUB_SECRET_KEY": {"hunter2": 1}}'])
def test_a_secret_of_another_form_is_named_and_not_shown(keep: Keep, text: str) -> None:
    arn = keep(text)

    with pytest.raises(Misconfigured) as raised:
        load()

    assert raised.value.detail == f"ZAPHUB_SECRETS_ARN: {arn} is not a JSON object of names and texts."
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_wrong_value_in_the_secret_is_named_and_not_shown(keep: Keep) -> None:
    keep(json.dumps({**VALUES, "ZAPHUB_SECRET_KEY": "short"}))

    with pytest.raises(Misconfigured, match=r"^ZAPHUB_SECRET_KEY: ") as raised:
        load()

    assert "short" not in raised.value.detail


def test_a_value_that_should_be_json_is_named_and_not_shown(keep: Keep) -> None:
    keep(json.dumps({**VALUES, "ZAPHUB_SQS_QUEUE_URLS": "{hunter2"}))

    with pytest.raises(Misconfigured, match='"sqs_queue_urls"') as raised:
        load()

    assert "hunter2" not in raised.value.detail
    assert raised.value.__cause__ is None


def test_an_arn_of_something_else_is_refused_before_anybody_is_asked(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAPHUB_SECRETS_ARN", "arn:aws:s3:::a-bucket")

    with pytest.raises(Misconfigured, match="ZAPHUB_SECRETS_ARN: must be the ARN of a secret"):
        load()


def test_a_secrets_manager_that_is_away_may_be_asked_again(
    keep: Keep, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused_port}")

    with pytest.raises(Unavailable, match="Secrets Manager does not answer"):
        load()


@pytest.fixture
def unused_port() -> int:
    """A port of loopback at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port
