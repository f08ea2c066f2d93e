"""``ccproxy-lite models [NAME]``: what a client can ask for, and where each goes; of one name, who answers and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import anyio

from ccproxy_lite.cli.load import load
from ccproxy_lite.config.model import Config, ModelTarget
from ccproxy_lite.errors import CcproxyError, ClientError
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.relay.catalog import Catalog
from ccproxy_lite.relay.facts import Listed
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.routing.conditions import described
from ccproxy_lite.routing.routes import is_glob, resolve
from ccproxy_lite.server.lifecycle import upstreams


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0, 1 if there is no model at all, or nobody who answers the one that was named."""
    config, _ = load(arguments.config)
    if arguments.name:
        answer = anyio.run(_ask_for, config, arguments.name)
        lines: Iterator[str] = iter([dumps(answer)]) if arguments.json else _answer_lines(answer)
        for line in lines:
            print(line)
        return 0
    rows = anyio.run(_read_rows, config)
    if arguments.json:
        print(dumps([{"model": info.id, "targets": targets, **_numbers(info)} for info, targets in rows]))
    else:
        for info, targets in rows:
            print(f"{info.id} -> {', then '.join(targets)}{_size(info)}")
    if not rows:
        print("no model is known: no upstream lists any, and models is empty in the configuration", file=sys.stderr)
    return 0 if rows else 1


async def _read_rows(config: Config) -> list[tuple[ModelInfo, list[str]]]:
    async with upstreams(config, Vault()) as relay:
        catalog = Catalog(relay)
        models = await catalog.models()
        facts, entries = Listed(relay.upstreams.lists), dict(config.models)
        rows = [
            (info, _target_texts(entries[info.id]) if info.id in entries else _routes(config, info.id, facts))
            for info in models
        ]
    return rows + [(ModelInfo(name), _target_texts(targets)) for name, targets in config.models if is_glob(name)]


def _routes(config: Config, name: str, facts: Listed) -> list[str]:
    return [str(route) for route in resolve(config, name, "", facts=facts)]


def _target_texts(targets: tuple[ModelTarget, ...]) -> list[str]:
    return [f"{one.to} (when {described(one.when)})" if one.when is not None else one.to for one in targets]


async def _ask_for(config: Config, name: str) -> dict[str, Any]:
    async with upstreams(config, Vault()) as relay:
        catalog = Catalog(relay)
        await catalog.refresh(relay.config.upstreams)
        try:
            routes = resolve(config, name, "", facts=Listed(relay.upstreams.lists))
        except ClientError as error:
            raise CcproxyError(error.message) from None
        info = catalog.described(name)
        listed = relay.upstreams.lists
    targets = []
    for route in routes:
        told = listed.get(route.upstream.name)
        models = route.upstream.models or told or ()
        entry: dict[str, Any] = {"target": str(route), "rule": route.rule}
        entry |= {"effort": route.effort} if route.effort else {}
        entry |= {"set": loads(route.overlay)} if route.overlay else {}
        entry |= {"listed": route.model in models} if models else {}
        targets.append(entry)
    return {"model": name, "targets": targets, **_numbers(info)}


def _answer_lines(answer: dict[str, Any]) -> Iterator[str]:
    for number, target in enumerate(answer["targets"]):
        effort = f", effort {target['effort']}" if "effort" in target else ""
        overlay = f", set {dumps(target['set'])}" if "set" in target else ""
        missing = "" if target.get("listed", True) else "; the upstream does not list it"
        yield f"{'then ' if number else ''}{target['target']}{effort}{overlay} ({target['rule']}{missing})"
    numbers = [f"{answer[key]:,} {what}" for key, what in _NUMBERS if key in answer]
    if numbers:
        yield f"tokens: {', '.join(numbers)}"


_NUMBERS = (("context_tokens", "in the context window"), ("output_tokens", "in an answer"))


def _numbers(info: ModelInfo) -> dict[str, Any]:
    told = {"name": info.name, "context_tokens": info.context_tokens, "output_tokens": info.output_tokens}
    return {key: value for key, value in told.items() if value}


def _size(info: ModelInfo) -> str:
    return f" [{info.context_tokens:,} tokens]" if info.context_tokens else ""
