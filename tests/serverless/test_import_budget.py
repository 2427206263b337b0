"""What each function loads before its first invocation: nothing of another role, and not more than its budget."""

import pytest

from local.cold_start import measure
from local.packaging.roles import ROLES
from shared.queues import bells

_HANDLERS = [(role, handler) for role, chosen in ROLES.items() for handler in chosen.handlers]
# Modules, Python's own included. Beyond these somebody asks what the new ones are good for.
_BUDGET = {"functions": 1000, "api": 1150}
# What is for another process, for a transport that AWS has not, or for what this invocation may never do.
_NEVER = frozenset(
    {
        "boto3",
        "local",
        "moto",
        "neonize",
        "obstore",
        "PIL",
        "redis",
        "segno",
        "session_host",
        "taskiq_redis",
        "uvicorn",
        "uvloop",
    }
)
_NOT_HERE = {
    "functions": frozenset({"api", "fastapi", "mangum", "starlette"}),
    "api": frozenset({"functions", "taskiq"}),
}


@pytest.mark.parametrize(("role", "handler"), _HANDLERS, ids=[handler for _, handler in _HANDLERS])
def test_a_function_loads_what_it_needs_and_no_more(role: str, handler: str) -> None:
    start = measure(role, handler)

    assert start.packages & (_NEVER | _NOT_HERE[role]) == set()
    assert len(start.modules) <= _BUDGET[role], f"{len(start.modules)} modules"
    # While the container is initialised it has a whole CPU, an invocation has a third of one.
    assert "shared.queues.sqs_bell" in start.modules
    if role == "functions":
        others = {other.rpartition(".")[0] for _, other in _HANDLERS} - {handler.rpartition(".")[0]}
        assert handler.startswith("functions.sweeper") or not start.modules & others


def test_a_process_that_is_no_lambda_loads_its_transport_when_it_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(bells, "import_module", loaded.append)

    bells.load_ahead()

    assert loaded == []
