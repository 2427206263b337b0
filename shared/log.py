"""Set up logging: JSON lines with the seed's keys, or coloured lines for people; libraries' lines go the same way.

Keys: `level`, `time` (milliseconds), `msg`, then `sessionId`, `messageDbId`, `waMessageId`, `jobId`, `queue` and the
event's fields. Code says `session_id=…`; the last processor gives the seed's spelling.
"""

import logging
import sys
import time
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

_SEED_KEYS: Final = {
    "session_id": "sessionId",
    "message_id": "messageDbId",
    "wa_message_id": "waMessageId",
    "job_id": "jobId",
}
# Never written, whoever passes them.
_SECRET_KEYS: Final = frozenset(
    {"text", "body", "payload", "qr", "qr_code", "pair_code", "key", "token", "secret"}
    | {"authorization", "phone", "jid", "to"}
)


def _seed_names(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401 - structlog's signature
    line: dict[str, Any] = {
        "level": event.pop("level", "info"),
        "time": int(time.time() * 1000),
        "msg": event.pop("event", ""),
    }
    for name, value in event.items():
        line[_SEED_KEYS.get(name, name)] = "[redacted]" if name in _SECRET_KEYS else value
    return line


def configure(*, level: str, fmt: str) -> None:
    """Send every log line, ours and the libraries', to standard output in one format; again, and it is replaced."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
    ]
    render: list[Processor] = (
        [_seed_names, structlog.processors.JSONRenderer()]
        if fmt == "json"
        else [structlog.processors.TimeStamper(fmt="%H:%M:%S"), structlog.dev.ConsoleRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()  # noqa: TID251 - this module is where the standard library's logging is set up
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "taskiq", "uvicorn.access", "asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel("WARNING")  # noqa: TID251 - as above
