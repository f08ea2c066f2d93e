"""Putting the parts together: a configuration becomes a running proxy, and a reload replaces it.

What lives how long:

    process         Parts: vault, clock, pool of connections, task group, local programs, the embedded service; Listener
    configuration   App, Access, Relay with its key rings, Upstreams, Catalog, Captures
    request         Call, Exchange, Failover, Record, Tape
    attempt         MessageDispatch, Delivery, Stream; RawDispatch, Passage

A reload builds the second row anew and hands it to the listener; requests in flight keep the row that they began with.
Cooldowns, sessions and totals of keys that stay are shared between the old and the new row.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import anyio.abc

from ccproxy_lite.clock import Clock
from ccproxy_lite.config.model import Config
from ccproxy_lite.config.secrets import SECRET_NAME
from ccproxy_lite.errors import CcproxyError, ConfigError
from ccproxy_lite.log import log
from ccproxy_lite.net.address import Address
from ccproxy_lite.net.application import Limits
from ccproxy_lite.net.listener import Listener, serve
from ccproxy_lite.net.upstream import Pool
from ccproxy_lite.net.watchdog import Watchdog
from ccproxy_lite.relay.programs import Programs
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.upstreams import Upstreams, check_trust, fetching
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.server.access import Access
from ccproxy_lite.server.app import App
from ccproxy_lite.server.echo import echoing
from ccproxy_lite.server.status import ServerState

_RENEW_S = 30.0


@dataclass(slots=True)
class Parts:
    """The client half of the proxy, as far as it outlives a configuration."""

    vault: Vault
    clock: Clock
    pool: Pool
    tasks: anyio.abc.TaskGroup
    programs: Programs
    echo_url: str = ""


async def relay_for(config: Config, parts: Parts, before: Relay | None = None) -> Relay:
    """A relay for a configuration; the state of keys is taken over from ``before``. Raises ConfigError."""
    check_trust(config)
    config = await _with_embedded(config, parts)
    for upstream in (*config.upstreams, *(mount.service for mount in config.mounts)):
        if upstream.proxy is not None:
            parts.vault.remember(upstream.proxy.password)
            parts.vault.remember(upstream.proxy.authorization.removeprefix("Basic "))
        for name, value in upstream.headers:
            if SECRET_NAME.search(name) and not value.startswith("$"):
                parts.vault.remember(value)
    return Relay(Upstreams(config, parts.pool, parts.vault, parts.clock, parts.programs), before, parts.tasks)


async def _with_embedded(config: Config, parts: Parts) -> Config:
    """The configuration with the address of the embedded service, which is started when it is first used."""
    if not any(upstream.provider.embedded for upstream in config.upstreams):
        return config
    parts.echo_url = parts.echo_url or await parts.tasks.start(_serve_embedded)
    return replace(
        config,
        upstreams=tuple(
            replace(upstream, base_url=parts.echo_url) if upstream.provider.embedded else upstream
            for upstream in config.upstreams
        ),
    )


async def _serve_embedded(*, task_status: anyio.abc.TaskStatus[str]) -> None:
    async with echoing() as url:
        task_status.started(url)
        await anyio.sleep_forever()


@contextlib.asynccontextmanager
async def client_side(vault: Vault, clock: Clock) -> AsyncIterator[Parts]:
    """The client half, until the block ends."""
    watchdog = Watchdog()
    pool = Pool(watchdog)
    vault.fetch = fetching(pool, clock, vault.environ)
    async with anyio.create_task_group() as tasks:
        try:
            yield Parts(vault, clock, pool, tasks, Programs(tasks=tasks))
        finally:
            pool.close()
            watchdog.stop()
            tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def upstreams(config: Config, vault: Vault) -> AsyncIterator[Relay]:
    """The client half alone, for one configuration."""
    async with client_side(vault, Clock()) as parts:
        yield await relay_for(config, parts)


@dataclass(slots=True)
class Running:
    """A proxy that serves: where, and its parts."""

    listener: Listener
    app: App
    parts: Parts
    server_state: ServerState = field(default_factory=ServerState)

    @property
    def relay(self) -> Relay:
        return self.app.relay

    @property
    def url(self) -> str:
        """The base URL for clients on this machine."""
        return Address.parse(self.relay.config.listen).url(self.listener.port)

    async def use(self, config: Config) -> None:
        """Serve with another configuration. If it cannot be used, CcproxyError is raised and nothing has changed."""
        before = self.relay
        if config.listen != before.config.listen:
            log.warning("listen: %s needs a restart; still at %s", config.listen, before.config.listen)
            config = replace(config, listen=before.config.listen)
        # Secrets are part of the configuration.
        self.parts.vault.forget()
        app = await _build_app(config, self.parts, self.server_state, before)
        app.listener = self.listener
        self.app = app
        self.listener.use(app, _connection_limits(config))
        before.wakeup.set()
        before.upstreams.close()


async def _client_keys(config: Config, parts: Parts) -> tuple[str, ...]:
    keys = tuple([await parts.vault.value(reference, parts.clock.now()) for reference in config.client_keys])
    if any(not key for key in keys):
        raise ConfigError(["client_keys: a client key resolved to an empty string"])
    return keys


async def _tidy_up(proxy: Running) -> None:
    """Files and helpers may give other client keys by now, and what is kept for clients may be too old."""
    while True:
        await anyio.sleep(_RENEW_S)
        proxy.relay.states.forget(proxy.parts.clock.now())
        with contextlib.suppress(CcproxyError):
            proxy.app.access.use_keys(await _client_keys(proxy.relay.config, proxy.parts))


async def _build_app(config: Config, parts: Parts, server_state: ServerState, before: Relay | None = None) -> App:
    client_keys = await _client_keys(config, parts)
    # A reload keeps the address, so the check of the file is not enough.
    if not client_keys and not Address.parse(config.listen).is_local:  # also after a reload that keeps the address
        raise ConfigError(
            [f"listen: client_keys is required when listening on a non-loopback address ({config.listen})"]
        )
    relay = await relay_for(config, parts, before)
    if relay.captures is not None:
        await relay.captures.prepare()
    server_state.loaded_at, server_state.failed_at, server_state.problems = parts.clock.wall(), None, ()
    return App(relay, Access(config, client_keys), server_state)


@contextlib.asynccontextmanager
async def running(
    config: Config, vault: Vault, clock: Clock | None = None, sockets: Sequence[socket.socket] = ()
) -> AsyncIterator[Running]:
    """The whole proxy, until the block ends. Raises CcproxyError when it cannot start.

    :param sockets: serve on these, which listen already, instead of on ``config.listen``
    """
    _quieten_loop()
    async with client_side(vault, clock or Clock()) as parts:
        server_state = ServerState(started_at=parts.clock.wall())
        app = await _build_app(config, parts, server_state)
        async with serve(app, _connection_limits(config), [Address.parse(config.listen)], sockets) as listener:
            app.listener = listener
            proxy = Running(listener, app, parts, server_state)
            parts.tasks.start_soon(_tidy_up, proxy)
            try:
                yield proxy
            finally:
                proxy.relay.upstreams.close()


def _connection_limits(config: Config) -> Limits:
    t, cap = config.timeouts, _connection_cap(config.limits.max_connections)
    return Limits(
        t.client_head_s, t.client_body_s, t.client_idle_s, t.client_write_s, t.drain_s,
        config.limits.max_body_bytes, cap,
    )  # fmt: skip


def _connection_cap(wanted: int) -> int:
    """Never more connections than there are file descriptors: two for each, and some to spare."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(soft // 2 - 16, 8))


