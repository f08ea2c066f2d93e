"""``ccproxy-lite models``: what a client can ask for, and where each goes."""

from __future__ import annotations

import argparse
import sys

import anyio

from ccproxy_lite.cli.load import load
from ccproxy_lite.config.model import Config
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.relay.catalog import Catalog
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.routing.routes import resolve
from ccproxy_lite.server.lifecycle import upstreams


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0, 1 if there is no model at all."""
    config, _ = load(arguments.config)
    rows = anyio.run(_read_rows, config)
    if arguments.json:
        print(dumps([{"model": name, "targets": targets} for name, targets in rows]))
    else:
        for name, targets in rows:
            print(f"{name} -> {', then '.join(targets)}")
    if not rows:
        print("no model is known: no upstream lists any, and models is empty in the configuration", file=sys.stderr)
    return 0 if rows else 1


async def _read_rows(config: Config) -> list[tuple[str, list[str]]]:
    async with upstreams(config, Vault()) as relay:
        names = await Catalog(relay).names()
    patterns = [name for name, _ in config.models if name not in names]
    rows = [(name, [str(route) for route in resolve(config, name, "")]) for name in names]
    targets = dict(config.models)
    return rows + [(name, list(targets[name])) for name in patterns]
