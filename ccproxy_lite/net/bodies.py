"""The body of a request while it arrives, for whoever passes it on without keeping it.

The connection feeds it from its callbacks, and one task receives the pieces. Between the two there is little room:

    reading    fewer than ``_HIGH_BYTES`` bytes wait to be received
    paused     more wait: nothing is read from the socket until the task has taken them all
    complete   the end has come; ``receive`` gives what waits, then empty bytes
    failed     the peer broke the framing, left, or was silent for too long: ``receive`` raises what happened

Only while a task waits for the next piece (``awaited``) is a silent peer to blame; ``on_awaited`` lets the connection
set its deadline then. That is also when a client that has sent ``Expect: 100-continue`` is told to go on. While nothing
is read, a client that leaves shows by no event, so it is looked for; its leave shows once the kernel has taken all that
it has sent.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

import anyio

from ccproxy_lite.net.framing import Decoder, FramingError

_HIGH_BYTES = 65_536
_LOOK_S = 0.2
_LEFT = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyError(Exception):
    """A body that will never be complete; ``status`` is the one for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class IncomingBody:
    """One body.

    :param decoder: of its framing
    :param transport: where it comes from
    :param invite: whether the peer waits for ``100 Continue``
    :param on_awaited: called when ``awaited`` or the state has changed
    :param on_left: called when the peer has left while nothing was read
    :ivar complete: all of it has arrived
    """

    def __init__(
        self,
        decoder: Decoder,
        transport: asyncio.Transport,
        invite: bool,
        on_awaited: Callable[[], None],
        on_left: Callable[[], object],
    ) -> None:
        self.complete = self.awaited = False
        self._decoder = decoder
        self._transport = transport
        self._invite = invite
        self._on_awaited = on_awaited
        self._on_left = on_left
        self._look: asyncio.TimerHandle | None = None
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._paused = False
        self._error: BodyError | None = None
        self._arrival = anyio.Event()

    @property
    def length(self) -> int | None:
        """Its length in bytes, if the head said so."""
        framing = self._decoder.framing
        return framing if isinstance(framing, int) else None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will arrive."""
        return self.complete or self._error is not None

    # --- the connection

    def feed(self, data: bytes) -> bytes:
        """More has arrived; returns what comes behind the body."""
        try:
            piece = self._decoder.feed(data)
        except FramingError as error:
            self.fail(400, str(error))
            return b""
        if piece:
            self._pieces.append(piece)
            self._waiting_bytes += len(piece)
        if self._waiting_bytes >= _HIGH_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
            self._look_later()
        self.complete = self._decoder.done
        self._wake()
        return self._decoder.trailing_data

    def fail(self, status: int, message: str) -> None:
        """It will not be complete; ignored if it is."""
        if not self.is_over:
            self._error = BodyError(status, message)
            self._wake()

    def close(self) -> None:
        """Nobody wants it any more; what still comes can be read and discarded."""
        self.fail(400, "the response came before the body was complete")
        self._resume()

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._look_whether_left)

    def _look_whether_left(self) -> None:
        sock = self._transport.get_extra_info("socket")
        if not self._paused or self._transport.is_closing() or sock is None:
            return
        poll = select.poll()
        poll.register(sock.fileno(), _LEFT)
        if any(events & _LEFT for _, events in poll.poll(0)):
            self._on_left()
        else:
            self._look_later()

    def _wake(self) -> None:
        self.awaited = False
        self._arrival.set()
        self._on_awaited()

    def _resume(self) -> None:
        if self._look is not None:
            self._look.cancel()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    # --- the task that passes it on

    async def receive(self) -> bytes:
        """What has arrived since the last call, at least one byte; empty at the end. Raises BodyError."""
        while not self._pieces and not self.is_over:
            self._arrival = anyio.Event()
            if self._invite:
                self._invite = False
                self._transport.write(CONTINUE)
            self.awaited = True
            self._on_awaited()
            await self._arrival.wait()
        if self._error is not None:
            raise self._error
        piece, self._pieces, self._waiting_bytes = b"".join(self._pieces), [], 0
        self._resume()
        return piece
