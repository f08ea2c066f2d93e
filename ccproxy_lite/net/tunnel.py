"""The way through a proxy: CONNECT (RFC 9110, 9.3.6) and then TLS with the service itself, end to end.

What goes through the tunnel afterwards is not its business.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import cast

import h11

from ccproxy_lite.errors import UNREACHABLE, UpstreamError
from ccproxy_lite.net.address import bracketed
from ccproxy_lite.net.proxies import Proxy
from ccproxy_lite.net.tls import context_for, describe

_MAX_HEAD_BYTES = 16_384


async def through(
    proxy: Proxy, protocol: asyncio.BaseProtocol, host: str, port: int, context: ssl.SSLContext | None
) -> None:
    """Connect a protocol to a host through a proxy; without a context, to the proxy itself.

    Raises UpstreamError for what the proxy does, OSError for what the host does behind it.
    """
    loop = asyncio.get_running_loop()
    connect_request = _ConnectRequest(proxy, f"{bracketed(host)}:{port}")
    inner = protocol if context is None else connect_request
    try:
        transport, _ = await loop.create_connection(
            lambda: inner,
            proxy.host,
            proxy.port,
            ssl=context_for("", "") if proxy.tls else None,
            server_hostname=proxy.host if proxy.tls else None,
            happy_eyeballs_delay=0.25,
        )
    except (OSError, UnicodeError) as error:
        raise _unreachable(f"proxy {describe(error, proxy.host, proxy.port)}") from None
    if context is None:
        return
    try:
        await connect_request.answered
        # asyncio cannot start TLS inside TLS before 3.11.
        if proxy.tls and sys.version_info < (3, 11):  # asyncio has no TLS within TLS there
            raise _unreachable(f"proxy {proxy} needs Python 3.11 or newer; use an http:// one")
        transport.set_protocol(protocol)
        tunnel = await loop.start_tls(cast(asyncio.WriteTransport, transport), protocol, context, server_hostname=host)
    except BaseException:
        transport.abort()
        raise
    if tunnel is None or tunnel.is_closing():
        raise ConnectionResetError
    protocol.connection_made(tunnel)


def explain_rejection(proxy: Proxy, status: int, where: str) -> str:
    """What a proxy's refusal means, and what to do."""
    if status == 407 and proxy.authorization:
        return "rejected this user and password (407)"
    if status == 407:
        return "requires authentication (407); use http://user:password@host:port"
    return f"refused to connect to {where} ({status})"


class _ConnectRequest(asyncio.Protocol):
    """Says CONNECT; ``answered`` is done once the proxy agrees, and raises UpstreamError if it does not."""

    def __init__(self, proxy: Proxy, where: str) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._proxy = proxy
        self._where = where
        self._machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        headers = [("host", self._where)]
        if self._proxy.authorization:
            headers.append(("proxy-authorization", self._proxy.authorization))
        request = h11.Request(method="CONNECT", target=self._where, headers=headers)
        cast(asyncio.Transport, transport).write(self._machine.send(request) or b"")

    def data_received(self, data: bytes) -> None:
        try:
            self._machine.receive_data(data)
            event = self._machine.next_event()
            # Some proxies send 1xx responses first.
            while isinstance(event, h11.InformationalResponse):
                event = self._machine.next_event()
        except h11.RemoteProtocolError as error:
            self._finish_connect(f"sent invalid HTTP: {error}")
            return
        if isinstance(event, h11.Response):
            good = 200 <= event.status_code < 300
            self._finish_connect("" if good else explain_rejection(self._proxy, event.status_code, self._where))

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish_connect("closed the connection without a response")

    def _finish_connect(self, trouble: str) -> None:
        if self.answered.done():
            return
        if trouble:
            self.answered.set_exception(_unreachable(f"proxy {self._proxy.authority} {trouble}"))
        else:
            self.answered.set_result(None)


def _unreachable(message: str) -> UpstreamError:
    return UpstreamError(message, code=UNREACHABLE)
