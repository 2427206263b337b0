"""What a new job of each queue looks like: its readable id, name, group and order key."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

from shared.domain.jobs import NewJob, QueueName
from shared.domain.webhook import DELIVER, fan_out_job

Data = Mapping[str, Any]


def session_init(data: Data) -> NewJob:
    """One opening of a session at a time: the id is the session's."""
    session = data["sessionId"]
    return NewJob(
        queue=QueueName.SESSION_INIT, job_id=f"session-init-{session}", name="init-session", data=data, group=session
    )


def session_close(data: Data) -> NewJob:
    """The number at the end is a time in milliseconds, as in the seed: closing may be asked for again and again."""
    session = data["sessionId"]
    return NewJob(
        queue=QueueName.SESSION_CLOSE,
        job_id=f"session-close-{session}-{_now_ms()}",
        name="close-session",
        data=data,
        group=session,
    )


def message_receive(data: Data) -> NewJob:
    """In the order of its chat; the same wire id again, while it waits, is the same job."""
    session, chat = data["sessionId"], data.get("chat") or data["from"]
    return NewJob(
        queue=QueueName.MESSAGE_RECEIVE,
        job_id=f"msg-recv-{session}-{data['waMessageId']}",
        name="receive-message",
        data=data,
        group=session,
        order_key=f"recv:{session}:{chat}",
    )


def message_send(data: Data) -> NewJob:
    """`orderKey` is the chat's, when the message keeps the order of its chat."""
    return NewJob(
        queue=QueueName.MESSAGE_SEND,
        job_id=f"msg-send-{data['messageDbId']}",
        name="send-message",
        data=data,
        group=data["sessionId"],
        order_key=data.get("orderKey"),
    )


def message_status(data: Data) -> NewJob:
    """Statuses only move forward, so they need no order and no group."""
    return NewJob(
        queue=QueueName.MESSAGE_STATUS,
        job_id=f"msg-status-{data['sessionId']}-{data['waMessageId']}-{data['status']}",
        name="update-status",
        data=data,
    )


def webhook_delivery(data: Data) -> NewJob:
    """A delivery of one endpoint, or without `deliveryId` a fan-out of one session's new events."""
    if "deliveryId" not in data:
        return fan_out_job(data["sessionId"])
    return NewJob(
        queue=QueueName.WEBHOOK_DELIVERY,
        job_id=f"webhook-{data['deliveryId']}",
        name=DELIVER,
        data=data,
        group=data.get("endpointId"),
    )


def slot_of(time: datetime) -> str:
    """The minute that a cleanup is for; `time` is in UTC."""
    return time.strftime("%Y%m%dT%H%MZ")


def cleanup(data: Data) -> NewJob:
    """`slot` is the time it is for, to the minute: however many ask for one slot, one job runs."""
    slot = data.get("slot") or slot_of(datetime.now(UTC))
    return NewJob(
        queue=QueueName.MAINTENANCE_CLEANUP, job_id=f"cleanup-{slot}", name="cleanup", data={**data, "slot": slot}
    )


_OF_QUEUE: Final[Mapping[QueueName, Callable[[Data], NewJob]]] = MappingProxyType(
    {
        QueueName.SESSION_INIT: session_init,
        QueueName.SESSION_CLOSE: session_close,
        QueueName.MESSAGE_RECEIVE: message_receive,
        QueueName.MESSAGE_SEND: message_send,
        QueueName.MESSAGE_STATUS: message_status,
        QueueName.WEBHOOK_DELIVERY: webhook_delivery,
        QueueName.MAINTENANCE_CLEANUP: cleanup,
    }
)


def from_data(queue: QueueName, data: Data) -> NewJob:
    """The job that `task.kiq(**data)` means. Data that name nothing get an id of their own; the handler judges them."""
    try:
        return _OF_QUEUE[queue](data)
    except KeyError:
        name = queue.replace(":", "-")
        return NewJob(queue=queue, job_id=f"{name}-{uuid4().hex}", name=name, data=data)


def _now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)
