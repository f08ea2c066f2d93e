"""``ccproxy-lite check``: validate the configuration and show what it comes to; with ``--live``, ask the upstreams."""

from __future__ import annotations

import argparse
import os
import stat
from dataclasses import replace
from pathlib import Path

import anyio

from ccproxy_lite import secrets
from ccproxy_lite.catalog import Catalog
from ccproxy_lite.commands.load import load, places, with_options
from ccproxy_lite.config import Config, Upstream
from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.secrets import Vault
from ccproxy_lite.server import upstreams


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0 if it can be used (and with ``--live`` every key works), 1 if one does not, 2 if it is wrong."""
    config, source = load(arguments.config)
    config = with_options(config, None, None, None)
    print(f"configuration: {source}")
    print(f"listens at:    {config.listen}" + ("" if config.client_keys else " (no client key needed)"))
    for upstream in config.upstreams:
        _show(upstream)
    for name, targets in config.models:
        print(f"model {name} -> {', then '.join(targets)}")
    for note in [*config.notes, *_file_notes(source, config)]:
        print(f"note: {note}")
    if not Path(source).is_file():
        print(f"looked for: {', '.join(places(os.environ))}")
    if arguments.live:
        return anyio.run(_ask, config)
    print("ok")
    return 0


def _show(upstream: Upstream) -> None:
    where = upstream.base_url or "embedded"
    keys = ", ".join(key.label for key in upstream.keys) or "none"
    print(f"upstream {upstream.name}: {upstream.format} at {where}")
    print(f"  keys: {keys} (from {upstream.source})" if upstream.keys else f"  keys: {upstream.source or 'none'}")
    if upstream.proxy_source:
        print(f"  proxy: {upstream.proxy} (from {upstream.proxy_source})" if upstream.proxy else "  proxy: none")
    if upstream.models:
        print(f"  models: {', '.join(upstream.models)}")
    if upstream.quirks:
        print(f"  quirks: {', '.join(sorted(upstream.quirks))}")


def _file_notes(source: str, config: Config) -> list[str]:
    """A file that others can read should not hold a key."""
    literal = any(secrets.is_literal(key.secret) for upstream in config.upstreams for key in upstream.keys)
    literal = literal or any(secrets.is_literal(key) for key in config.client_keys)
    path = Path(source)
    if literal and path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return [f"{source} holds keys and others can read it: chmod 600 {source}"]
    return []


async def _ask(config: Config) -> int:
    failures = 0
    for upstream in config.upstreams:
        if upstream.from_client:
            print(f"live {upstream.name}: not asked, it gets the client's own key")
            continue
        for key in upstream.keys or (None,):
            one = replace(upstream, keys=(key,) if key else ())
            vault = Vault()
            label = key.label if key else "no key"
            async with upstreams(replace(config, upstreams=(one,)), vault) as relay:
                try:
                    names = await Catalog(relay).ask(one)
                    print(f"live {upstream.name} with {label}: {len(names)} models")
                except UpstreamError as error:
                    failures += 1
                    print(f"live {upstream.name} with {label}: {vault.redact(error.message)}")
    return 1 if failures else 0
