"""What several subjects' answers are made of, as the OpenAPI document describes them; routes build the values."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.domain.jobs import QueueName

TIME: Final = "2026-01-31T12:00:00.000Z"
CONNECTION_ID: Final = "0b8f6f0e-6f3c-4d8e-9a43-3f5b0d7f0d11"
MESSAGE_ID: Final = "9b5c1c1e-5a0f-4b55-8a53-0a9a5d1f6c10"
CURSOR: Final = "WyIyMDI2LTAxLTMxVDEyOjAwOjAwKzAwOjAwIiwgIjliNWMxYzFlLTVhMGYtNGI1NS04YTUzLTBhOWE1ZDFmNmMxMCJd"
# A job behind an earlier one of its chat is `waiting` outside.
JobStateShown = Literal["waiting", "delayed", "active", "completed", "failed", "cancelled"]


class Shape(BaseModel):
    """An answer with these members and no others."""

    model_config = ConfigDict(extra="forbid")


class GrowingShape(BaseModel):
    """An answer that may have more members in a later version: ignore those that you do not know."""

    model_config = ConfigDict(extra="allow")


class JobSummary(Shape):
    """A job right after it was enqueued; `GET /jobs/{id}` tells the rest."""

    id: str = Field(examples=[f"msg-send-{MESSAGE_ID}"])
    queue: QueueName = Field(examples=["message:send"])
    state: JobStateShown = Field(examples=["waiting"])
    deduplicated: bool = Field(examples=[False], description="true: it was there already, and is the same one")


class ChangedMany(Shape):
    """What a call on many objects did."""

    count: int = Field(examples=[120])
    dry_run: bool = Field(examples=[False], description="true: they were only counted")
    complete: bool = Field(examples=[True], description="false: the call's time was up; calling again does the rest")


NextCursor = Field(examples=[CURSOR], description="give it as `cursor` to read on; null: this was the last page")
