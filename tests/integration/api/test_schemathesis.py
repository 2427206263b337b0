"""The API asked what its document allows, and much that it does not: no fault, and no answer that is not documented."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.api.conftest import ADMIN_KEY
from tests.integration.api.test_server import Server, serving

_KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}
_EXAMPLES = 2  # of each kind for each call, beside those that cover the document; the run takes a minute
_SEED = 20260131
# Limits have tests of their own; here they would hide what is behind them.
_UNLIMITED = {"api_rate_per_minute": "0", "api_auth_failures_per_minute": "0"}
# It never ends; its own tests read it.
_ENDLESS = "stream_events"
# No session host runs here: the one call that needs one, whatever the connection's state, answers its documented 503.
_CONFIG = """
[checks]
enabled = false
not_a_server_error.enabled = true
status_code_conformance.enabled = true
content_type_conformance.enabled = true
response_headers_conformance.enabled = true
response_schema_conformance.enabled = true
missing_required_header.enabled = true
unsupported_method.enabled = true
negative_data_rejection.enabled = true

[[operations]]
include-operation-id = "try_proxy"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
"""


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[Server]:
    with serving(database_url, tmp_path, log_level="warning", **_UNLIMITED) as server:
        yield server


@pytest.mark.timeout(300)
def test_no_request_is_a_fault_and_every_answer_is_documented(server: Server, tmp_path: Path) -> None:
    httpx.post(f"{server.url}/connections", json={"label": "a"}, headers=_KEY).raise_for_status()
    config = tmp_path / "schemathesis.toml"
    config.write_text(_CONFIG, encoding="utf-8")

    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "--config-file", str(config)),
            *("run", f"{server.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {ADMIN_KEY}", "--phases", "examples,coverage,fuzzing"),
            *("--exclude-operation-id", _ENDLESS, "--max-examples", str(_EXAMPLES), "--seed", str(_SEED)),
            *("--no-shrink", "--generation-database", "none"),
            *("--workers", "2", "--request-timeout", "30", "--no-color", "--continue-on-failure"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert "http_request_crashed" not in log, log