def _quieten_loop() -> None:
    """asyncio's own errors as one line of the log each, and at most one a second."""
    last_at = 0.0

    def handle(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        nonlocal last_at
        if loop.time() - last_at >= 1:
            last_at = loop.time()
            error = context.get("exception")
            log.error("%s%s", context.get("message"), f": {type(error).__name__}: {error}" if error else "")

    asyncio.get_running_loop().set_exception_handler(handle)


def stop_signals() -> AbstractContextManager[AsyncIterator[signal.Signals]]:
    """SIGINT and SIGTERM from here on; also as process 1, which has no default actions."""
    return anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM)


async def until_stopped(
    signals: AsyncIterator[signal.Signals], listener: Listener, stopping: Callable[[], None]
) -> signal.Signals:
    """Wait for a signal, then drain; a second one ends the waiting at once."""
    first = await anext(signals)
    stopping()
    if listener.connections:
        log.info(
            "shutting down: waiting for %d connections (press Ctrl-C again to stop immediately)", listener.connections
        )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_drain_and_cancel, listener, tasks.cancel_scope)
        async for _ in signals:
            tasks.cancel_scope.cancel()
    return first


async def _drain_and_cancel(listener: Listener, scope: anyio.CancelScope) -> None:
    await listener.drain()
    scope.cancel()
