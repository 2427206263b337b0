"""docs/queues.md says the numbers that the policies have."""

import re
from pathlib import Path

from shared.domain.jobs import QueueName
from shared.queues.policies import HEARTBEAT_S, LAMBDA_LEASE_MARGIN_S, POLICIES, Runtime

_PAGE = (Path(__file__).parents[3] / "docs" / "queues.md").read_text(encoding="utf-8")


def _row(queue: QueueName) -> str:
    policy = POLICIES[queue]
    delays = ", ".join(f"{delay:g}" for delay in policy.retry_delays_s)
    retries = f"{len(policy.retry_delays_s)}: {delays} s" if delays else "none"
    leases = f"{policy.lease_s(Runtime.WORKER):g} s | {policy.lease_s(Runtime.LAMBDA):g} s"
    numbers = f"{policy.group_cap} | {policy.timeout_s:g} s"
    return f"| `{queue}` | {policy.priority} | {policy.concurrency} | {retries} | {numbers} | {leases} |"


def test_the_table_has_the_numbers_of_the_policies() -> None:
    rows = re.findall(r"^\| `[a-z:]+` \| \d+ \|.*$", _PAGE, re.MULTILINE)

    assert rows == [_row(queue) for queue in sorted(POLICIES, key=lambda queue: -POLICIES[queue].priority)]


def test_the_text_has_the_numbers_of_the_policies() -> None:
    send = POLICIES[QueueName.MESSAGE_SEND]

    assert f"one every {HEARTBEAT_S:g} s" in _PAGE
    assert f"its timeout and {LAMBDA_LEASE_MARGIN_S:g} s more" in _PAGE
    assert f"{send.rate_per_minute} a minute, {send.burst} of them at once" in _PAGE
    assert {policy.stalled_limit for policy in POLICIES.values()} == {3}  # the page says: the fourth time
    assert {policy.keep_completed for policy in POLICIES.values()} == {100}
