"""Where the SQS of this machine is, for who starts parts: see local/sqs_server.py."""

from collections.abc import Mapping
from typing import Final

from shared.domain.jobs import QueueName

# Moto's, for whoever shows it any key.
_ACCOUNT: Final = "123456789012"
# For AWS's clients, which do nothing without some key.
CREDENTIALS: Final[Mapping[str, str]] = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
REGION: Final = "us-east-1"
_HERE: Final = "http://127.0.0.1:"


def name(queue: QueueName) -> str:
    """The queue's name on SQS, where none has a colon."""
    return queue.replace(":", "-")


def endpoint(port: int) -> str:
    """The server's URL."""
    return f"{_HERE}{port}"


def is_here(urls: Mapping[str, str]) -> bool:
    """Whether these are the queues of a server of this machine."""
    return any(url.startswith(_HERE) for url in urls.values())


def urls(port: int) -> dict[QueueName, str]:
    """Where each queue is on a server that listens on loopback at `port`."""
    return {queue: f"{endpoint(port)}/{_ACCOUNT}/{name(queue)}" for queue in QueueName}
