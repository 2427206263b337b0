"""Connections and their pairing as clients see them: models for the OpenAPI document."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from api.shapes import CONNECTION_ID, TIME, GrowingShape, JobSummary, NextCursor, Shape
from shared.domain.session import SessionStatus


class ShownConfig(GrowingShape):
    """What was set, in the words of ConnectionConfig: what is left out has its default.

    A proxy's password is shown as `***`. A name that this version does not know was set with another one.
    """


class Connection(GrowingShape):
    """A WhatsApp number that is linked, or is to be."""

    id: UUID = Field(examples=[CONNECTION_ID])
    label: str = Field(examples=["Shop"])
    external_id: str | None = Field(examples=["customer-42"])
    status: SessionStatus = Field(examples=["connected"])
    status_reason: str | None = Field(examples=[None], description="why it has this status, where that is known")
    paused: bool = Field(examples=[False], description="its sends wait by request; it stays online")
    phone: str | None = Field(examples=["5511987654321"], description="of the phone that is linked")
    jid: str | None = Field(examples=["5511987654321@s.whatsapp.net"])
    push_name: str | None = Field(examples=["Shop"])
    config: ShownConfig = Field(examples=[{"send_rate_per_minute": 30}])
    metadata: dict[str, Any] = Field(examples=[{"team": "sales"}])
    webhook_url: str | None = Field(examples=["https://example.com/zaphub"])
    host: str | None = Field(examples=["host-1-0"], description="the session host that has it now")
    created_at: datetime = Field(examples=[TIME])
    updated_at: datetime = Field(examples=[TIME])
    connected_at: datetime | None = Field(examples=[TIME], description="when it was last connected")


class Line(Shape):
    """A connection's line of sends."""

    waiting: int = Field(examples=[12], description="messages that wait; 100000: so many or more")
    paused_reasons: list[str] = Field(examples=[[]], description="empty: the line moves")
    rate_per_minute: int = Field(examples=[80], description="0: no limit")
    estimated_empty_at: datetime | None = Field(examples=[TIME], description="when the last of them is likely to start")


class ConnectionDetail(Connection):
    """A connection with its line of sends."""

    sending: Line


class ConnectionPage(Shape):
    data: list[Connection]
    next_cursor: str | None = NextCursor


class PatchedConnection(Connection):
    """A connection after a change."""

    webhook_secret: str | None = Field(
        None,
        examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDpU2RtPDYnXs="],
        description="shown once, when it was made",
    )


class ConnectionChanged(Shape):
    """A connection after a call, and the job that does the rest."""

    connection: Connection
    job: JobSummary | None = Field(None, description="absent when there is nothing left to do")
    deduplicated: bool | None = Field(None, examples=[False], description="true: the same was under way already")
    webhook_secret: str | None = Field(
        None,
        examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDpU2RtPDYnXs="],
        description="shown once, when it was made",
    )


class ProxyTest(Shape):
    """What came of asking WhatsApp through the connection's proxy."""

    proxy: str | None = Field(examples=["socks5://user:***@proxy.example.com:1080"], description="null: it has none")
    reachable: bool = Field(examples=[True], description="WhatsApp answered, with its own certificate")
    duration_ms: int = Field(examples=[412], description="from the first step to the answer, or to the failure")
    trouble: str | None = Field(examples=[None], description="why it was not reached")


class QrCode(Shape):
    """What the phone scans. Whoever sees it can take the account: show it to nobody else."""

    code: str = Field(examples=["2@Yk3…"], description="the text in the picture")
    png_base64: str = Field(examples=["iVBORw0KGgo="])
    expires_at: datetime = Field(examples=[TIME])
    attempt: int = Field(examples=[1], description="the how many-th code of this opening it is")


class PairCodeShown(Shape):
    code: str = Field(examples=["ABCD-1234"], description="to be typed on the phone")
    expires_at: datetime = Field(examples=[TIME])
