"""uvicorn's HTTP protocol with an end to its patience: the head of a request comes in time, or the connection closes.

uvicorn waits for ever for a client that sends a header a minute, or nothing, and takes in a head of any length.
`./zh` starts the API with it; by hand: `uvicorn api.app:app --http api.patient_http:PatientHttp`.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

DEFAULT_HEADER_S: Final = 10.0
_MOST_HEAD_BYTES: Final = 65_536
_LATE: Final = 408, b"Send the whole head of the request at once.\n"
_LONG: Final = 431, b"Send fewer or shorter headers.\n"


class PatientHttp(HttpToolsProtocol):
    """The time runs from the connection, or the first byte of a later request, to the blank line behind the headers.

    `header_timeout_s` comes from the app's lifespan state.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments, handed on
        super().__init__(*args, **kwargs)
        self._header_timeout_s: float = self.app_state.get("header_timeout_s", DEFAULT_HEADER_S)
        self._deadline: asyncio.TimerHandle | None = None
        self._is_in_head = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._refuse(*_LONG)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = 0
        self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Behind the body they would be added to a head that a proxy has seen to already.
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._expect_nothing()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        """Set the deadline; one that runs stays, so that a drip does not put it off."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._header_timeout_s, self._give_up)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        self._refuse(*_LATE)

    def _refuse(self, status: int, why: bytes) -> None:
        self._expect_nothing()
        if self.transport.is_closing():
            return
        # Nothing is put in the middle of an answer, and who said nothing is told nothing.
        if self._is_in_head and not self._is_answering():
            self.transport.write(
                STATUS_LINE[status] + b"content-type: text/plain; charset=utf-8\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(why), why)
            )
        self.transport.close()

    def _is_answering(self) -> bool:
        # uvicorn's type leaves out that there is none before the first request.
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]
