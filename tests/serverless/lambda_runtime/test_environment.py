"""The local Lambda does what AWS does: AWS's own runtime client runs in it, frozen between two invocations."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from local.environment import inherited
from local.lambda_runtime.environment import InvocationFailed, Spec
from local.lambda_runtime.function import Function

_HERE = str(Path(__file__).parent)
_PROBE = "probe.handler"


@asynccontextmanager
async def _function(handler: str = _PROBE, *, timeout_s: float = 30, most_at_once: int = 2) -> AsyncIterator[Function]:
    environment = {**inherited(), "PYTHONPATH": _HERE, "LAMBDA_TASK_ROOT": _HERE, "_HANDLER": handler}
    command = [sys.executable, "-m", "awslambdaric", handler]
    function = Function(
        Spec(name="probe", command=command, timeout_s=timeout_s, environment=environment), most_at_once=most_at_once
    )
    try:
        yield function
    finally:
        await function.close()


def _state(pid: int) -> str:
    """Linux's letter for a process: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


async def test_an_environment_serves_again_and_is_frozen_in_between() -> None:
    async with _function() as function:
        first = await function.invoke({})
        [environment] = function.environments
        assert _state(environment.pid) == "T"
        # Time passes for us; were the process not frozen, its thread would have counted on.
        await asyncio.sleep(0.5)
        second = await function.invoke({})

        assert (second["pid"], second["calls"], function.cold_starts) == (first["pid"], 2, 1)
        assert second["ticks"] - first["ticks"] < 25
        assert 0 < second["left_ms"] <= 30_000
        assert second["name"] == "probe"


async def test_invocations_at_once_have_environments_of_their_own() -> None:
    async with _function() as function:
        answers = await asyncio.gather(*(function.invoke({}) for _ in range(4)))

        assert len({answer["pid"] for answer in answers}) == function.cold_starts == 2


async def test_an_error_is_told_and_the_environment_lives_on() -> None:
    async with _function() as function:
        before = await function.invoke({})
        with pytest.raises(InvocationFailed, match="ValueError: as told"):
            await function.invoke({"do": "raise"})

        assert (await function.invoke({}))["pid"] == before["pid"]


async def test_a_process_that_ends_is_replaced() -> None:
    async with _function() as function:
        with pytest.raises(InvocationFailed, match=r"Runtime\.ExitError: exit status 3"):
            await function.invoke({"do": "exit"})
        await function.invoke({})

        assert function.cold_starts == 2


async def test_an_invocation_that_takes_too_long_ends_with_its_environment() -> None:
    async with _function(timeout_s=1.5) as function:
        before = await function.invoke({})
        with pytest.raises(InvocationFailed, match=r"Sandbox\.Timedout: Task timed out after 1\.50 seconds"):
            await function.invoke({"do": "hang"})

        assert (await function.invoke({}))["pid"] != before["pid"]


async def test_a_frozen_environment_that_was_killed_is_replaced() -> None:
    async with _function() as function:
        await function.invoke({})
        [environment] = function.environments
        environment._signal(signal.SIGKILL)
        assert environment._process is not None
        await environment._process.wait()

        await function.invoke({})
        assert function.cold_starts == 2


async def test_a_module_that_cannot_be_imported_says_so() -> None:
    async with _function("broken.handler") as function:
        with pytest.raises(InvocationFailed, match=r"Runtime\.InitError: .*broken on purpose"):
            await function.invoke({})
        assert function.environments == []


async def test_nothing_is_left_behind() -> None:
    async with _function() as function:
        await function.invoke({})
        [environment] = function.environments
        pid = environment.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
