"""A file as it is uploaded: the body itself, or the one part `file` of a form, streamed into a spool."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.problems import Problem
from shared.domain.errors import InvalidInput
from shared.domain.media import plain_mimetype
from shared.media.spool import Spool, Spooled, TooLarge

_FORM: Final = b"multipart/form-data"
# What clients send when nobody said what it is.
_SAYS_NOTHING: Final = frozenset({"application/x-www-form-urlencoded", "application/octet-stream"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """A whole file, and what its sender calls it: as it was said, so nothing to trust."""

    file: Spooled
    filename: str | None
    mimetype: str | None


async def receive(request: Request, spool: Spool) -> Uploaded:
    """Take the file in; the edge bounds its time. Raises InvalidInput for a body without one, Problem 413 and 415."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "Send the file as it is, without a coding."
        )
    kind, options = parse_options_header(request.headers.get("content-type"))
    form = _Form(options.get(b"boundary", b"")) if kind == _FORM else None
    try:
        async for piece in _pieces(request, form):
            await spool.write(piece)
        file = await spool.finish()
    except TooLarge as error:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error.public_code, error.detail, headers={"Connection": "close"}
        ) from None
    if not file.size:
        raise InvalidInput("The file is empty.", pointer="/file")
    declared = plain_mimetype(kind.decode("latin-1") if form is None else form.part.mimetype)
    return Uploaded(
        file=file,
        filename=None if form is None else form.part.filename,
        mimetype=None if declared in _SAYS_NOTHING else declared,
    )


async def _pieces(request: Request, form: "_Form | None") -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if form is None:
            yield chunk
            continue
        for piece in form.feed(chunk):
            yield piece
    if form is not None:
        form.end()


@dataclass(slots=True)
class _Part:
    filename: str | None = None
    mimetype: str | None = None


@dataclass(slots=True)
class _Header:
    name: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)


class _Form:
    """Reads a form that has one part, `file`; the parser bounds the headers, the spool the bytes."""

    def __init__(self, boundary: bytes) -> None:
        self.part = _Part()
        self._parts = 0
        self._is_whole = False
        self._pieces: list[bytes] = []
        self._header = _Header()
        self._headers: dict[bytes, bytes] = {}
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._header.name.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header.value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": lambda data, start, end: self._pieces.append(data[start:end]),
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise _malformed() from None

    def feed(self, chunk: bytes) -> list[bytes]:
        """The file's bytes in this chunk. Raises InvalidInput for what is no such form."""
        self._pieces = []
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _malformed() from None
        return self._pieces

    def end(self) -> None:
        """Raises InvalidInput for a form that broke off, or had no file."""
        if not self._is_whole:
            raise _malformed()
        if not self._parts:
            raise InvalidInput("Send the file in a part named `file`.", pointer="/file")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise InvalidInput("Send one file, in the one part `file`; what else there is to say goes into the query.")
        self._headers = {}

    def _end_header(self) -> None:
        self._headers[bytes(self._header.name).strip().lower()] = bytes(self._header.value)
        self._header = _Header()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        if options.get(b"name") != b"file":
            raise InvalidInput("Send the file in a part named `file`.", pointer="/file")
        filename = options.get(b"filename")
        self.part.filename = None if filename is None else filename.decode("utf-8", "replace")
        self.part.mimetype = self._headers.get(b"content-type", b"").decode("latin-1") or None

    def _end(self) -> None:
        self._is_whole = True


def _malformed() -> InvalidInput:
    return InvalidInput("The body is not a whole multipart/form-data form.")
