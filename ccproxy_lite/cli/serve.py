"""``ccproxy-lite [serve]``: serve until interrupted."""

from __future__ import annotations

import argparse
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import anyio

from ccproxy_lite.cli.load import find, load, with_options
from ccproxy_lite.config.model import DEFAULT_LISTEN, Config
from ccproxy_lite.log import log
from ccproxy_lite.net import systemd
from ccproxy_lite.net.address import Address, bracketed
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.server import accesslog, clients
from ccproxy_lite.server.lifecycle import running, stop_signals, until_stopped
from ccproxy_lite.server.reload import reloading, signature


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0 after SIGTERM, 130 after SIGINT."""
    return anyio.run(_serve_until_stopped, Source(arguments, Vault(), systemd.inherited(os.environ)))


class Source:
    """The configuration that the command line leads to (see ``server.reload.Source``)."""

    def __init__(self, arguments: argparse.Namespace, vault: Vault, sockets: Sequence[socket.socket]) -> None:
        self.arguments = arguments
        self.vault = vault
        self.sockets = sockets

    def find(self) -> Path | None:
        return find(self.arguments.config, os.environ)

    def read(self) -> tuple[Config, str]:
        config, name = load(self.arguments.config)
        if self.sockets:
            return _at_sockets(config, self.arguments, self.sockets), name
        return with_options(config, self.arguments), name

    def prepare_log(self, config: Config) -> Callable[[], None]:
        return accesslog.prepared(config.log, self.vault.redact, dict(os.environ))


def _at_sockets(config: Config, arguments: argparse.Namespace, sockets: Sequence[socket.socket]) -> Config:
    """Each address must be safe without client keys, or there must be some; the most exposed one sets the rules."""
    addresses = sorted(map(systemd.address_of, sockets), key=lambda text: _exposure_level(Address.parse(text)))
    for listen in addresses:
        config = with_options(config, argparse.Namespace(**{**vars(arguments), "listen": listen}))
    named = [address for address in map(Address.parse, addresses) if not address.path and not address.is_everywhere]
    names = tuple(bracketed(address.host) for address in named)
    return replace(config, allowed_hosts=(*config.allowed_hosts, *names))


def _exposure_level(address: Address) -> int:
    return 0 if address.path else 1 if address.is_local else 3 if address.is_everywhere else 2


async def _serve_until_stopped(source: Source) -> int:
    before = signature(source)  # before the reading: a change in between would else be missed for good
    config, name = source.read()
    source.prepare_log(config)()
    # From before readiness is announced until all has ended: a signal in between must not leave anything behind.
    with stop_signals() as signals, anyio.open_signal_receiver(signal.SIGHUP) as hangups:
        async with running(config, source.vault, sockets=source.sockets) as proxy:
            print(f"listening on {proxy.url}", flush=True)
            print(behind(config, name), flush=True)
            if source.find() is None and proxy.listener.port:
                print(first_steps(proxy.url), flush=True)
            if proxy.relay.captures is not None and not proxy.relay.captures.problem:
                print(f"captures: {config.capture.dir}", flush=True)
            for note in config.notes:
                log.warning("%s", note)
            proxy.server_state.source = name
            systemd.notify(f"READY=1\nSTATUS=listening on {proxy.url}")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reloading, proxy, hangups, source, before)
                number = await until_stopped(signals, proxy.listener, lambda: systemd.notify("STOPPING=1"))
                tasks.cancel_scope.cancel()
    return 130 if number == signal.SIGINT else 0


def first_steps(url: str) -> str:
    """What to paste into another shell; there is no configuration yet, so every client may come."""
    lines = ["to connect a client, run one of these in another shell:"]
    for name in clients.SDKS:
        variables = clients.variables(name, url, clients.NO_KEY)
        lines.append(f"  export {' '.join(f'{key}={value}' for key, value in variables.items())}")
    elsewhere = "" if url.endswith(DEFAULT_LISTEN) else f" --listen {url.removeprefix('http://')}"
    first, *others = (name for name in clients.CLIENTS if name not in clients.SDKS)
    return "\n".join([*lines, f'  eval "$(ccproxy-lite env {first}{elsewhere})"   # or {", ".join(others)}'])


def behind(config: Config, source: str) -> str:
    """One line about what answers."""
    if config.is_embedded:
        return f"upstreams: the built-in echo only ({source})"
    names = ", ".join(f"{upstream.name} ({upstream.format})" for upstream in config.upstreams)
    return f"upstreams: {names} (config: {source})"
