"""Which objects a call on many of them means: at least one condition, unknown ones refused."""

from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import Field, StrictBool, model_validator

from api.inputs import Input, JsonObject, Name, Recipient, Time
from shared.db.message_bulk import MessageFilter
from shared.domain.message import CANCELABLE, MessageStatus

_EMPTY: Final = "must have at least one condition; to mean every message, give `created_before` with the time of now"
# A message in doubt may have left, so it is sent again only by whoever names that status.
_RETRIED: Final = frozenset({MessageStatus.FAILED, MessageStatus.DLQ})


class _Conditions(Input):
    """All that are given must hold; null is not given."""

    connection_id: UUID | None = Field(None, description="messages of this connection")
    error_code: Name | None = Field(None, description="whose `error.code` is this")
    jid: Recipient | None = Field(None, description="to this chat: a phone number with country code, or a JID")
    created_after: Time | None = Field(None, description="accepted at this time or later")
    created_before: Time | None = Field(None, description="accepted before this time")
    metadata: Annotated[JsonObject, Field(min_length=1)] | None = Field(
        None, description='whose metadata contain this, such as {"campaign": "spring"}'
    )

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError(_EMPTY)
        return self

    def wanted(self) -> MessageFilter:
        return MessageFilter(
            connection_id=self.connection_id,
            error_code=self.error_code,
            jid=None if self.jid is None else str(self.jid),
            created_after=self.created_after,
            created_before=self.created_before,
            metadata=self.metadata,
        )


class _CancelFilter(_Conditions):
    status: Literal[MessageStatus.SCHEDULED, MessageStatus.QUEUED, MessageStatus.FAILED] | None = Field(
        None, description="only these; without it all three"
    )


class _RetryFilter(_Conditions):
    status: Literal[MessageStatus.FAILED, MessageStatus.DLQ, MessageStatus.UNKNOWN] | None = Field(
        None, description="only these; without it failed and dlq, as one in doubt may have left"
    )


class CancelMessages(Input):
    """Take back every message that the filter means and that has not left."""

    filter: _CancelFilter
    dry_run: StrictBool = Field(default=False, description="only count them")

    def statuses(self) -> frozenset[MessageStatus]:
        return CANCELABLE if self.filter.status is None else frozenset({self.filter.status})


class RetryMessages(Input):
    """Send every message that the filter means once more."""

    filter: _RetryFilter
    dry_run: StrictBool = Field(default=False, description="only count them")

    def statuses(self) -> frozenset[MessageStatus]:
        return _RETRIED if self.filter.status is None else frozenset({self.filter.status})


def count_shown(count: int, *, dry_run: bool, complete: bool = True) -> dict[str, Any]:
    """What a call on many objects answers; `complete` false: its time was up, and calling again does the rest."""
    return {"count": count, "dry_run": dry_run, "complete": complete}
