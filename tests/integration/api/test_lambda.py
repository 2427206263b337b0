"""The API as a Lambda: one start per container, many requests."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.integration.api.conftest import ADMIN_KEY

_CONTAINER = """
import json, sys
from api.lambda_handler import handler
for line in sys.stdin:
    print("ANSWER", json.dumps(handler(json.loads(line), None)), flush=True)
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


def test_one_start_serves_every_request_of_a_container(database_url: str) -> None:
    events = [
        _event("POST", "/connections", '{"label": "a"}'),
        _event("GET", "/connections"),
        _event("POST", "/connections", "{"),
    ]
    environment = {
        **os.environ,  # noqa: TID251 - the child runs in ours
        "ZAPHUB_DATABASE_URL": database_url,
        "ZAPHUB_TRANSPORT": "memory",
        "ZAPHUB_ADMIN_KEY": ADMIN_KEY,
        "ZAPHUB_SECRET_KEY": "secret-key-of-the-tests",
    }

    done = subprocess.run(
        [sys.executable, "-c", _CONTAINER],
        input="\n".join(json.dumps(event) for event in events),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    answers = [json.loads(line.removeprefix("ANSWER ")) for line in done.stdout.splitlines() if line[:6] == "ANSWER"]
    assert [answer["statusCode"] for answer in answers] == [202, 200, 400]
    assert len(json.loads(answers[1]["body"])["data"]) == 1
    assert done.stdout.count('"api_started"') == 1
