"""The functions as Lambda starts them: settings from the environment, bells over SQS, one container per handler."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest

from shared.domain.jobs import QueueName
from shared.queues.runtime import Queues
from shared.settings import load


class Invocation:
    """AWS's context object, as far as we ask it."""

    def get_remaining_time_in_millis(self) -> int:
        """What a function with a timeout of 20 s has at its start."""
        return 20_000


@pytest.fixture
def settings_on_aws(
    database_url: str, sqs_urls: Mapping[QueueName, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The settings as a function reads them."""
    monkeypatch.setenv("ZAPHUB_DATABASE_URL", database_url)
    monkeypatch.setenv("ZAPHUB_TRANSPORT", "sqs")
    monkeypatch.setenv("ZAPHUB_SQS_QUEUE_URLS", json.dumps(sqs_urls))
    monkeypatch.setenv("ZAPHUB_SECRET_KEY", "s" * 32)
    for module in ("lambda_entry", "lambda_sweep"):
        monkeypatch.setattr(f"shared.queues.{module}.configure", lambda **_: None)
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.fixture
async def queues(settings_on_aws: None) -> AsyncIterator[Queues]:
    """Another process on the same database and SQS: who makes the work."""
    async with await Queues.open(load()) as opened:
        yield opened
