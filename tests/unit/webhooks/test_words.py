"""Subscriptions, frozen bodies and the jobs of webhooks."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from shared.domain.errors import InvalidInput
from shared.domain.ids import DEFAULT_TENANT, ConnectionId, EndpointId
from shared.domain.jobs import Dedupe, QueueName
from shared.domain.webhook import Endpoint, delivery_id_of, delivery_job, fan_out_job, freeze_body, matches
from shared.webhooks.endpoints import check_events

CONNECTION = ConnectionId(UUID(int=1))
OTHER = ConnectionId(UUID(int=2))
ENDPOINT = Endpoint(
    id=EndpointId(UUID(int=3)),
    tenant_id=DEFAULT_TENANT,
    owner_id=None,
    url="https://example.com/",
    events=("message.*", "session.connected"),
    connection_ids=None,
    header_names=(),
    keeps_order=False,
    enabled=True,
    disabled_reason=None,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    updated_at=datetime(2026, 1, 1, tzinfo=UTC),
)
DELIVERY = delivery_id_of(ENDPOINT.id, UUID(int=4))


def test_an_endpoint_gets_the_categories_and_types_it_names() -> None:
    assert matches(ENDPOINT, "message.sent", CONNECTION)
    assert matches(ENDPOINT, "session.connected", CONNECTION)
    assert not matches(ENDPOINT, "session.qr", CONNECTION)
    assert not matches(ENDPOINT, "messages.sent", CONNECTION)
    assert matches(replace(ENDPOINT, events=("*",)), "queue.backlog", None)
    assert not matches(replace(ENDPOINT, events=()), "message.sent", CONNECTION)


def test_an_endpoint_limited_to_connections_gets_nothing_of_others_or_of_none() -> None:
    limited = replace(ENDPOINT, events=("*",), connection_ids=(CONNECTION,))

    assert matches(limited, "message.sent", CONNECTION)
    assert not matches(limited, "message.sent", OTHER)
    assert not matches(limited, "queue.backlog", None)


def test_a_connections_own_endpoint_gets_nothing_of_another_connection() -> None:
    own = replace(ENDPOINT, owner_id=CONNECTION)

    assert matches(own, "message.sent", CONNECTION)
    assert not matches(own, "message.sent", OTHER)


@pytest.mark.parametrize("events", [[], ["message"], ["*.*"], ["message.**"], ["Message.sent"], [""], ["x.y"] * 101])
def test_a_subscription_to_what_is_no_event_is_refused(events: list[str]) -> None:
    with pytest.raises(InvalidInput):
        check_events(events)


def test_the_frozen_body_holds_the_contracts_fields_and_the_payload_as_it_was() -> None:
    body = freeze_body(
        delivery_id=DELIVERY,
        event_type="message.sent",
        connection_id=CONNECTION,
        external_id='a"b',
        sequence=7,
        at=datetime(2026, 1, 2, 0, 4, 5, 678901, tzinfo=timezone(timedelta(hours=-3))),
        payload_json='{"text": "olá", "amount": 1.10}',
    )

    assert json.loads(body) == {
        "id": str(DELIVERY),
        "event": "message.sent",
        "sessionId": str(CONNECTION),
        "externalId": 'a"b',
        "sequence": 7,
        "timestamp": "2026-01-02T03:04:05.678Z",
        "payload": {"text": "olá", "amount": 1.1},
    }
    assert b'"amount": 1.10}' in body
    assert "." not in json.loads(body)["id"]


def test_an_event_has_one_delivery_per_endpoint_whoever_makes_it() -> None:
    assert delivery_id_of(ENDPOINT.id, UUID(int=4)) == DELIVERY
    assert delivery_id_of(ENDPOINT.id, UUID(int=5)) != DELIVERY
    assert delivery_id_of(EndpointId(UUID(int=9)), UUID(int=4)) != DELIVERY


def test_jobs_hold_ids_only_and_a_slow_endpoint_is_a_group_of_its_own() -> None:
    job = delivery_job(DELIVERY, endpoint_id=ENDPOINT.id, connection_id=CONNECTION)

    assert job.job_id == f"webhook-{DELIVERY}"
    assert job.queue is QueueName.WEBHOOK_DELIVERY
    assert job.group == f"endpoint:{ENDPOINT.id}"
    assert job.data == {"deliveryId": str(DELIVERY), "sessionId": str(CONNECTION)}


def test_of_a_connections_fan_outs_one_may_run_and_one_wait() -> None:
    job = fan_out_job(CONNECTION)

    assert (job.name, job.dedupe) == ("fan-out", Dedupe.WAITING)
    assert job.data == {"sessionId": str(CONNECTION)}
    assert fan_out_job(None).data == {"sessionId": None}
