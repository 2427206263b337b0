"""The OpenAPI document: a client generator takes it whole, and every call says what it wants, answers and refuses."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from pydantic import TypeAdapter

from api.app import create_app
from api.examples import BODIES
from api.inputs import AnySend, Send
from api.openapi import document

_DOCUMENT = document(create_app())
_CALLS = {
    call["operationId"]: (method, path, call)
    for path, calls in _DOCUMENT["paths"].items()
    for method, call in calls.items()
}
_JSON = "application/json"


def _schema(part: dict[str, Any]) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({**part, "components": _DOCUMENT["components"]}, validate_formats=True)


def _answers(call: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((int(status), answer) for status, answer in call["responses"].items())


def test_a_client_generator_takes_all_of_it_and_its_client_can_be_imported(tmp_path: Path) -> None:
    source, made = tmp_path / "openapi.json", tmp_path / "zaphub_client"
    source.write_text(json.dumps(_DOCUMENT), encoding="utf-8")
    generator = Path(sys.executable).with_name("openapi-python-client")

    # Its warnings tell of what it leaves out; with this flag they end it.
    done = subprocess.run(
        [generator, "generate", "--path", source, "--output-path", made, "--meta", "none", "--fail-on-warning"],
        capture_output=True,
        text=True,
        check=False,
        # It tidies up with ruff, which stands beside it.
        env={"PATH": f"{generator.parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr

    calls = [f"zaphub_client.api.{path.parent.name}.{path.stem}" for path in (made / "api").glob("*/[a-z]*.py")]
    assert {name.rpartition(".")[2] for name in calls} == _CALLS.keys()
    importing = "".join(f"import {name}\n" for name in calls)
    subprocess.run([sys.executable, "-c", importing], cwd=tmp_path, check=True)


def test_operation_ids_are_stable() -> None:
    """What clients call: a name here is never changed or taken away."""
    assert {
        *("create_connection", "list_connections", "get_connection", "patch_connection", "delete_connection"),
        *("start_connection", "restart_connection", "stop_connection", "log_out_connection", "pause_connection"),
        *("resume_connection", "show_qr", "show_pair_code", "send", "send_batch", "list_messages", "get_message"),
        *("get_timeline", "retry_message", "cancel_message", "resolve_message", "cancel_messages", "retry_messages"),
        *("list_queues", "get_queue", "list_jobs", "pause_queue", "resume_queue", "clean_queue", "retry_failed"),
        *("pause_queues", "resume_queues", "clean_queues", "clean_up", "get_job", "retry_job", "delete_job"),
        *("create_webhook", "list_webhooks", "get_webhook", "patch_webhook", "delete_webhook"),
        *("rotate_webhook_secret", "enable_webhook", "disable_webhook", "test_webhook", "replay_webhook"),
        *("list_deliveries", "get_delivery", "redeliver", "list_events", "stream_events", "create_event_ticket"),
        *("create_api_key", "list_api_keys", "get_api_key", "patch_api_key", "revoke_api_key"),
        *("healthz", "readyz", "show_metrics"),
    } <= _CALLS.keys()


@pytest.mark.parametrize("name", _CALLS)
def test_every_call_says_what_it_does_answers_and_refuses(name: str) -> None:
    method, path, call = _CALLS[name]

    assert call["summary"], "a line for lists"
    assert call["description"], "a sentence for readers"
    assert len(call["tags"]) == 1
    assert call["tags"][0] in {tag["name"] for tag in _DOCUMENT["tags"]}
    answers = dict(_answers(call))
    good = {status: answer for status, answer in answers.items() if status < 400}
    assert good
    for status, answer in good.items():
        content = answer.get("content", {})
        assert content or status in {204, 304}, f"{status} has no schema"
        assert all(kind["schema"] for kind in content.values()), f"{status} has an empty schema"
    assert {500, 503} <= answers.keys()
    if "{" in path:
        assert 404 in answers
    if call.get("security"):
        assert {401, 403, 429} <= answers.keys()
        assert call["x-required-scope"] in call["description"]
        assert all("RateLimit" in answer["headers"] for status, answer in good.items() if status < 300)
    if "requestBody" in call:
        assert {400, 408, 413, 415, 422} <= answers.keys()
        assert method in {"post", "patch"}
    for status, answer in answers.items():
        if status >= 400:
            assert answer["content"].keys() == {"application/problem+json"}, status
            assert answer["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


@pytest.mark.parametrize("name", _CALLS)
def test_every_example_fits_its_schema(name: str) -> None:
    _, _, call = _CALLS[name]
    body = call.get("requestBody", {}).get("content", {}).get(_JSON)
    if body is not None:
        examples = [one["value"] for one in body.get("examples", {}).values()]
        assert examples, "a body without an example"
        for example in examples:
            _schema(body["schema"]).validate(example)
    for status, answer in _answers(call):
        for kind in answer.get("content", {}).values():
            if "example" in kind:
                _schema(kind["schema"]).validate(kind["example"])
            else:
                assert status < 400, "an error without an example"


def test_every_member_of_an_answer_has_an_example_or_is_made_of_those_that_have() -> None:
    lacking = [
        f"{name}.{member}"
        for name in _shown_models()
        for member, schema in _DOCUMENT["components"]["schemas"][name].get("properties", {}).items()
        if "examples" not in schema and not _is_made_of_others(schema) and schema.get("type") != "boolean"
    ]

    assert not lacking


async def test_the_document_knows_every_member_of_a_message_and_of_a_connection(
    api: httpx.AsyncClient, connection: dict[str, Any]
) -> None:
    path = f"/connections/{connection['id']}"
    said = {"to": "5511987654321", "type": "text", "payload": {"text": "a"}}
    sent = (await api.post(f"{path}/send", json=said)).json()["message"]

    shown = {
        "Message": sent,
        "MessageDetail": (await api.get(f"/messages/{sent['id']}")).json(),
        "Connection": connection,
        "ConnectionDetail": (await api.get(path)).json(),
    }

    for name, one in shown.items():
        assert not one.keys() - _DOCUMENT["components"]["schemas"][name]["properties"].keys(), name


def _shown_models() -> set[str]:
    """The models that answers are made of, found from the calls."""
    found: set[str] = set()
    waiting = [
        kind["schema"]
        for _, _, call in _CALLS.values()
        for _, answer in _answers(call)
        for kind in answer.get("content", {}).values()
    ]
    while waiting:
        for reference in _references(waiting.pop()):
            if reference not in found:
                found.add(reference)
                waiting.append(_DOCUMENT["components"]["schemas"][reference])
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].rsplit("/", 1)[1]
        for one in part.values():
            yield from _references(one)
    elif isinstance(part, list):
        for one in part:
            yield from _references(one)


def _is_made_of_others(schema: dict[str, Any]) -> bool:
    return any(True for _ in _references(schema)) or "const" in schema or "enum" in schema


def test_the_examples_are_of_calls_that_there_are_and_are_taken() -> None:
    parser: TypeAdapter[AnySend] = TypeAdapter(Send)

    assert BODIES.keys() <= _CALLS.keys()
    for example in BODIES["send"].values():
        assert parser.validate_python(example).to
