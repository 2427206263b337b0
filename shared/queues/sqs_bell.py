"""The bell over SQS: one queue for each of ours. A message says that its queue may have work, and nothing else.

SQS hands a bell out to one listener, sometimes to two, and in no order, which is all that a bell needs.
"""

import asyncio
import functools
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from shared.domain.errors import Misconfigured, Unavailable
from shared.domain.jobs import QueueName
from shared.queues.bells import WAIT_S

# The longest poll that SQS has: an idle worker asks each queue three times a minute, and is billed for that.
_POLL_S: Final = 20
_AT_ONCE: Final = 10
# SQS delays a message no longer.
MAX_DELAY_S: Final = 900
_CONNECT_TIMEOUT_S: Final = 2.0
# A poll that was refused says so at once; the next one waits.
_AFTER_TROUBLE_S: Final = 1.0
_REGION: Final = re.compile(r"\bsqs\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com")
# For a server that stands in for SQS; it takes any.
_SOME_REGION: Final = "us-east-1"
_ERRORS: Final = (BotoCoreError, ClientError, OSError, TimeoutError)

log = structlog.get_logger(__name__)


class SqsBell:
    """Rings and hears through SQS; connects at its first use, with the credentials that AWS's tools find.

    A bell that is heard while nobody waits for its queue is kept until somebody does.
    """

    def __init__(self, urls: Mapping[QueueName, str]) -> None:
        """`urls`: the URL of every queue, all on one endpoint. Raises Misconfigured."""
        if missing := [str(queue) for queue in QueueName if queue not in urls]:
            raise Misconfigured(f"ZAPHUB_SQS_QUEUE_URLS has no URL for {', '.join(missing)}.")
        endpoints = {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in urls.values()}
        if len(endpoints) > 1 or not all(urlsplit(url).netloc for url in urls.values()):
            raise Misconfigured("ZAPHUB_SQS_QUEUE_URLS: the URLs begin with https:// and are all on one host.")
        self._urls = dict(urls)
        self._endpoint = endpoints.pop()
        self._opened = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._open: Any = None  # aiobotocore makes its clients at run time, without types
        self._bells = {queue: _Merged(functools.partial(self._send, queue)) for queue in self._urls}
        self._polls: dict[QueueName, asyncio.Task[None]] = {}
        self._waits: Counter[QueueName] = Counter()  # how many wait for a queue
        self._rung: set[QueueName] = set()
        self._changed = asyncio.Event()
        self._trouble: Exception | None = None

    async def open(self) -> None:
        await self._client()

    async def ring(self, queues: Collection[QueueName]) -> None:
        results = await asyncio.gather(*(self._bells[queue].call() for queue in queues), return_exceptions=True)
        for result in results:
            if isinstance(result, _ERRORS):
                raise _unavailable(result) from result
            if isinstance(result, BaseException):
                raise result

    async def ring_later(self, queue: QueueName, delay_s: float) -> None:
        try:
            await self._send(queue, delay_s=min(MAX_DELAY_S, math.ceil(delay_s)))
        except _ERRORS as error:
            raise _unavailable(error) from error

    async def wait(self, queues: Collection[QueueName]) -> set[QueueName]:
        wanted = frozenset(queues)
        self._waits.update(wanted)
        for queue in wanted - self._polls.keys():
            self._polls[queue] = asyncio.ensure_future(self._poll(queue))
        try:
            async with asyncio.timeout(WAIT_S):
                while not (heard := self._rung & wanted) and self._trouble is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return set()
        finally:
            self._waits.subtract(wanted)
        if not heard and self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise _unavailable(trouble) from trouble
        self._rung -= heard
        return heard

    async def close(self) -> None:
        polls = list(self._polls.values())
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        self._open = None
        await self._opened.aclose()

    async def _send(self, queue: QueueName, *, delay_s: int = 0) -> None:
        client = await self._client()
        await client.send_message(QueueUrl=self._urls[queue], MessageBody=queue.value, DelaySeconds=delay_s)

    async def _poll(self, queue: QueueName) -> None:
        """Hear this queue's bells for as long as somebody waits for them."""
        try:
            while self._waits[queue] > 0:
                try:
                    heard = await self._receive(queue)
                except _ERRORS as error:
                    self._trouble = error
                    self._changed.set()
                    await asyncio.sleep(_AFTER_TROUBLE_S)
                    continue
                self._trouble = None
                if heard:
                    self._rung.add(queue)
                    self._changed.set()
        finally:
            del self._polls[queue]

    async def _receive(self, queue: QueueName) -> bool:
        """Whether there was a bell, within one long poll. What was heard is deleted: the ledger holds the work."""
        client = await self._client()
        url = self._urls[queue]
        answer = await client.receive_message(QueueUrl=url, MaxNumberOfMessages=_AT_ONCE, WaitTimeSeconds=_POLL_S)
        messages = answer.get("Messages", [])
        if not messages:
            return False
        try:
            entries = [
                {"Id": str(place), "ReceiptHandle": message["ReceiptHandle"]} for place, message in enumerate(messages)
            ]
            deleted = await client.delete_message_batch(QueueUrl=url, Entries=entries)
            kept = len(deleted.get("Failed", []))
        except _ERRORS:
            kept = len(messages)
        if kept:
            # They are heard once more, for one empty claim each.
            log.warning("bells_not_deleted", queue=queue.value, bells=kept)
        return True

    async def _client(self) -> Any:  # noqa: ANN401 - as above
        async with self._opening:
            if self._open is None:
                found = _REGION.search(self._endpoint)
                config = AioConfig(
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    read_timeout=_POLL_S + 5,
                    # Every queue polls, and whoever rings does so beside the polls.
                    max_pool_connections=4 * len(self._urls),
                    retries={"total_max_attempts": 1},
                )
                client = get_session().create_client(
                    "sqs", region_name=found[1] if found else _SOME_REGION, endpoint_url=self._endpoint, config=config
                )
                self._open = await self._opened.enter_async_context(client)
        return self._open


class _Merged:
    """Calls that come while one is under way share the next one: what began before them may be too early for them."""

    def __init__(self, act: Callable[[], Awaitable[None]]) -> None:
        self._act = act
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def call(self) -> None:
        if self._next is None or self._next.done():
            self._next = asyncio.ensure_future(self._after(self._running))
        await asyncio.shield(self._next)

    async def _after(self, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        await self._act()


def _unavailable(error: BaseException) -> Unavailable:
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
    return Unavailable(f"SQS does not answer ({code or type(error).__name__}); work goes on by sweeps.")
