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
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.routing.conditions import condition_text
from ccproxy_lite.routing.routes import Listed, Route, is_glob, resolve, suggestion
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
        catalog = relay.catalog
        models, entries = await catalog.models(), dict(config.models)
        rows = [
            (
                info,
                _target_texts(entries[info.id])
                if info.id in entries
                else [str(one) for one in catalog.routes(info.id)],
            )
            for info in models
        ]
    return rows + [(ModelInfo(name), _target_texts(targets)) for name, targets in config.models if is_glob(name)]


def _target_texts(targets: tuple[ModelTarget, ...]) -> list[str]:
    return [f"{one.to} (when {condition_text(one.when)})" if one.when is not None else one.to for one in targets]


async def _ask_for(config: Config, name: str) -> dict[str, Any]:
    async with upstreams(config, Vault()) as relay:
        catalog = relay.catalog
        await catalog.refresh(relay.config.upstreams)
        try:
            routes = resolve(config, name, "", facts=Listed(relay.upstreams.lists, repeats=True))
            info = catalog.described(name)
        except ClientError as error:
            raise CcproxyError(error.message) from None
        problem, otherwise = "", list[Route]()
        if all(route.condition is not None for route in routes):
            try:
                otherwise = resolve(config, name, "", facts=Listed(relay.upstreams.lists, fits=False))
            except ClientError as error:
                problem = error.message
        answer = {"model": name, "targets": [_target(catalog, route) for route in routes], **_numbers(info)}
        answer |= {"otherwise": [_target(catalog, route) for route in otherwise]} if otherwise else {}
    return {**answer, "otherwise_error": problem} if problem else answer


def _target(catalog: Catalog, route: Route) -> dict[str, Any]:
    names = catalog.listed_by(route.upstream)
    told: dict[str, Any] = {"target": str(route), "rule": route.rule}
    told |= {"when": condition_text(route.condition)} if route.condition is not None else {}
    told |= {"effort": route.effort} if route.effort else {}
    told |= {"set": loads(route.overlay)} if route.overlay else {}
    told |= {"listed": route.model in names} if names else {}
    if names and route.model not in names:
        told["hint"] = suggestion(route.model, names)
    return told


def _answer_lines(answer: dict[str, Any]) -> Iterator[str]:
    """One line for each target, in the order of failover; what has a condition is for such requests alone."""
    before = ""
    for target in [*answer["targets"], *answer.get("otherwise", ())]:
        prefix = f"when {target['when']}: " if "when" in target else before
        before = "otherwise: " if "when" in target else "if that fails: "
        effort = f", effort {target['effort']}" if "effort" in target else ""
        overlay = f", set {dumps(target['set'])}" if "set" in target else ""
        yield f"{prefix}{target['target']}{effort}{overlay} ({target['rule']})"
        if "hint" in target:
            yield f"  {target['target'].partition('/')[0]} does not list this name; {target['hint']}"
    if "otherwise_error" in answer:
        yield f"otherwise: 404, {answer['otherwise_error']}"
    numbers = [f"{what}: {answer[key]:,} tokens" for key, what in _NUMBERS if key in answer]
    if numbers:
        yield "; ".join(numbers)


_NUMBERS = (("context_tokens", "context window"), ("output_tokens", "output limit"))


def _numbers(info: ModelInfo) -> dict[str, Any]:
    told = {"name": info.name, "context_tokens": info.context_tokens, "output_tokens": info.output_tokens}
    return {key: value for key, value in told.items() if value}


def _size(info: ModelInfo) -> str:
    return f" [{info.context_tokens:,} tokens]" if info.context_tokens else ""
