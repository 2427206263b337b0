"""Terraform, serverless.yml and the docs say what the one table of policies says."""

import importlib
import json
import re
from pathlib import Path

import pytest

from local import queue_table, serverless_yml
from shared.queues.policies import POLICIES
from shared.settings import Settings

_TABLE = json.loads(queue_table.PATH.read_text(encoding="utf-8"))
_QUEUES = _TABLE["queues"]
_TERRAFORM = queue_table.PATH.parent / "terraform"


@pytest.mark.parametrize("path", queue_table.files(), ids=lambda path: path.name)
def test_a_file_is_what_the_policies_say(path: Path) -> None:
    is_current = path.read_text(encoding="utf-8") == queue_table.files()[path]

    assert is_current, f"{path.name} is old: run `python -m local.queue_table`"


def test_terraform_takes_every_number_of_a_queue_from_the_table() -> None:
    stack = (_TERRAFORM / "modules" / "stack" / "main.tf").read_text(encoding="utf-8")

    # `queue` and `queues` are the loops over the table, `name` is their key.
    read = set(re.findall(r"(?:each\.value|queue)\.(\w+)", stack))
    assert read >= {name for entry in _QUEUES for name in entry} - {"name"}
    for one in ("sweeper", "api"):
        assert set(re.findall(rf"local\.{one}\.(\w+)", stack)) >= _TABLE[one].keys() - {"name"}
    literals = re.findall(
        r"(?:timeout_seconds|memory_mb|max_concurrency|batch_size|handler|schedule) *= *([\d\"].*)", stack
    )
    assert literals == []


def test_every_variable_that_aws_sets_is_a_setting() -> None:
    texts = [path.read_text(encoding="utf-8") for path in [*_TERRAFORM.rglob("*.tf"), serverless_yml.PATH]]

    named = {name for text in texts for name in re.findall(r"\bZAPHUB_([A-Z_]+)\b", text)}

    assert {"SECRETS_ARN", "DATABASE_URL", "TRANSPORT"} <= named
    assert {name.lower() for name in named} - Settings.model_fields.keys() == set()


def test_every_queue_has_its_entry() -> None:
    assert {entry["queue"] for entry in _QUEUES} == {str(queue) for queue in POLICIES}


@pytest.mark.parametrize("entry", _QUEUES, ids=lambda entry: entry["name"])
def test_an_entry_names_a_handler_and_times_that_aws_accepts(entry: dict[str, object]) -> None:
    module, _, name = str(entry["handler"]).rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
    timeout, visibility, most = entry["function_timeout_s"], entry["visibility_timeout_s"], entry["max_concurrency"]
    assert isinstance(timeout, int)
    assert isinstance(visibility, int)
    assert isinstance(most, int)
    assert timeout <= 900
    assert visibility >= 6 * timeout
    assert most >= 2
    assert 1 <= int(str(entry["batch_size"])) <= 10
