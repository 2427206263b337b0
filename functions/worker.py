"""The worker of all seven queues: `taskiq worker functions.worker:broker --workers 1`."""

from functions import (
    maintenance_cleanup,
    message_receive,
    message_send,
    message_status,
    session_close,
    session_init,
    webhook_delivery,
)
from shared.queues.brokers import broker_of

broker = broker_of(
    [
        session_init.queue,
        session_close.queue,
        message_receive.queue,
        message_send.queue,
        message_status.queue,
        webhook_delivery.queue,
        maintenance_cleanup.queue,
    ]
)
works = broker.works
