"""``ccproxy-lite env [CLIENT]``: print shell commands that point clients at a running proxy."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote

import anyio

from ccproxy_lite.cli.ask import address_at, ask
from ccproxy_lite.cli.load import load
from ccproxy_lite.cli.model_facts import asked_models, model_facts
from ccproxy_lite.config import secrets
from ccproxy_lite.config.model import Config
from ccproxy_lite.errors import CcproxyError, ConfigError
from ccproxy_lite.formats import DEFAULT_FORMAT, FORMATS
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.server import clients
from ccproxy_lite.server.lifecycle import upstreams

_PATIENCE_S = 2.0
"""So long a running proxy may take to tell of a model."""
_KEY = "\0key\0"
"""Stands for the key until it is written in the shell's own words."""


class Shell(NamedTuple):
    """How a shell quotes, sets, joins, refers to a variable, unsets, and wraps a program."""

    quote: Callable[[str], str]
    assign: str
    join: str
    refer: str
    unset: str
    wrap: str


def fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _powershell_quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_SHELLS = {
    "sh": Shell(shlex.quote, "export {}={}", "", '"${}"', "unset {}", '{0}() {{ command {0} {1} "$@"; }}'),
    "fish": Shell(fish_quoted, "set -gx {} {}", "", '"${}"', "set -e {}", "function {0}; command {0} {1} $argv; end"),
    "powershell": Shell(
        _powershell_quoted, "$env:{} = {}", " + ", "$env:{}", "Remove-Item Env:{}",
        "function {0} {{ & (Get-Command -CommandType Application {0} | Select-Object -First 1) {1} @args }}",
    ),
}  # fmt: skip


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0, 1 if the address of the proxy cannot be known, 2 if it is wrong.

    Only address and client key matter here: variables of services may be those that an earlier run has changed.
    """
    config, _ = load(arguments.config, {**os.environ, **dict.fromkeys(clients.touched(), "changed-by-an-earlier-run")})
    url = _proxy_url(arguments.listen or config.listen)
    key = config.client_keys[0] if config.client_keys else clients.NO_KEY
    facts = clients.Model()
    if arguments.client:
        shown = _told_by_proxy(arguments.listen or config.listen, config.client_keys, asked_models([arguments.client]))
        facts = anyio.run(_facts, config, arguments.client, shown)
    variables = clients.variables(arguments.client, url, _KEY) | clients.about_model(arguments.client, facts, {})
    cleared = [name for name in clients.redirecting(arguments.client) if name in os.environ and name not in variables]
    flags = {name: clients.flags(name, url) for name in clients.CLIENTS if arguments.client in (None, name)}
    flags = {name: words + clients.window_flags(name, facts) for name, words in flags.items() if words}
    variable = secrets.variable(key)
    if variable is not None and not os.environ.get(variable):  # unset by an earlier run, which has passed it on
        holder = clients.holding_key(os.environ, url)
        if holder is None:
            raise ConfigError([f"client_keys[0]: environment variable {variable} is unset"])
        key, variable = f"${holder}", holder
    if arguments.json:
        variable = None
    if variable is None:  # else the key is in the environment, and named, not shown
        value = anyio.run(Vault().value, key, time.monotonic())
        variables = {name: text.replace(_KEY, value) for name, text in variables.items()}
    hints = list(_hints(arguments.client, facts)) if arguments.client else []
    if arguments.json:
        print(dumps({"set": variables, "unset": cleared, "flags": flags, "hints": hints}))
        return 0
    for line in _shell_lines(_SHELLS[arguments.shell], variables, cleared, flags, variable):
        print(line)
    for hint in hints:  # standard output is for the shell
        print(f"ccproxy-lite: {hint}", file=sys.stderr)
    return 0


def _hints(client: str, facts: clients.Model) -> Iterator[str]:
    """What variables cannot do, and what they do not tell because nobody knows it."""
    unknown = clients.unknown_window(client, facts, (), os.environ)
    if unknown:
        yield unknown
    if clients.needs_catalogue(client, facts):
        window = f"a context window of {facts.context_tokens:,} tokens"
        yield f'{client} accepts no flag for {window}; "ccproxy-lite run -- {client}" provides a catalogue'
    file = clients.file_of(client)
    if file and file.content:
        yield f'{client} also needs a settings file; "ccproxy-lite run -- {client}" provides one'


def _told_by_proxy(listen: str, client_keys: Sequence[str], names: Sequence[str]) -> dict[str, ModelInfo]:
    """What a running proxy says of models; nothing where there is none yet, or something else listens."""
    told: dict[str, ModelInfo] = {}
    form = FORMATS[DEFAULT_FORMAT]
    with suppress(CcproxyError):
        for name in names:
            status, answer = ask(
                listen, client_keys, f"/v1{form.models_path}/{quote(name, safe='')}", patience_s=_PATIENCE_S
            )
            if status == 200:
                told |= {info.id: info for info in form.read_models([answer]) if info.id == name}
    return told


async def _facts(config: Config, client: str, told: dict[str, ModelInfo]) -> clients.Model:
    """What is known of the model that answers a client; no service is asked."""
    async with upstreams(config, Vault()) as relay:
        return await model_facts(relay.catalog, [client], "", told)


def _proxy_url(listen: str) -> str:
    address = address_at(listen)
    if address.path:
        raise CcproxyError(f"clients cannot use a unix socket as base URL; also listen on a port: {listen}")
    return address.url(address.port)


def _shell_lines(
    shell: Shell, variables: dict[str, str], cleared: Sequence[str], flags: dict[str, list[str]], variable: str | None
) -> Iterator[str]:
    for name, text in variables.items():
        before, key, behind = text.partition(_KEY)
        pieces = [shell.quote(before) if before else "", shell.refer.format(variable) if key else ""]
        pieces.append(shell.quote(behind) if behind else "")
        yield shell.assign.format(name, shell.join.join(filter(None, pieces)))
    for name in cleared:
        yield shell.unset.format(name)
    for name, words in flags.items():
        yield shell.wrap.format(name, " ".join(map(shell.quote, words)))
