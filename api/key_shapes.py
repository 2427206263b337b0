"""API keys as clients see them, and what they send to change one: models for the OpenAPI document."""

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import Field, model_validator

from api.inputs import MAX_BATCH, Input, Label, Time
from api.shapes import CONNECTION_ID, TIME, NextCursor, Shape
from shared.db.api_keys import Scope


class PatchApiKey(Input):
    """What is given replaces what was there."""

    name: Label | None = None
    scopes: list[Scope] | None = Field(None, min_length=1, max_length=len(Scope))
    connection_ids: list[UUID] | None = Field(
        None, min_length=1, max_length=MAX_BATCH, description="null: every connection"
    )
    expires_at: Time | None = Field(None, description="null: never")

    @model_validator(mode="after")
    def _keeps_what_must_be(self) -> Self:
        for name in ("name", "scopes"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} must not be null")
        return self

    def changes(self) -> dict[str, Any]:
        """By name, what was given."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


class ApiKey(Shape):
    """A key, without what only its holder knows."""

    id: UUID = Field(examples=["7d9f0b52-2c39-4b0e-8f53-9d5e1a3c4f10"])
    name: str = Field(examples=["CRM"])
    hint: str = Field(examples=["zh_Jb2VV"], description="the first characters of the key")
    scopes: list[str] = Field(examples=[["messages:write"]])
    connection_ids: list[UUID] | None = Field(examples=[[CONNECTION_ID]], description="null: every connection")
    created_at: datetime = Field(examples=[TIME])
    expires_at: datetime | None = Field(examples=[None], description="null: never")
    revoked_at: datetime | None = Field(examples=[None])
    last_used_at: datetime | None = Field(examples=[TIME], description="to the minute")


class NewApiKey(ApiKey):
    """As it is shown once, right after it was made."""

    key: str = Field(examples=["zh_Jb2VVSBtKcFqHQ6qM4pZ0u4gBvQ8yHk8sF3n1xTq0aY"], description="shown this once")


class ApiKeyPage(Shape):
    data: list[ApiKey]
    next_cursor: str | None = NextCursor
