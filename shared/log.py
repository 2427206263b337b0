"""Set up logging: JSON lines with the seed's keys, or coloured lines for people; libraries' lines go the same way.

Keys: `level`, `time` (milliseconds), `msg`, then `sessionId`, `messageDbId`, `waMessageId`, `jobId`, `queue` and the
event's fields. Code says `session_id=…`; the last processor gives the seed's spelling.

A worker writes a line per job, so JSON lines go straight to the stream: the way through the standard library's logging
costs four times as much. What is written as often as that is a `Form`, which costs a third of what is left.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
        self.write(line + "\n")

    def write(self, lines: str) -> None:
        try:
            sys.stdout.write(lines)
            sys.stdout.flush()
        except (OSError, ValueError):
            return  # whoever read it is gone; no work fails for that

    debug = info = warning = error = critical = msg


_lines: Final = _Lines()
_encode: Final = json.JSONEncoder(default=repr).encode


def _json_line(logger: Any, method: str, event: EventDict) -> str:  # noqa: ANN401 - structlog's signature
    return _encode(_seed_names(logger, method, event))


def _to_lines(*_: Any) -> _Lines:  # noqa: ANN401 - structlog's signature
    return _lines


# How the values of most fields are written; of all others `_encode` knows.
_PLAIN: Final[Mapping[type, Callable[[Any], str]]] = {
    str: json.encoder.encode_basestring_ascii,
    int: int.__repr__,
    float: float.__repr__,
    type(None): lambda _: "null",
}


class Form:
    """An event of level info that always has the same fields, for what is written a thousand times a second.

    Its lines are those of `log.info(event, **fields)`, except that nothing which was bound is on them. Raises
    ValueError for a field that would be redacted.
    """

    def __init__(self, event: str, *names: str) -> None:
        if secret := _SECRET_KEYS.intersection(names):
            raise ValueError(f"{sorted(secret)} are never written")
        self._event = event
        self.names = names
        self._wrapper_class: object = None
        self._is_written = False
        keys = ", ".join(f"{_encode(_SEED_KEYS.get(name, name))}: %s" for name in names)
        self._line = f'{{"level": "info", "time": %d, "msg": {_encode(event)}, {keys}}}\n'

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """A line for each row, which has a value for each field in their order, if lines of level info are written."""
        config = structlog.get_config()
        if config["wrapper_class"] is not self._wrapper_class:  # which stands for a level
            self._wrapper_class = config["wrapper_class"]
            self._is_written = structlog.get_logger().is_enabled_for(logging.INFO)
        if not rows or not self._is_written:
            return
        if config["logger_factory"] is not _to_lines:
            log = structlog.get_logger()
            for row in rows:
                log.info(self._event, **dict(zip(self.names, row, strict=True)))
            return
        now_ms = int(time.time() * 1000)
        _lines.write(
            "".join(
                [self._line % (now_ms, *[_PLAIN.get(type(value), _encode)(value) for value in row]) for row in rows]
            )
        )


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
        logger_factory=_to_lines if is_json else structlog.stdlib.LoggerFactory(),
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
