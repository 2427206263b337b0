"""`infra/queues.json` is the image of the one table of policies."""

import importlib
import json

import pytest

from local import queue_table
from shared.queues.policies import POLICIES

_QUEUES = json.loads(queue_table.PATH.read_text(encoding="utf-8"))["queues"]


def test_the_file_is_what_the_policies_say() -> None:
    assert queue_table.PATH.read_text(encoding="utf-8") == queue_table.text(), "run `python -m local.queue_table`"


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
