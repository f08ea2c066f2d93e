"""Reading from sockets into one buffer that all connections share.

For a plain ``asyncio.Protocol`` the event loop allocates 256 KB for each read, and gives most of it back: three system
calls and a page fault or two for an event of 100 bytes. One thread reads, and what it has read is copied out before it
reads again, so one buffer is enough.
"""

from __future__ import annotations

import asyncio

_BUFFER = memoryview(bytearray(262_144))


class ReadingProtocol(asyncio.BufferedProtocol):
    """A protocol that is given what has been read as bytes, as ``asyncio.Protocol`` is."""

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(_BUFFER[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """What has been read."""
        raise NotImplementedError
