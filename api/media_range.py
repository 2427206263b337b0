"""Which part of a file a GET asks for, and whether it needs any: Range, If-Range and If-None-Match of RFC 9110."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

_ONE_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE)
_TAGS: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
# Past any file's size; longer numbers are as far past it, and cost nothing to read.
_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `start` up to `stop`."""

    start: int
    stop: int


class Unsatisfiable(Exception):
    """The range is well-formed and no byte of the file is in it."""


def part_wanted(headers: Mapping[str, str], *, size: int, etag: str, modified: datetime) -> Part | None:
    """The part that is asked for, None for the whole. Raises Unsatisfiable.

    A range that is malformed, in another unit or one of several is ignored, as RFC 9110 lets a server do; so is one
    whose If-Range names another version.
    """
    match = _ONE_RANGE.fullmatch(headers.get("range", ""))
    if match is None or not _is_of_this_version(headers.get("if-range"), etag=etag, modified=modified):
        return None
    first, last = match[1], match[2]
    if first and last and _number(last) < _number(first):
        return None
    if not first and not last:
        return None
    start = _number(first) if first else max(size - _number(last), 0)
    stop = min(_number(last) + 1, size) if first and last else size
    if start >= stop:
        raise Unsatisfiable
    return Part(start, stop)


def is_known(headers: Mapping[str, str], *, etag: str) -> bool:
    """Whether If-None-Match says that the client has this version."""
    given = headers.get("if-none-match", "")
    return given.strip() == "*" or etag in {tag.removeprefix("W/") for tag in _TAGS.findall(given)}


def http_date(at: datetime) -> str:
    """As Last-Modified has it, to the second."""
    return format_datetime(at.astimezone(UTC).replace(microsecond=0), usegmt=True)


def _is_of_this_version(if_range: str | None, *, etag: str, modified: datetime) -> bool:
    # A weak tag or another date never matches; a date only as exactly the one that was given.
    return if_range is None or if_range.strip() in {etag, http_date(modified)}


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    return 10**_DIGITS if len(significant) > _DIGITS else int(significant or "0")
