"""The API as a Lambda: one start per container, many requests."""

import asyncio
import json
import os
import subprocess
import sys
from asyncio.subprocess import PIPE
from typing import Any

from shared.db.pool import connect
from tests.integration.api.conftest import ADMIN_KEY

_CONTAINER = """
import json, sys
from api import lambda_handler
lambda_handler._RESTED_S = 0
for line in sys.stdin:
    print("ANSWER", json.dumps(lambda_handler.handler(json.loads(line), None)), flush=True)
"""


def _event(method: str, path: str, body: str | None = None) -> dict[str, Any]:
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"},
        "requestContext": {"http": {"method": method, "path": path, "sourceIp": "192.0.2.1", "protocol": "HTTP/1.1"}},
        "body": body,
        "isBase64Encoded": False,
    }


def _environment(database_url: str) -> dict[str, str]:
    return {
        **os.environ,  # noqa: TID251 - the child runs in ours
        "ZAPHUB_DATABASE_URL": database_url,
        "ZAPHUB_TRANSPORT": "memory",
        "ZAPHUB_ADMIN_KEY": ADMIN_KEY,
        "ZAPHUB_SECRET_KEY": "secret-key-of-the-tests",
    }


def test_one_start_serves_every_request_of_a_container(database_url: str) -> None:
    events = [
        _event("POST", "/connections", '{"label": "a"}'),
        _event("GET", "/connections"),
        _event("POST", "/connections", "{"),
    ]

    done = subprocess.run(
        [sys.executable, "-c", _CONTAINER],
        input="\n".join(json.dumps(event) for event in events),
        env=_environment(database_url),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    answers = [json.loads(line.removeprefix("ANSWER ")) for line in done.stdout.splitlines() if line[:6] == "ANSWER"]
    assert [answer["statusCode"] for answer in answers] == [202, 200, 400]
    assert len(json.loads(answers[1]["body"])["data"]) == 1
    assert done.stdout.count('"api_started"') == 1


async def test_connections_that_died_while_a_container_was_frozen_cost_no_request(database_url: str) -> None:
    container = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CONTAINER, stdin=PIPE, stdout=PIPE, env=_environment(database_url)
    )
    assert container.stdin is not None
    assert container.stdout is not None

    async def status() -> int:
        container.stdin.write(json.dumps(_event("GET", "/connections")).encode() + b"\n")
        async with asyncio.timeout(60):
            while not (line := await container.stdout.readline()).startswith(b"ANSWER "):
                assert line, "the container ended"
        answered: int = json.loads(line.removeprefix(b"ANSWER "))["statusCode"]
        return answered

    async with connect(database_url) as connection:
        before = await status()
        ended = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        after = await status()
    container.stdin.close()
    await container.wait()

    assert ended
    assert (before, after) == (200, 200)
