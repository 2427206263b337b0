"""uvicorn's HTTP protocol with an end to its patience: the head of a request comes in time, or the connection closes.

uvicorn waits for ever for a client that sends a header a minute, or nothing. `./zh` starts the API with it; by hand:
`uvicorn api.app:app --http api.patient_http:PatientHttp`.
"""

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

DEFAULT_HEADER_S: Final = 10.0
_REFUSAL: Final = b"Send the whole head of the request at once.\n"


class PatientHttp(H11Protocol):
    """The time runs from the connection, or the end of the answer before, to the blank line behind the headers.

    `header_timeout_s` comes from the app's lifespan state.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments, handed on
        super().__init__(*args, **kwargs)
        self._header_timeout_s: float = self.app_state.get("header_timeout_s", DEFAULT_HEADER_S)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._expect_head()
        else:
            self._expect_nothing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

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
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            head = h11.Response(
                status_code=408,
                headers=[
                    (b"content-type", b"text/plain; charset=utf-8"),
                    (b"content-length", str(len(_REFUSAL)).encode()),
                    (b"connection", b"close"),
                ],
                reason=b"Request Timeout",
            )
            for event in (head, h11.Data(data=_REFUSAL), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
