"""The values that a server's connections and the program exchange: limits, complete responses."""

from __future__ import annotations

from typing import Any, NamedTuple

from ccproxy_lite.net.heads import OutHeaders


class Response(NamedTuple):
    """A complete response."""

    status: int
    headers: OutHeaders
    body: bytes = b""


class Streamed(NamedTuple):
    """What ``admit`` returns for a request whose body is passed on while it arrives, whatever its size."""

    admitted: Any


class Limits(NamedTuple):
    """Seconds and bytes."""

    head_s: float = 10
    body_s: float = 30
    idle_s: float = 75
    write_s: float = 60
    drain_s: float = 30
    max_body_bytes: int = 67_108_864
    max_connections: int = 512
