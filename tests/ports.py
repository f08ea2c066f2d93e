"""Loopback ports for tests: a range of its own for each process that runs tests.

The system hands out a free port again as soon as it is closed. In a run with several workers, or with a second run on
the same machine, a client of one test then reaches the service of another, or finds its port taken. These ranges lie
below those that systems choose from. A process holds the first port of its range for as long as it lives, and so nobody
else chooses the same range; it uses a port again only after all others of the range.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import socket
from collections.abc import Iterator

_FIRST, _BEHIND, _PER_PROCESS = 10_000, 32_000, 250


@functools.cache
def _ports() -> tuple[socket.socket, Iterator[int]]:
    """The socket that holds the range of this process, and the range's other ports, over and over."""
    for first in range(_FIRST, _BEHIND, _PER_PROCESS):
        with contextlib.suppress(OSError):
            holder = socket.create_server(("127.0.0.1", first))
            return holder, itertools.cycle(range(first + 1, first + _PER_PROCESS))
    raise AssertionError("no range of ports is free")


def listening() -> socket.socket:
    """A listening socket on a free port."""
    _, ports = _ports()
    for port in itertools.islice(ports, _PER_PROCESS):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise AssertionError("no port is free")


def free_port() -> int:
    """A port at which nothing listens, and at which no other test on this machine will."""
    with listening() as sock:
        return int(sock.getsockname()[1])
