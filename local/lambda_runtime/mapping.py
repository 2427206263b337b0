"""An event source mapping: takes messages from SQS, invokes the function, and deletes what it did not report as failed.

Facts: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from local.lambda_runtime.environment import InvocationFailed
from local.lambda_runtime.function import Function

# Short, so that whoever stops this need not wait; AWS itself polls for 20 s.
_POLL_S: Final = 1
_AFTER_TROUBLE_S: Final = 1.0

# What its client raises when the server is away, or has no such queue yet. Its own failures to connect are no OSError.
_AWAY: Final = (OSError, ClientError, BotoCoreError)

log = structlog.get_logger(__name__)


class Mapping:
    """`client` is aiobotocore's, for SQS. At most `most_at_once` batches are with the function at a time."""

    def __init__(self, client: Any, *, url: str, function: Function, most_at_once: int, batch: int = 10) -> None:  # noqa: ANN401 - made at run time, without types
        self._client = client
        self._url = url
        self._arn = f"arn:aws:sqs:us-east-1:000000000000:{url.rpartition('/')[2]}"
        self._function = function
        self._most_at_once = most_at_once
        self._batch = batch

    async def run(self) -> None:
        """Until cancelled. What fails is left in the queue and comes back after its visibility timeout."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._most_at_once):
                group.create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            try:
                await self.turn()
            except _AWAY as error:
                log.warning("sqs_away", queue=self._url, error=type(error).__name__)
                await asyncio.sleep(_AFTER_TROUBLE_S)

    async def turn(self) -> int:
        """Take one batch, if there is one, and see it through; how many messages were deleted."""
        answer = await self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=self._batch,
            WaitTimeSeconds=_POLL_S,
            MessageSystemAttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        if not messages:
            return 0
        done = _done(messages, await self._answer(messages))
        if done:
            entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(done)]
            await self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
        return len(done)

    async def _answer(self, messages: Sequence[dict[str, Any]]) -> Any:  # noqa: ANN401 - what the handler said
        try:
            return await self._function.invoke({"Records": [self._record(one) for one in messages]})
        except InvocationFailed as failure:
            log.error("invocation_failed", function=self._function.spec.name, error=failure.kind, detail=failure.detail)  # noqa: TRY400 - the function's fault, not ours
            return failure

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._arn,
            "awsRegion": "us-east-1",
        }


def _done(messages: Sequence[dict[str, Any]], answer: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - what the handler said
    """The messages that need not come back. An answer that names what is no message fails the whole batch."""
    if isinstance(answer, InvocationFailed):
        return []
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if not failures:
        return list(messages)
    failed = {one.get("itemIdentifier") if isinstance(one, dict) else None for one in failures}
    if not failed <= {one["MessageId"] for one in messages}:
        return []
    return [one for one in messages if one["MessageId"] not in failed]
