"""The least that a FastAPI service can do with a message: check it, INSERT it, answer 202.

`uvicorn local.bench.bare_fastapi:app`, with the database's URL in BENCH_DATABASE_URL.
"""

# ruff: noqa: TID251 - the bench's own variable

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID, uuid4

from fastapi import FastAPI, Request
from pydantic import BaseModel

from shared.db.pool import open_pool

_TABLE: Final = (
    "CREATE TABLE messages (id uuid PRIMARY KEY, session_id uuid NOT NULL, jid text NOT NULL, type text NOT NULL,"
    " payload jsonb NOT NULL, status text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())"
)
_INSERT: Final = (
    "INSERT INTO messages (id, session_id, jid, type, payload, status) VALUES ($1, $2, $3, $4, $5, 'queued')"
)


class Message(BaseModel):
    """What a client sends."""

    to: str
    type: str
    payload: dict[str, Any]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with await open_pool(os.environ["BENCH_DATABASE_URL"], max_size=10) as pool:
        await pool.execute(_TABLE)
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.post("/connections/{session_id}/send", status_code=202)
async def send(session_id: UUID, message: Message, request: Request) -> dict[str, Any]:
    """Store it."""
    message_id = uuid4()
    await request.app.state.pool.execute(_INSERT, message_id, session_id, message.to, message.type, message.payload)
    return {"id": str(message_id), "status": "queued", **json.loads(message.model_dump_json())}
