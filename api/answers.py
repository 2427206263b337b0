"""Answers as JSON: what every route returns, built without FastAPI's second pass over values that are JSON already."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from fastapi import Response

from shared.domain.jobs import Enqueued, JobState, QueueName


@dataclass(frozen=True, slots=True)
class Ready:
    """A value that is JSON already, such as an object from Postgres: what is not parsed need not be built again."""

    text: str


def answer(
    body: Mapping[str, Any], *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer; times become RFC 3339 in UTC, ids text. Its members may be `Ready`."""
    return Response(object_of(body).text, status_code=status, headers=headers, media_type="application/json")


def object_of(members: Mapping[str, Any]) -> Ready:
    """A JSON object; what is `Ready` among its members goes in as it is."""
    inside = ",".join(f"{_encode(name)}:{_text(value)}" for name, value in members.items())
    return Ready(f"{{{inside}}}")


def list_of(items: Sequence[Any]) -> Ready:
    """A JSON list; what is `Ready` among its items goes in as it is."""
    return Ready(f"[{','.join(map(_text, items))}]")


def accepted(body: Mapping[str, Any]) -> Response:
    return answer(body, status=HTTPStatus.ACCEPTED)


def job_summary(job: Enqueued, *, queue: QueueName) -> dict[str, Any]:
    """A job right after it was enqueued; `GET /jobs/{id}` tells the rest."""
    return {
        "id": job.job_id,
        "queue": queue.value,
        "state": state_shown(job.state).value,
        "deduplicated": job.deduplicated,
    }


def state_shown(state: JobState) -> JobState:
    """A job behind an earlier one of its chat waits, as far as anybody outside is concerned."""
    return JobState.WAITING if state is JobState.BLOCKED else state


def time_shown(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: object) -> str:
    return value.text if isinstance(value, Ready) else _encode(value)


def _plain(value: object) -> str:
    match value:
        case datetime():
            return time_shown(value)
        case UUID():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode
