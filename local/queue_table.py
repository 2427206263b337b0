"""The queue policies as AWS's tools read them. `python -m local.queue_table` writes all that is made of them.

That is `infra/queues.json` (for Terraform), `serverless.yml` and the tables of `docs/queues.md`.
"""

import json
from pathlib import Path
from typing import Any, Final

from local import queue_docs, serverless_yml
from local.environment import CHECKOUT
from shared.domain.jobs import QueueName
from shared.queues.policies import POLICIES, QueuePolicy

PATH: Final = CHECKOUT / "infra" / "queues.json"

# AWS asks for six times the function's timeout, so that a bell is not handed out twice while its function runs.
_VISIBILITY: Final = 6
_RECEIVES: Final = 5
# A bell says nothing that the next one would not: a batch of them costs one look.
_BATCH: Final = 10
_MEMORY_MB: Final = 512
# What no queue rings for.
_SWEEPER: Final = {
    "name": "sweeper",
    "handler": "functions.sweeper.handler",
    "function_timeout_s": 50,
    "memory_mb": _MEMORY_MB,
    "schedule": "rate(1 minute)",
}
# API Gateway waits 30 s for an answer. More memory is more of a CPU, and a person waits for this one's cold start.
_API: Final = {"name": "api", "handler": "api.lambda_handler.handler", "function_timeout_s": 30, "memory_mb": 1024}
# An event source mapping takes no less; a second invocation of a queue that runs one job at a time finds none.
_LEAST_CONCURRENCY: Final = 2
_OLDEST_BELL_S: Final = 300
_OLDEST_BELL_OF_S: Final = {QueueName.MESSAGE_SEND: 60, QueueName.MESSAGE_RECEIVE: 60, QueueName.SESSION_INIT: 60}


def table() -> dict[str, Any]:
    """Every queue, most urgent first, and the other two functions. On AWS names have `-` for `:`. Times are seconds."""
    by_urgency = sorted(POLICIES.items(), key=lambda item: -item[1].priority)
    return {"queues": [_entry(queue, policy) for queue, policy in by_urgency], "sweeper": _SWEEPER, "api": _API}


def text() -> str:
    """The file's content."""
    return json.dumps(table(), indent=2) + "\n"


def _entry(queue: QueueName, policy: QueuePolicy) -> dict[str, Any]:
    return {
        "name": queue.replace(":", "-"),
        "queue": str(queue),
        "handler": f"functions.{queue.replace(':', '_')}.handler",
        "function_timeout_s": policy.lambda_timeout_s,
        "visibility_timeout_s": policy.lambda_timeout_s * _VISIBILITY,
        "max_concurrency": max(policy.concurrency, _LEAST_CONCURRENCY),
        "batch_size": _BATCH,
        "max_receive_count": _RECEIVES,
        "memory_mb": _MEMORY_MB,
        "oldest_bell_alarm_s": _OLDEST_BELL_OF_S.get(queue, _OLDEST_BELL_S),
    }


def files() -> dict[Path, str]:
    """Every file that is made of the table, and what it should hold."""
    policies = table()
    return {
        PATH: text(),
        serverless_yml.PATH: serverless_yml.text(policies),
        queue_docs.PATH: queue_docs.page(queue_docs.PATH.read_text(encoding="utf-8"), policies),
    }


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content, encoding="utf-8")
