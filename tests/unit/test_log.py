"""What a log line is made of, and that writing one never harms the work it tells of."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from shared import log


class Written:
    """Standard output since the last look, as lines."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self) -> str:
        return self._capsys.readouterr().out

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """JSON lines of level info, until the end of the test."""
    root = logging.getLogger()  # noqa: TID251 - what `configure` changes
    handlers, level = root.handlers[:], root.level
    log.configure(level="info", fmt="json")
    yield Written(capsys)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_has_the_seeds_keys_first_and_in_its_spelling(written: Written) -> None:
    structlog.get_logger().info("job_ended", job_id="msg-send-1", session_id="s-1", message_id="m-1", attempt=2)

    [line] = written.lines()
    assert list(line) == ["level", "time", "msg", "jobId", "sessionId", "messageDbId", "attempt"]
    assert line | {"time": 0} == {
        "level": "info",
        "time": 0,
        "msg": "job_ended",
        "jobId": "msg-send-1",
        "sessionId": "s-1",
        "messageDbId": "m-1",
        "attempt": 2,
    }


@pytest.mark.parametrize("name", ["text", "payload", "qr_code", "token", "phone", "jid", "to"])
def test_what_is_secret_is_not_written_whoever_passes_it(written: Written, name: str) -> None:
    structlog.get_logger().warning("oops", **{name: "hush"})

    [line] = written.lines()
    assert line[name] == "[redacted]"
    assert "hush" not in str(line)


def test_lines_below_the_level_are_not_written(written: Written) -> None:
    structlog.get_logger().debug("for_developers")

    assert written.lines() == []


def test_a_value_that_is_no_json_is_written_as_python_shows_it(written: Written) -> None:
    structlog.get_logger().info("odd", value={1, 2}.__class__)

    assert written.lines()[0]["value"] == "<class 'set'>"


def test_an_exception_is_one_line_with_its_traceback(written: Written) -> None:
    try:
        json.loads("no json")
    except ValueError:
        structlog.get_logger().exception("job_raised")

    [line] = written.lines()
    assert line["level"] == "error"
    assert "JSONDecodeError: Expecting value" in line["exception"]


def test_what_postgres_says_of_a_row_is_not_written(written: Written) -> None:
    said = "refused\nDETAIL:  Failing row contains (1, hush\n\nhush, 5511987654321).\nCONTEXT:  more of it"

    def refuse() -> None:
        raise ValueError(said)

    try:
        try:
            refuse()
        except ValueError as error:
            raise TypeError("and then this") from error
    except TypeError:
        structlog.get_logger().exception("job_raised")

    [line] = written.lines()
    assert "refused" in line["exception"]
    assert "TypeError: and then this" in line["exception"]
    assert "hush" not in line["exception"]
    assert "5511987654321" not in line["exception"]


def test_what_is_bound_once_is_on_every_line(written: Written) -> None:
    with structlog.contextvars.bound_contextvars(job_id="msg-send-1"):
        structlog.get_logger().info("first")

    assert written.lines()[0]["jobId"] == "msg-send-1"


def test_a_librarys_line_looks_like_ours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # noqa: TID251 - what `configure` changes
    log.configure(level="info", fmt="json")

    logging.getLogger("some.library").warning("hello %s", "there")  # noqa: TID251 - a library's own

    structlog.reset_defaults()
    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["msg"]) == ("warning", "hello there")


def test_a_logger_follows_when_the_output_changes(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = structlog.get_logger()
    logger.info("here")
    elsewhere = io.StringIO()
    monkeypatch.setattr("sys.stdout", elsewhere)

    logger.info("there")

    assert json.loads(elsewhere.getvalue())["msg"] == "there"
    assert [line["msg"] for line in written.lines()] == ["here"]


def test_a_reader_that_is_gone_harms_nobody(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr("sys.stdout", gone)

    structlog.get_logger().info("to_nobody")

    assert written.lines() == []


_ROW = ('msg-send-\u00e9"1', 2, 0.5, None, True, {"a": [1]}, {1, 2}.__class__)
_FIELDS = ("job_id", "attempt", "duration_ms", "session_id", "odd", "more", "type")


def test_a_form_writes_what_a_logger_does(written: Written) -> None:
    structlog.get_logger().info("job_ended", **dict(zip(_FIELDS, _ROW, strict=True)))
    log.Form("job_ended", *_FIELDS).write([_ROW, _ROW])

    [by_logger, *by_form] = written.lines()
    assert [list(line.items())[2:] for line in by_form] == [list(by_logger.items())[2:]] * 2
    assert all(line["level"] == "info" and line["time"] >= by_logger["time"] for line in by_form)


def test_a_form_follows_level_and_format(written: Written) -> None:
    form = log.Form("job_ended", "job_id")

    log.configure(level="warning", fmt="json")
    form.write([("unseen",)])
    log.configure(level="info", fmt="console")
    form.write([("for-people",)])

    shown = written.text()
    assert "unseen" not in shown
    assert "for-people" in shown
    assert "job_ended" in shown


def test_a_form_has_no_field_for_a_secret() -> None:
    with pytest.raises(ValueError, match="phone"):
        log.Form("job_ended", "job_id", "phone")
