"""The receivers' page: its examples run, and its tables name what the code does."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from shared.domain.webhook_secret import new_secret
from shared.webhooks.client import FailureKind
from shared.webhooks.signing import sign

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text(encoding="utf-8")
BODY = '{"id":"d-1","payload":{"text":"olá"}}'.encode()


def example(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_python_example_accepts_our_signature_and_refuses_another() -> None:
    secret, scope = new_secret(), dict[str, Any]()
    headers = sign([new_secret(), secret], webhook_id="d-1", at=datetime.now(UTC), body=BODY)
    exec(example("python"), scope)

    assert scope["receive"](secret, headers, BODY)["id"] == "d-1"
    with pytest.raises(WebhookVerificationError):
        scope["receive"](new_secret(), headers, BODY)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_node_example_accepts_our_signature_and_refuses_another(tmp_path: Path) -> None:
    secret = new_secret()
    headers = sign([new_secret(), secret], webhook_id="d-1", at=datetime.now(UTC), body=BODY)
    (tmp_path / "receive.cjs").write_text(example("js"), encoding="utf-8")
    script = """
        const { receive } = require("./receive.cjs");
        const [right, wrong, headers, body] = JSON.parse(process.argv[1]);
        const bytes = Buffer.from(body);
        let refused = 0;
        for (const [secret, at] of [[wrong, {}], [right, { "webhook-timestamp": "1" }]])
          try { receive(secret, { ...headers, ...at }, bytes); } catch { refused += 1; }
        console.log(receive(right, headers, bytes).id, refused);
    """
    given = json.dumps([secret, new_secret(), headers, BODY.decode()])

    ran = subprocess.run(["node", "-e", script, given], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert ran.stdout.split() == ["d-1", "2"]


@pytest.mark.skipif(shutil.which("php") is None, reason="PHP is not installed")
def test_the_php_example_accepts_our_signature_and_refuses_another(tmp_path: Path) -> None:
    secret = new_secret()
    headers = sign([new_secret(), secret], webhook_id="d-1", at=datetime.now(UTC), body=BODY)
    (tmp_path / "receive.php").write_text(f"<?php\n{example('php')}", encoding="utf-8")
    script = """
        require "receive.php";
        [$right, $wrong, $headers, $body] = json_decode($argv[1], true);
        $refused = 0;
        $bad = [[$wrong, []], [$right, ["webhook-timestamp" => "1"]], [$right, ["webhook-signature" => "v1"]]];
        foreach ($bad as [$secret, $at])
            try { receive($secret, $at + $headers, $body); } catch (RuntimeException) { $refused += 1; }
        echo receive($right, $headers, $body)["id"], " ", $refused;
    """
    given = json.dumps([secret, new_secret(), headers, BODY.decode()])

    ran = subprocess.run(["php", "-r", script, given], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert ran.stdout.split() == ["d-1", "3"], ran.stdout


def test_every_code_of_a_failed_attempt_is_explained() -> None:
    for code in [*FailureKind, "WEBHOOK_REFUSED", "WEBHOOK_REDIRECTED", "WEBHOOK_GONE"]:
        assert f"| `{code}` |" in PAGE


def test_the_example_body_is_one_line_of_the_frozen_form() -> None:
    [line] = [line for line in PAGE.splitlines() if line.startswith('{"id"')]

    assert list(json.loads(line)) == ["id", "event", "sessionId", "externalId", "sequence", "timestamp", "payload"]
