"""Requests to a running proxy, for the commands that look at one."""

from __future__ import annotations

import http.client
import os
import re
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio

from ccproxy_lite.cli.load import find, load
from ccproxy_lite.config.model import DEFAULT_LISTEN
from ccproxy_lite.errors import CcproxyError, ConfigError
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.net.address import Address
from ccproxy_lite.relay.vault import Vault


class _Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def address_of(given: str | None) -> tuple[str, tuple[str, ...]]:
    """Where the proxy listens and what it wants to be shown, also from a file that is broken by now."""
    try:
        config, _ = load(given)
        return config.listen, config.client_keys
    except ConfigError:
        text, key = "{}", os.environ.get("CCPROXY_CLIENT_KEY")
        with suppress(OSError):
            path = find(given, os.environ)
            text = path.read_text("utf-8", "replace") if path else text
        listen = re.search(r'"listen"\s*:\s*"([^"]+)"', text)
        return listen[1] if listen else DEFAULT_LISTEN, ("$CCPROXY_CLIENT_KEY",) if key else ()


def address_at(listen: str) -> Address:
    """An address to which one can connect. Raises ConfigError for one that is none, CcproxyError for port 0."""
    try:
        address = Address.parse(listen)
    except ValueError as error:
        raise ConfigError([f"--listen {listen}: {error}"]) from None
    if not address.path and not address.port:
        raise CcproxyError("listen port is 0 (chosen at start); pass the actual address with --listen")
    return address


def ask(
    listen: str, client_keys: Sequence[str], path: str, body: Any = None, patience_s: float = 10.0
) -> tuple[int, Any]:
    """Status and JSON of the response of the proxy at that address, with the first key. Raises CcproxyError."""
    address = address_at(listen)
    url = address.url(address.port)
    headers = {"host": "localhost", "content-type": "application/json"}
    if client_keys:
        headers["authorization"] = f"Bearer {anyio.run(Vault().value, client_keys[0], time.monotonic())}"
    host = url.removeprefix("http://").rpartition(":")[0].strip("[]")
    connection = (
        _Unix(address.path, patience_s)
        if address.path
        else http.client.HTTPConnection(host, address.port, timeout=patience_s)
    )
    hurry = threading.Timer(patience_s, lambda: _disconnect(connection))  # a timeout of sockets is one for each read
    hurry.start()
    try:
        connection.request("GET" if body is None else "POST", path, None if body is None else dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, loads(answer.read())
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise CcproxyError(f"no proxy is running at {url}: {reason} (use --listen for another address)") from None
    except ValueError:
        raise CcproxyError(f"something else is listening at {url} (not ccproxy-lite)") from None
    finally:
        hurry.cancel()
        connection.close()


def _disconnect(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
