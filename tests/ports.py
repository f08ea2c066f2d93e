"""Loopback ports for tests: a range of its own for each worker of xdist.

The system hands out a free port again as soon as it is closed. In a run with several workers a client of one test then
reaches the service of another. These ranges lie below those that systems choose from, and a port is used again only
after a thousand others.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

_FIRST, _PER_WORKER = 10_000, 1_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 20


def _ports() -> Iterator[int]:
    offset = os.getpid() % _PER_WORKER  # another run of the tests on this machine begins elsewhere
    while True:
        yield _FIRST + _WORKER * _PER_WORKER + offset
        offset = (offset + 1) % _PER_WORKER


_next_port = _ports()


def listening() -> socket.socket:
    """A listening socket on a free port."""
    for _ in range(_PER_WORKER):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", next(_next_port)))
    raise AssertionError("no port is free")


def free_port() -> int:
    """A port at which nothing listens, and at which no other test of this run will."""
    with listening() as sock:
        return int(sock.getsockname()[1])
