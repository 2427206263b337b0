"""A part of `./zh up --lambda`: `python -m local.lambda_runtime functions`, or `… api --host H --port P`.

`functions` are the seven queues' and the sweeper, started by SQS and by the minute; `api` is the API behind its door.
"""

import argparse
import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog
import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import web

from local.environment import CHECKOUT, inherited
from local.lambda_runtime import door
from local.lambda_runtime.environment import InvocationFailed, Spec
from local.lambda_runtime.function import Function
from local.lambda_runtime.mapping import Mapping
from local.queue_table import table
from shared import presence
from shared.domain.jobs import QueueName
from shared.log import configure
from shared.settings import Settings, load

_EVERY_S: Final = 60.0
_API_AT_ONCE: Final = 8
# More environments of one queue than this help nobody on one machine.
_AT_ONCE: Final = 2

log = structlog.get_logger(__name__)


def spec(entry: dict[str, Any]) -> Spec:
    """A function of the table, from this checkout, with AWS's own runtime client and our environment."""
    handler = entry["handler"]
    environment = {
        **inherited(),
        "PYTHONPATH": str(CHECKOUT),
        "LAMBDA_TASK_ROOT": str(CHECKOUT),
        "_HANDLER": handler,
        "AWS_REGION": "us-east-1",
        # A container serves one invocation at a time.
        "ZAPHUB_DB_POOL_SIZE": "5",
    }
    command = [sys.executable, "-m", "awslambdaric", handler]
    return Spec(name=entry["name"], command=command, timeout_s=entry["function_timeout_s"], environment=environment)


async def _functions(settings: Settings) -> None:
    async with AsyncExitStack() as opened:
        client = await opened.enter_async_context(_sqs(settings))
        policies = table()
        async with asyncio.TaskGroup() as group:
            for queue in policies["queues"]:
                function = Function(spec(queue), most_at_once=_AT_ONCE)
                opened.push_async_callback(function.close)
                url = settings.sqs_queue_urls[QueueName(queue["queue"])]
                group.create_task(Mapping(client, url=url, function=function, most_at_once=_AT_ONCE).run())
            sweeper = Function(spec(policies["sweeper"]), most_at_once=1)
            opened.push_async_callback(sweeper.close)
            group.create_task(_by_the_minute(sweeper))
            presence.announce(settings.run_dir, settings.part or "lambda")


async def _by_the_minute(sweeper: Function) -> None:
    """As EventBridge does, and once at the start."""
    while True:
        try:
            await sweeper.invoke({"source": "aws.scheduler"})
        except InvocationFailed as failure:
            log.error("invocation_failed", function="sweeper", error=failure.kind, detail=failure.detail)  # noqa: TRY400 - the function's fault, not ours
        await asyncio.sleep(_EVERY_S)


def _sqs(settings: Settings) -> Any:  # noqa: ANN401 - made at run time, without types
    url = settings.sqs_queue_urls[QueueName.MESSAGE_SEND]
    config = AioConfig(max_pool_connections=100)
    endpoint = url.rpartition("/")[0].rpartition("/")[0]
    return get_session().create_client("sqs", region_name="us-east-1", endpoint_url=endpoint, config=config)


async def _api(settings: Settings, *, host: str, port: int) -> None:
    function = Function(spec(table()["api"]), most_at_once=_API_AT_ONCE)
    runner = web.AppRunner(door.app(function), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        presence.announce(settings.run_dir, settings.part or "api")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
        await function.close()


async def _main(options: argparse.Namespace) -> None:
    settings = load()
    configure(level=settings.log_level, fmt=settings.log_format)
    presence.die_with_parent()
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    try:
        if options.part == "api":
            await _api(settings, host=options.host, port=options.port)
        else:
            await _functions(settings)
    except asyncio.CancelledError:
        log.info("lambda_stopped", part=options.part)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="local.lambda_runtime")
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("functions")
    api = parts.add_parser("api")
    api.add_argument("--host", required=True)
    api.add_argument("--port", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(_main(_options()))
