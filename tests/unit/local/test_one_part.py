"""What a part that is started alone gets of a running `./zh up`."""

import json
from pathlib import Path

import pytest

from local import sqs_address
from local.data_dir import DataDir
from local.one_part import joined_environment

RUNNING = {"database_url": "postgresql://zaphub@/zaphub?host=/x", "fake_whatsapp_url": None}


def _joined(root: Path, monkeypatch: pytest.MonkeyPatch, **running: object) -> dict[str, str]:
    monkeypatch.chdir(root.parent)
    folder = DataDir(root)
    with folder.claimed():
        folder.ready_file.write_text(json.dumps({**RUNNING, **running}))
        return joined_environment(root)


def test_a_part_joins_the_redis_of_an_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = _joined(tmp_path / "data", monkeypatch, redis_url="unix:///x", transport="redis", sqs_queue_urls={})

    assert environment["ZAPHUB_REDIS_URL"] == "unix:///x"
    assert environment["ZAPHUB_TRANSPORT"] == "redis"
    assert environment["ZAPHUB_DATABASE_URL"] == RUNNING["database_url"]


def test_a_part_joins_the_sqs_of_an_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = sqs_address.urls(20_000)

    environment = _joined(tmp_path / "data", monkeypatch, redis_url=None, transport="sqs", sqs_queue_urls=urls)

    assert environment["ZAPHUB_TRANSPORT"] == "sqs"
    assert json.loads(environment["ZAPHUB_SQS_QUEUE_URLS"]) == urls
    assert environment["AWS_ACCESS_KEY_ID"] == "local"


def test_what_is_set_wins_over_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAPHUB_REDIS_URL", "redis://mine")

    environment = _joined(tmp_path / "data", monkeypatch, redis_url="unix:///x", transport="redis", sqs_queue_urls={})

    assert environment["ZAPHUB_REDIS_URL"] == "redis://mine"
