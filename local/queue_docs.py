"""The tables of `docs/queues.md` that repeat the policies, between their markers; `local.queue_table` writes them."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from local.environment import CHECKOUT
from shared.domain.jobs import QueueName
from shared.queues.policies import POLICIES, Runtime

PATH: Final = CHECKOUT / "docs" / "queues.md"

_POLICY_HEAD: Final = (
    "queue",
    "priority",
    "concurrency",
    "retries after the first try",
    "per group",
    "timeout",
    "worker lease",
    "Lambda lease",
)
_AWS_HEAD: Final = (
    "function",
    "timeout",
    "bells hidden for",
    "invocations at once",
    "started by",
    "memory",
    "oldest bell alarms after",
)


def page(text: str, table: dict[str, Any]) -> str:
    """The page with its tables as they should be. Raises ValueError when a marker is missing."""
    queues = [QueueName(entry["queue"]) for entry in table["queues"]]
    text = _between(text, "policies", _markdown(_POLICY_HEAD, (_policy(queue) for queue in queues)))
    others = [table["sweeper"], table["api"]]
    return _between(text, "aws", _markdown(_AWS_HEAD, (_function(entry) for entry in [*table["queues"], *others])))


def _between(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, found_too, after = rest.partition(end)
    if not found or not found_too:
        raise ValueError(f"{PATH.name} has no {begin.strip()} … {end}")
    return f"{before}{begin}{content}{end}{after}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("|" + "|".join(line) + "|\n" if line[0] == "---" else f"| {' | '.join(line)} |\n" for line in lines)


def _policy(queue: QueueName) -> list[str]:
    policy = POLICIES[queue]
    delays = ", ".join(f"{delay:g}" for delay in policy.retry_delays_s)
    return [
        f"`{queue}`",
        str(policy.priority),
        str(policy.concurrency),
        f"{len(policy.retry_delays_s)}: {delays} s" if delays else "none",
        str(policy.group_cap),
        f"{policy.timeout_s:g} s",
        f"{policy.lease_s(Runtime.WORKER):g} s",
        f"{policy.lease_s(Runtime.LAMBDA):g} s",
    ]


def _function(entry: dict[str, Any]) -> list[str]:
    def seconds(name: str) -> str:
        return f"{entry[name]} s" if name in entry else ""

    return [
        f"`{entry['name']}`",
        seconds("function_timeout_s"),
        seconds("visibility_timeout_s"),
        str(entry.get("max_concurrency", 1 if "schedule" in entry else "")),
        f"{entry['batch_size']} bells at most" if "batch_size" in entry else entry.get("schedule", "a request"),
        f"{entry['memory_mb']} MB",
        seconds("oldest_bell_alarm_s"),
    ]
