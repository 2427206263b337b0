"""Queues and jobs as clients see them: models for the OpenAPI document."""

from datetime import datetime
from typing import Any

from pydantic import Field

from api.shapes import MESSAGE_ID, TIME, JobStateShown, JobSummary, NextCursor, Shape
from shared.domain.jobs import QueueName


class Queue(Shape):
    """A queue's numbers; rates are over the last minute."""

    name: QueueName = Field(examples=["message:send"])
    waiting: int = Field(examples=[12])
    active: int = Field(examples=[5])
    delayed: int = Field(examples=[3])
    completed: int = Field(examples=[100])
    failed: int = Field(examples=[0])
    parked: int = Field(examples=[2], description="of those that wait: their group is paused or limited")
    total: int = Field(examples=[20], description="waiting, active and delayed")
    paused: bool = Field(examples=[False])
    oldest_waiting_seconds: float | None = Field(examples=[1.5])
    concurrency: int = Field(examples=[5])
    utilization: float = Field(examples=[1.0])
    processing_rate: float = Field(examples=[8.2], description="jobs a second")
    failure_rate: float = Field(examples=[0.0], description="the share of those that failed")
    dlq: int = Field(examples=[0], description="dead letters")


class QueueList(Shape):
    data: list[Queue]
    next_cursor: None = Field(examples=[None], description="always null: there are seven")


class Job(Shape):
    """One job. A job behind an earlier one of its chat is `waiting`."""

    id: str = Field(examples=[f"msg-send-{MESSAGE_ID}"])
    name: str = Field(examples=["send-message"])
    queue: QueueName = Field(examples=["message:send"])
    state: JobStateShown = Field(examples=["waiting"])
    priority: int = Field(examples=[5], description="a greater number is more urgent")
    attempts: int = Field(examples=[0])
    max_attempts: int = Field(examples=[6])
    run_at: datetime = Field(examples=[TIME])
    data: dict[str, Any] = Field(examples=[{"messageId": MESSAGE_ID}])
    result: dict[str, Any] | None = Field(examples=[None])
    error: dict[str, Any] | None = Field(examples=[None])
    progress: Any = Field(examples=[None], description="0 to 100, or an object, as its handler reports it")
    group: str | None = Field(examples=[None], description="the connection whose jobs take turns")
    created_at: datetime = Field(examples=[TIME])
    finished_at: datetime | None = Field(examples=[None])


class JobPage(Shape):
    data: list[Job]
    next_cursor: str | None = NextCursor


class JobDeleted(Shape):
    id: str = Field(examples=[f"msg-send-{MESSAGE_ID}"])
    deleted: bool = Field(examples=[True])
    stopping: bool = Field(examples=[False], description="true: it runs, and its worker stops it within seconds")


class AllPaused(Shape):
    paused: bool = Field(examples=[True])


class QueuePaused(Shape):
    name: QueueName = Field(examples=["message:send"])
    paused: bool = Field(examples=[True])


class Cleaned(Shape):
    count: int = Field(examples=[120], description="jobs that were deleted")
    complete: bool = Field(examples=[True], description="false: the call's time was up; call again for the rest")


class CleanupQueued(Shape):
    job: JobSummary
    deduplicated: bool = Field(examples=[False], description="true: it was asked for within this minute already")
