"""``ccproxy-lite env [CLIENT]``: lines for a shell that lead clients to a proxy that runs."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence

import anyio

from ccproxy_lite import clients, secrets
from ccproxy_lite.address import Address
from ccproxy_lite.commands.load import load
from ccproxy_lite.errors import CcproxyError, ConfigError
from ccproxy_lite.jsontext import dumps

_KEY = "\0key\0"
"""Stands for the key until it is written in the shell's own words."""


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0, 1 if the address of the proxy cannot be known, 2 if it is wrong."""
    config, _ = load(arguments.config)
    url = _url(arguments.listen or config.listen)
    key = config.client_keys[0] if config.client_keys else clients.NO_KEY
    found = clients.variables(arguments.client, url, _KEY)
    cleared = [name for name in clients.redirecting(arguments.client) if name in os.environ and name not in found]
    flags = {name: clients.flags(name, url) for name in clients.CLIENTS if arguments.client in (None, name)}
    flags = {name: words for name, words in flags.items() if words}
    if arguments.json:
        value = _value(key)
        found = {name: text.replace(_KEY, value) for name, text in found.items()}
        print(dumps({"set": found, "unset": cleared, "flags": flags}))
        return 0
    for line in _LINES[arguments.shell](found, cleared, flags, key):
        print(line)
    file = clients.file_of(arguments.client or "")
    if file and file.content:
        print(f"# {arguments.client} wants a settings file, too: ccproxy-lite run -- {arguments.client} brings one")
    return 0


def _url(listen: str) -> str:
    try:
        address = Address.parse(listen)
    except ValueError as error:
        raise ConfigError([f"--listen {listen}: {error}"]) from None
    if address.path:
        raise CcproxyError(f"clients reach no unix socket by a URL: {listen}; serve at a port, too")
    if not address.port:
        raise CcproxyError("port 0 tells no address; say where it listens with --listen")
    return address.url(address.port)


def _value(spec: str) -> str:
    return anyio.run(secrets.Vault().value, spec, time.monotonic())


def _parts(text: str, spec: str) -> list[tuple[str, bool]]:
    """A value in pieces: text, or the name of a variable. A key that is in the environment is named, not shown."""
    name = secrets.variable(spec)
    before, found, behind = text.partition(_KEY)
    if not found or name is None:
        return [(text.replace(_KEY, _value(spec) if found else ""), False)]
    return [part for part in ((before, False), (name, True), (behind, False)) if part[0]]


def _sh(found: dict[str, str], cleared: Sequence[str], flags: dict[str, list[str]], key: str) -> Iterator[str]:
    for name, text in found.items():
        words = [f'"${part}"' if is_name else shlex.quote(part) for part, is_name in _parts(text, key)]
        yield f"export {name}={''.join(words)}"
    for name in cleared:
        yield f"unset {name}"
    for name, own in flags.items():
        yield f'{name}() {{ command {name} {shlex.join(own)} "$@"; }}'


def _fish(found: dict[str, str], cleared: Sequence[str], flags: dict[str, list[str]], key: str) -> Iterator[str]:
    def quote(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    for name, text in found.items():
        words = [f'"${part}"' if is_name else quote(part) for part, is_name in _parts(text, key)]
        yield f"set -gx {name} {''.join(words)}"
    for name in cleared:
        yield f"set -e {name}"
    for name, own in flags.items():
        yield f"function {name}; command {name} {' '.join(map(quote, own))} $argv; end"


def _powershell(found: dict[str, str], cleared: Sequence[str], flags: dict[str, list[str]], key: str) -> Iterator[str]:
    def quote(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    for name, text in found.items():
        words = [f"$env:{part}" if is_name else quote(part) for part, is_name in _parts(text, key)]
        yield f"$env:{name} = {' + '.join(words)}"
    for name in cleared:
        yield f"Remove-Item Env:{name}"
    for name, own in flags.items():
        program = f"(Get-Command -CommandType Application {name} | Select-Object -First 1)"
        yield f"function {name} {{ & {program} {' '.join(map(quote, own))} @args }}"


_LINES: dict[str, Callable[..., Iterator[str]]] = {"sh": _sh, "fish": _fish, "powershell": _powershell}
