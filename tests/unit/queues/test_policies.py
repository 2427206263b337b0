"""The policy table, as DESIGN and the seed have it."""

import pytest

from shared.domain.jobs import QueueName as Q
from shared.queues.policies import HEARTBEAT_S, POLICIES, Runtime
from shared.settings import Settings


def test_every_queue_has_a_policy_and_an_id_of_its_own() -> None:
    assert list(POLICIES) == list(Q)
    assert len({policy.id for policy in POLICIES.values()}) == len(Q)


@pytest.mark.parametrize(
    ("queue", "priority", "concurrency", "retries"),
    [
        (Q.SESSION_INIT, 10, 3, 3),
        (Q.SESSION_CLOSE, 8, 3, 2),
        (Q.MESSAGE_RECEIVE, 7, 10, 3),
        (Q.MESSAGE_SEND, 5, 5, 5),
        (Q.MESSAGE_STATUS, 4, 5, 3),
        (Q.WEBHOOK_DELIVERY, 3, 3, 11),
        (Q.MAINTENANCE_CLEANUP, 1, 1, 0),
    ],
)
def test_the_policies_are_the_designs(queue: Q, priority: int, concurrency: int, retries: int) -> None:
    policy = POLICIES[queue]

    assert (policy.priority, policy.concurrency, policy.max_attempts) == (priority, concurrency, retries + 1)


def test_a_send_waits_2_6_18_54_and_162_s() -> None:
    policy = POLICIES[Q.MESSAGE_SEND]

    assert [policy.delay_s(attempt) for attempt in range(1, 8)] == [2, 6, 18, 54, 162, 162, 162]


def test_webhooks_go_on_for_about_three_days() -> None:
    delays_s = POLICIES[Q.WEBHOOK_DELIVERY].retry_delays_s

    assert delays_s[:3] == (10, 30, 90)
    assert 70 < sum(delays_s) / 3600 < 80


def test_a_try_has_more_time_than_the_settings_may_give_its_handler() -> None:
    def most(setting: str) -> float:
        [bound] = [limit.le for limit in Settings.model_fields[setting].metadata if hasattr(limit, "le")]
        return float(bound)

    assert POLICIES[Q.MESSAGE_SEND].timeout_s > most("send_timeout_s")
    assert POLICIES[Q.WEBHOOK_DELIVERY].timeout_s > most("webhook_timeout_s")


def test_a_queue_without_retries_has_no_delay() -> None:
    assert POLICIES[Q.MAINTENANCE_CLEANUP].delay_s(1) == 0


@pytest.mark.parametrize("queue", list(Q))
def test_a_dead_worker_is_noticed_within_6_s_and_three_heartbeats_fit_a_lease(queue: Q) -> None:
    lease_s = POLICIES[queue].lease_s(Runtime.WORKER)

    assert lease_s + 1 <= 6
    assert lease_s >= 3 * HEARTBEAT_S


@pytest.mark.parametrize("queue", list(Q))
def test_a_lambda_ends_before_its_lease(queue: Q) -> None:
    policy = POLICIES[queue]

    assert policy.lease_s(Runtime.LAMBDA) > policy.lambda_timeout_s
