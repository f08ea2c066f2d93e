"""Putting the parts together: a configuration becomes a running proxy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import anyio

from ccproxy_lite import echo
from ccproxy_lite.address import Address
from ccproxy_lite.app import App
from ccproxy_lite.catalog import Catalog
from ccproxy_lite.config import Config
from ccproxy_lite.errors import ConfigError
from ccproxy_lite.log import log
from ccproxy_lite.net.connection import Limits
from ccproxy_lite.net.listener import Listener, serve
from ccproxy_lite.net.tls import context_for
from ccproxy_lite.net.upstream import Pool
from ccproxy_lite.net.watchdog import Watchdog
from ccproxy_lite.relay import Relay
from ccproxy_lite.secrets import Vault


@dataclass(slots=True)
class Running:
    """A proxy that serves: where, and its parts."""

    listener: Listener
    relay: Relay

    @property
    def url(self) -> str:
        """The base URL for clients on this machine."""
        return Address.parse(self.relay.config.listen).url(self.listener.port)


@contextlib.asynccontextmanager
async def upstreams(config: Config, vault: Vault) -> AsyncIterator[Relay]:
    """The upstream half alone: pool, keys, and the echo if the configuration names it."""
    watchdog = Watchdog()
    pool = Pool(watchdog)
    async with contextlib.AsyncExitStack() as stack:
        url = ""
        if any(upstream.format == "echo" for upstream in config.upstreams):
            listener = await stack.enter_async_context(echo.running())
            url = f"http://127.0.0.1:{listener.port}"
        for upstream in config.upstreams:
            if upstream.ca_file or upstream.client_cert or os.environ.get("SSL_CERT_FILE"):
                context_for(upstream.ca_file, upstream.client_cert)
        try:
            yield Relay(config, pool, vault, lambda: url)
        finally:
            pool.close()
            watchdog.stop()


@contextlib.asynccontextmanager
async def running(config: Config, vault: Vault) -> AsyncIterator[Running]:
    """The whole proxy, until the block ends. Raises CcproxyError when it cannot start."""
    client_keys = tuple([await vault.value(spec, time.monotonic()) for spec in config.client_keys])
    if any(not key for key in client_keys):
        raise ConfigError(["client_keys: an empty key would let everybody in"])
    _quieten_loop()
    t = config.timeouts
    limits = Limits(
        t.client_head_s, t.client_body_s, t.client_idle_s, t.client_write_s, t.drain_s,
        config.limits.max_body_bytes, _connection_cap(config.limits.max_connections),
    )  # fmt: skip
    async with upstreams(config, vault) as relay:
        app = App(relay, Catalog(relay), client_keys)
        async with serve(app, limits, [Address.parse(config.listen)]) as listener:
            app.is_draining = lambda: listener.draining
            yield Running(listener, relay)


def _connection_cap(wanted: int) -> int:
    """Never more connections than there are file descriptors: two for each, and some to spare."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(soft // 2 - 16, 8))


def _quieten_loop() -> None:
    """asyncio's own complaints as one line of the log each, and not one for every connection."""
    last_s = 0.0

    def handle(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        nonlocal last_s
        if loop.time() - last_s >= 1:
            last_s = loop.time()
            error = context.get("exception")
            log.error("%s%s", context.get("message"), f": {type(error).__name__}: {error}" if error else "")

    asyncio.get_running_loop().set_exception_handler(handle)


def stop_signals() -> AbstractContextManager[AsyncIterator[signal.Signals]]:
    """SIGINT and SIGTERM from here on; also as process 1, which has no default actions."""
    return anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM)


async def until_stopped(signals: AsyncIterator[signal.Signals], listener: Listener) -> signal.Signals:
    """Wait for a signal, then drain; a second one ends the waiting at once."""
    first = await anext(signals)
    if listener.connections:
        log.info("draining %d connections; once more stops at once", listener.connections)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_drained, listener, tasks.cancel_scope)
        async for _ in signals:
            tasks.cancel_scope.cancel()
    return first


async def _drained(listener: Listener, scope: anyio.CancelScope) -> None:
    await listener.drain()
    scope.cancel()
