"""SQS on loopback: moto's server, with an empty queue for each of ours."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import httpx
from moto.server import ThreadedMotoServer

from shared.domain.jobs import QueueName


@dataclass(frozen=True, slots=True)
class Bells:
    """How many messages a queue holds: ready to be heard, heard and not deleted, for later."""

    ready: int
    hidden: int
    delayed: int


@contextmanager
def running() -> Iterator[str]:
    """The endpoint of a server that lives as long as the block."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def empty_queues(endpoint: str) -> Mapping[QueueName, str]:
    """The URLs of seven queues, after all else was forgotten."""
    httpx.post(f"{endpoint}/moto-api/reset").raise_for_status()
    client = _client(endpoint)
    return {queue: client.create_queue(QueueName=queue.replace(":", "-"))["QueueUrl"] for queue in QueueName}


def bells_in(url: str) -> Bells:
    """What the queue holds now."""
    names = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
    client = _client(f"{urlsplit(url).scheme}://{urlsplit(url).netloc}")
    counts = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return Bells(*(int(counts[name]) for name in names))


def _client(endpoint: str) -> Any:  # botocore makes its clients at run time, without types
    return botocore.session.get_session().create_client("sqs", region_name="us-east-1", endpoint_url=endpoint)
