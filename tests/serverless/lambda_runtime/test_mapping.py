"""The local event source mapping: what the function reports as failed comes back, all else is deleted."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError, EndpointConnectionError

from local.lambda_runtime import mapping as mapping_module
from local.lambda_runtime.environment import InvocationFailed
from local.lambda_runtime.mapping import Mapping as EventSourceMapping
from shared.domain.jobs import QueueName
from tests.sqs import Bells, bells_in

QUEUE = QueueName.MESSAGE_SEND


class Scripted:
    """In the place of a function: answers as the test says, and remembers its events."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.events: list[dict[str, Any]] = []

    async def invoke(self, event: dict[str, Any]) -> Any:
        self.events.append(event)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(event) if callable(self.answer) else self.answer

    class spec:  # noqa: N801 - as the function's own
        name = "scripted"


@pytest.fixture
async def client(sqs_endpoint: str, sqs_urls: Mapping[QueueName, str]) -> AsyncIterator[Any]:
    async with get_session().create_client("sqs", region_name="us-east-1", endpoint_url=sqs_endpoint) as opened:
        for body in ("ok", "fail", "ok"):
            await opened.send_message(QueueUrl=sqs_urls[QUEUE], MessageBody=body)
        yield opened


async def _turn(client: Any, url: str, answer: Any) -> tuple[Scripted, int]:
    function = Scripted(answer)
    mapping = EventSourceMapping(client, url=url, function=function, most_at_once=1)  # type: ignore[arg-type]
    return function, await mapping.turn()


async def test_a_batch_that_is_fine_is_deleted(client: Any, sqs_urls: Mapping[QueueName, str]) -> None:
    function, deleted = await _turn(client, sqs_urls[QUEUE], {"batchItemFailures": []})

    assert deleted == 3
    assert bells_in(sqs_urls[QUEUE]) == Bells(ready=0, hidden=0, delayed=0)
    [event] = function.events
    assert [record["body"] for record in event["Records"]] == ["ok", "fail", "ok"]
    assert {record["eventSource"] for record in event["Records"]} == {"aws:sqs"}


async def test_what_failed_stays(client: Any, sqs_urls: Mapping[QueueName, str]) -> None:
    def report(event: dict[str, Any]) -> dict[str, Any]:
        failed = [one["messageId"] for one in event["Records"] if one["body"] == "fail"]
        return {"batchItemFailures": [{"itemIdentifier": one} for one in failed]}

    _, deleted = await _turn(client, sqs_urls[QUEUE], report)

    assert deleted == 2
    assert bells_in(sqs_urls[QUEUE]) == Bells(ready=0, hidden=1, delayed=0)


@pytest.mark.parametrize(
    "answer",
    [
        InvocationFailed("ValueError", "as told"),
        {"batchItemFailures": [{"itemIdentifier": "of no message"}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{}]},
    ],
)
async def test_a_failure_or_an_answer_without_sense_fails_the_batch(
    client: Any, sqs_urls: Mapping[QueueName, str], answer: Any
) -> None:
    _, deleted = await _turn(client, sqs_urls[QUEUE], answer)

    assert deleted == 0
    assert bells_in(sqs_urls[QUEUE]) == Bells(ready=0, hidden=3, delayed=0)


async def test_it_goes_on_when_the_server_was_away_or_had_no_queue_yet(
    client: Any, sqs_urls: Mapping[QueueName, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping_module, "_AFTER_TROUBLE_S", 0)
    done = asyncio.Event()
    troubles = [EndpointConnectionError(endpoint_url="away"), ClientError({}, "ReceiveMessage")]

    class Unsteady:
        async def receive_message(self, **arguments: Any) -> Any:
            if troubles:
                raise troubles.pop()
            return await client.receive_message(**arguments)

        delete_message_batch = client.delete_message_batch

    function = Scripted(lambda _event: done.set())
    mapping = EventSourceMapping(Unsteady(), url=sqs_urls[QUEUE], function=function, most_at_once=1)  # type: ignore[arg-type]
    running = asyncio.ensure_future(mapping.run())
    await asyncio.wait([running, asyncio.ensure_future(done.wait())], return_when=asyncio.FIRST_COMPLETED)

    assert done.is_set()
    running.cancel()
    await asyncio.wait([running])


async def test_it_polls_until_it_is_ended(client: Any, sqs_urls: Mapping[QueueName, str]) -> None:
    done = asyncio.Event()

    def answer(_event: dict[str, Any]) -> None:
        done.set()

    mapping = EventSourceMapping(client, url=sqs_urls[QUEUE], function=Scripted(answer), most_at_once=2)  # type: ignore[arg-type]
    running = asyncio.ensure_future(mapping.run())
    await done.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
