"""Connections: those that keep a server waiting are closed, and count as no work."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # in which a request's line and headers must have arrived
STALLED_SECONDS = 120.0  # in which an answer must have been taken
LINGER_SECONDS = 2.0  # in which the rest of a refused upload is thrown away
LINGER_BYTES = 4_000_000
MOST_CONNECTIONS = 400


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP with an end to its patience."""

    _transport: asyncio.Transport  # the socket's own
    _patience: asyncio.TimerHandle | None = None
    _idle_since = 0.0
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        lingering: Any = LingeringTransport(transport, self)
        super().connection_made(lingering)
        self._wait_for_request()
        if len(self.connections) > MOST_CONNECTIONS:
            self._longest_idle()._transport.abort()

    def _longest_idle(self) -> "PatientProtocol":
        """The one of all other connections that has waited longest; this one where all work."""
        others: Any = self.connections
        idle = [each for each in others if each is not self and not _is_at_work(each)]
        return min(idle, key=lambda each: each._idle_since, default=self)

    def data_received(self, data: bytes) -> None:
        transport: Any = self.transport
        if transport.lingers:
            transport.discard(len(data))
        else:
            super().data_received(data)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._patience, self._stalled):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_SECONDS, self._transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def _wait_for_request(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._idle_since = self.loop.time()
        self._patience = self.loop.call_later(HEADER_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        if not _is_at_work(self):
            self._transport.abort()


class LingeringTransport:
    """A transport that, closed in the midst of an upload, first lets the answer reach its reader.

    A socket that is closed with unread bytes in it resets its connection, and what was just
    written is lost to the other side.
    """

    def __init__(self, transport: asyncio.Transport, protocol: H11Protocol) -> None:
        self._transport, self._protocol = transport, protocol
        self.lingers, self._left = False, LINGER_BYTES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Close it, at once where nothing is on its way."""
        uploading = self._protocol.conn.their_state is h11.SEND_BODY
        if self.lingers or not uploading or self._transport.is_closing():
            self._transport.close()
            return
        self.lingers = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._protocol.loop.call_later(LINGER_SECONDS, self._transport.abort)

    def discard(self, count: int) -> None:
        """Throw away so many bytes that came; too many end the connection."""
        self._left -= count
        if self._left < 0:
            self._transport.abort()


def _is_at_work(connection: Any) -> bool:
    cycle = getattr(connection, "cycle", None)
    return cycle is not None and not cycle.response_complete
