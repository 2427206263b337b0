"""A handler that does as it is told: what the tests of the local Lambda run in AWS's own runtime client."""

import os
import threading
import time
from typing import Any

_ticks = 0


def _tick() -> None:
    global _ticks  # noqa: PLW0603 - that it counts while nobody calls is the point
    while True:
        time.sleep(0.01)
        _ticks += 1


threading.Thread(target=_tick, daemon=True).start()
_TOLD = {"calls": 0}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer, raise, exit, hang, or fail some records, as `event` says."""
    _TOLD["calls"] += 1
    match event.get("do"):
        case "raise":
            raise ValueError("as told")
        case "exit":
            os._exit(3)
        case "hang":
            time.sleep(60)
    failed = [
        {"itemIdentifier": record["messageId"]} for record in event.get("Records", []) if record["body"] == "fail"
    ]
    return {
        "pid": os.getpid(),
        "calls": _TOLD["calls"],
        "ticks": _ticks,
        "left_ms": context.get_remaining_time_in_millis(),
        "name": context.function_name,
        "batchItemFailures": failed,
    }
