"""The seven queues: policies, the ledger, the drain that works them, the bells that wake it; and the seed's calls."""

from shared.queues.seed import (
    clean_old_jobs,
    close_all_queues,
    enqueue_message_status,
    enqueue_receive_message,
    enqueue_session_close,
    enqueue_session_init,
    enqueue_webhook_delivery,
    enqueue_webhook_for_event,
    get_all_queue_metrics,
    get_failed_jobs,
    get_queue_metrics,
    has_pending_init_job,
    initialize_queues,
    pause_all_queues,
    resume_all_queues,
)
from shared.queues.seed_messages import enqueue_send_message, retry_failed_message

__all__ = [
    "clean_old_jobs",
    "close_all_queues",
    "enqueue_message_status",
    "enqueue_receive_message",
    "enqueue_send_message",
    "enqueue_session_close",
    "enqueue_session_init",
    "enqueue_webhook_delivery",
    "enqueue_webhook_for_event",
    "get_all_queue_metrics",
    "get_failed_jobs",
    "get_queue_metrics",
    "has_pending_init_job",
    "initialize_queues",
    "pause_all_queues",
    "resume_all_queues",
    "retry_failed_message",
]
