"""Set up logging: JSON lines with the seed's keys, or coloured lines for people; libraries' lines go the same way.

Keys: `level`, `time` (milliseconds), `msg`, then `sessionId`, `messageDbId`, `waMessageId`, `jobId`, `queue` and the
event's fields. Code says `session_id=…`; the last processor gives the seed's spelling.

A worker writes a line per job, so JSON lines go straight to the stream: the way through the standard library's logging
costs four times as much.
"""

import json
import logging
import re
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


# Postgres's own words about a row that it refuses hold the row: texts, phone numbers and all.
_ROW: Final = re.compile(
    r"^(DETAIL|CONTEXT|QUERY):.*?(?=^(?:The above exception was|During handling of the above)|\Z)",
    re.MULTILINE | re.DOTALL,
)


def _without_rows(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401 - structlog's signature
    if "exception" in event:
        event["exception"] = _ROW.sub("[redacted]\n", event["exception"])
    return event


def _seed_names(_logger: Any, _method: str, event: EventDict) -> EventDict:  # noqa: ANN401 - structlog's signature
    line: dict[str, Any] = {
        "level": event.pop("level", "info"),
        "time": int(time.time() * 1000),
        "msg": event.pop("event", ""),
    }
    for name, value in event.items():
        line[_SEED_KEYS.get(name, name)] = "[redacted]" if name in _SECRET_KEYS else value
    return line


class _Lines:
    """Writes whole lines to what is standard output at that moment."""

    def msg(self, line: str) -> None:
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            return  # whoever read it is gone; no work fails for that

    debug = info = warning = error = critical = msg


_lines: Final = _Lines()
_encode: Final = json.JSONEncoder(default=repr).encode


def _json_line(logger: Any, method: str, event: EventDict) -> str:  # noqa: ANN401 - structlog's signature
    return _encode(_seed_names(logger, method, event))


def configure(*, level: str, fmt: str) -> None:
    """Send every log line, ours and the libraries', to standard output in one format; again, and it is replaced."""
    is_json = fmt == "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        _without_rows,
    ]
    render: list[Processor] = (
        [_seed_names, structlog.processors.JSONRenderer()]
        if is_json
        else [structlog.processors.TimeStamper(fmt="%H:%M:%S"), structlog.dev.ConsoleRenderer()]
    )
    structlog.configure(
        processors=[*shared, _json_line if is_json else structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=(lambda *_: _lines) if is_json else structlog.stdlib.LoggerFactory(),
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
    for noisy in ("httpx", "httpcore", "taskiq", "uvicorn.access", "asyncio", "aiohttp.access", "botocore", "mangum"):
        logging.getLogger(noisy).setLevel("WARNING")  # noqa: TID251 - as above
