"""What the bench's jobs are in ZapHub: which queue, group and order key a shape of jobs means."""

from typing import Final

from local.bench.producing import Job, Shape
from shared.domain.jobs import NewJob, QueueName

GROUPS: Final = 200
_CHATS_PER_GROUP: Final = 5

QUEUE_OF: Final[dict[Shape, QueueName]] = {
    "flat": QueueName.MESSAGE_STATUS,
    # One at a time per group, a rate per group, and the order of each chat.
    "chats": QueueName.MESSAGE_SEND,
    # Ten at a time per group: a tenant alone may fill a worker of ten.
    "tenants": QueueName.MESSAGE_RECEIVE,
}


def new_job(job: Job, shape: Shape) -> NewJob:
    """A job whose data are the bench's."""
    number = job["id"]
    group = {"flat": None, "chats": f"session-{number % GROUPS}", "tenants": job["tenant"]}[shape]
    return NewJob(
        queue=QUEUE_OF[shape],
        job_id=f"bench-{number}",
        name="bench",
        data=job,
        group=group,
        order_key=f"chat-{number % (GROUPS * _CHATS_PER_GROUP)}" if shape == "chats" else None,
    )
