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
    vault, sockets = Vault(), systemd.inherited(os.environ)

    def read() -> tuple[Config, str]:
        config, source = load(arguments.config)
        return _at_sockets(config, arguments, sockets) if sockets else with_options(config, arguments), source

    return anyio.run(_serve, vault, read, lambda: find(arguments.config, os.environ), sockets)


def _at_sockets(config: Config, arguments: argparse.Namespace, sockets: Sequence[socket.socket]) -> Config:
    """Each address must be safe without client keys, or there must be some; the most exposed one sets the rules."""
    addresses = sorted(map(systemd.address_of, sockets), key=lambda text: _exposure(Address.parse(text)))
    for listen in addresses:
        config = with_options(config, argparse.Namespace(**{**vars(arguments), "listen": listen}))
    hosts = [Address.parse(listen).host for listen in addresses]
    names = tuple(bracketed(host) for host in hosts if host not in ("", "0.0.0.0", "::"))
    return replace(config, allowed_hosts=(*config.allowed_hosts, *names))


def _exposure(address: Address) -> int:
    return 0 if address.path else 1 if address.is_local else 3 if address.host in ("0.0.0.0", "::") else 2


async def _serve(
    vault: Vault,
    read: Callable[[], tuple[Config, str]],
    find: Callable[[], Path | None],
    sockets: Sequence[socket.socket],
) -> int:
    def logging(config: Config) -> Callable[[], None]:
        return accesslog.prepared(config.log, vault.redact, dict(os.environ))

    known = signature(find)  # before the reading: a change in between would else be missed for good
    config, source = read()
    logging(config)()
    async with running(config, vault, sockets=sockets) as proxy:
        with (
            stop_signals() as signals,
            anyio.open_signal_receiver(signal.SIGHUP) as hangups,
        ):  # before anybody is told that it serves
            print(f"ccproxy-lite serves at {proxy.url}", flush=True)
            print(behind(config, source), flush=True)
            if find() is None and proxy.listener.port:
                print(first_steps(proxy.url), flush=True)
            for note in config.notes:
                log.warning("%s", note)
            proxy.history.source = source
            systemd.notify(f"READY=1\nSTATUS=serving at {proxy.url}")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reloading, proxy, hangups, read, find, known, logging)
                number = await until_stopped(signals, proxy.listener, lambda: systemd.notify("STOPPING=1"))
                tasks.cancel_scope.cancel()
    return 130 if number == signal.SIGINT else 0


def first_steps(url: str) -> str:
    """What to paste into another shell; there is no configuration yet, so every client may come."""
    lines = ["in another shell, one of:"]
    for name in ("anthropic", "openai", "google-genai"):
        found = clients.variables(name, url, clients.NO_KEY)
        lines.append(f"  export {' '.join(f'{key}={value}' for key, value in found.items())}")
    elsewhere = "" if url.endswith(DEFAULT_LISTEN) else f" --listen {url.removeprefix('http://')}"
    others = "   # or codex, gemini, qwen, opencode, aider, llm"
    return "\n".join([*lines, f'  eval "$(ccproxy-lite env claude{elsewhere})"{others}'])


def behind(config: Config, source: str) -> str:
    """One line about what answers."""
    if [upstream.format for upstream in config.upstreams] == ["echo"]:
        return f"behind it: only the embedded echo, which says back what it hears ({source})"
    names = ", ".join(f"{upstream.name} ({upstream.format})" for upstream in config.upstreams)
    return f"behind it: {names} (from {source})"
