"""``ccproxy-lite check``: validate the configuration and show what it comes to; with ``--live``, ask the upstreams."""

from __future__ import annotations

import argparse
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from ccproxy_lite.cli.load import load, places, with_options
from ccproxy_lite.cli.model_facts import hint, is_among
from ccproxy_lite.config import secrets
from ccproxy_lite.config.model import Config, Key, ModelTarget, Mount, Upstream
from ccproxy_lite.errors import ConfigError, UpstreamError
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.providers import CLOUDS, FIELDS
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.upstreams import check_trust
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.routing.conditions import condition_text
from ccproxy_lite.routing.routes import route_to
from ccproxy_lite.server.lifecycle import upstreams
from ccproxy_lite.server.paths import match

_NO_PROGRAM_LIST = "not run: a local program has no list of models"
_NO_LIST = "no model list here, key not verified"


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0 if it can be used (and with ``--live`` every key works), 1 if one does not, 2 if it is wrong."""
    try:
        config, source = load(arguments.config)
        config = with_options(config, arguments)
        check_trust(config)
    except ConfigError as error:
        if not arguments.json:
            raise
        print(dumps({"ok": False, "problems": error.problems}))
        return 2
    report = described(config, source)
    live = anyio.run(_ask_upstreams, config) if arguments.live else []
    # Exit code 1: the file is fine, a key or an upstream is not.
    failed = any("error" in answer for answer in live)
    if arguments.json:
        print(dumps({"ok": not failed, **report, **({"live": live} if arguments.live else {})}))
    else:
        for line in [*_report_lines(report), *map(_live_line, live)]:
            print(line)
        unverified = dict.fromkeys(answer["upstream"] for answer in live if answer.get("note") == _NO_LIST)
        if not failed:
            print(f"ok, but not verified: {', '.join(unverified)}" if unverified else "ok")
    return int(failed)


def described(config: Config, source: str) -> dict[str, Any]:
    """What a configuration comes to, keys by label only."""
    return {
        "source": source,
        "looked_for": [] if Path(source).is_file() else places(os.environ),
        "listen": config.listen,
        "client_keys": len(config.client_keys),
        "upstreams": [
            {
                "name": upstream.name,
                "format": upstream.format,
                "base_url": upstream.base_url,
                "keys": [key.label for key in upstream.keys],
                "keys_from": upstream.source,
                "proxy": str(upstream.proxy) if upstream.proxy else None,
                "proxy_from": upstream.proxy_source,
                "models": list(upstream.models),
                "quirks": sorted(upstream.quirks),
                "provider": upstream.provider.name,
                "auth": list(upstream.auth),
                "lists_models": upstream.lists or bool(upstream.models),
                **{name: value for name in FIELDS if (value := getattr(upstream, name))},
                **({"command": list(upstream.command)} if upstream.command else {}),
            }
            for upstream in config.upstreams
        ],
        "models": {name: [_described_target(target) for target in targets] for name, targets in config.models},
        "mounts": [_described_mount(mount) for mount in config.mounts],
        "capture": config.capture.dir,
        "notes": [*config.notes, *_file_notes(source, config), *_program_notes(config), *_mount_notes(config)],
    }


def _described_mount(mount: Mount) -> dict[str, Any]:
    service = mount.service
    return {
        "path": mount.path,
        "to": service.base_url,
        "keys": [key.label for key in service.keys],
        "auth": mount.auth,
        "loopback_only": mount.loopback_only,
        "strip": mount.strip,
    }


def _program_notes(config: Config) -> list[str]:
    """Local programs and credential helpers that are not there, and programs without names of models."""
    notes = []
    for upstream in config.upstreams:
        helpers = [key.reference for key in upstream.keys if key.reference.startswith("cmd:")]
        programs = [("keys", secrets.words(reference)[0]) for reference in helpers]
        programs += [("command", word) for word in upstream.command[:1]]
        for field, program in programs:
            if shutil.which(program) is None:
                notes.append(f"upstreams.{upstream.name}.{field}: {_why_missing(program)}")
        if upstream.provider.runs and not upstream.models:
            why = "without it clients are told of no model here; a local program has no list"
            notes.append(f"upstreams.{upstream.name}.models: {why}")
    return notes


def _why_missing(program: str) -> str:
    if os.sep not in program:
        return f"{program} is not installed (not found on PATH)"
    return f"{program} {'may not be executed' if Path(program).exists() else 'does not exist'}"


def _mount_notes(config: Config) -> list[str]:
    """Mounts that are never reached, because an endpoint of the proxy has their path."""
    hidden = []
    for mount in config.mounts:
        path = f"{mount.path}x" if mount.path.endswith("/") else mount.path  # something below a prefix
        if match(path, path, "", (mount,)).mount is None:
            hidden.append(f"mounts.{mount.path}: is never reached; the proxy's own endpoint comes first")
    return hidden


def _report_lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"configuration: {report['source']}"
    yield f"listen: {report['listen']}" + ("" if report["client_keys"] else " (no client key required)")
    for upstream in report["upstreams"]:
        where = upstream["base_url"] or " ".join(upstream.get("command", ())) or "built in"
        kind = f" ({upstream['provider']})" if upstream["provider"] in CLOUDS else ""
        yield f"upstream {upstream['name']}: {upstream['format']} at {where}{kind}"
        for name in FIELDS:
            if name in upstream:
                yield f"  {name}: {upstream[name]}"
        keys, source = ", ".join(upstream["keys"]), upstream["keys_from"]
        yield f"  keys: {keys} (from {source})" if keys else f"  keys: {source or 'none'}"
        if upstream["proxy_from"]:
            yield f"  proxy: {upstream['proxy'] or 'none'} (from {upstream['proxy_from']})"
        for name in ("models", "quirks"):
            if upstream[name]:
                yield f"  {name}: {', '.join(upstream[name])}"
    for name, targets in report["models"].items():
        yield from _rule_lines(name, targets)
    for mount in report["mounts"]:
        several = f"first of {', '.join(mount['keys'])} that is set" if len(mount["keys"]) > 1 else ""
        keys = f" ({several or 'key ' + mount['keys'][0]})" if mount["keys"] and mount["auth"] != "none" else ""
        yield f"mount {mount['path']} -> {mount['to']}{keys}"
    if report["capture"]:
        yield f"captures: {report['capture']}"
    yield from (f"note: {note}" for note in report["notes"])
    if report["looked_for"]:
        yield f"looked for: {', '.join(report['looked_for'])}"


def _described_target(target: ModelTarget) -> Any:
    """A target as the file has it; a condition in words."""
    if target == ModelTarget(target.to):
        return target.to
    told = {
        "to": target.to,
        "when": condition_text(target.when) if target.when is not None else None,
        "set": loads(target.overlay) if target.overlay else None,
        "name": target.name,
        "context_tokens": target.context_tokens,
        "output_tokens": target.output_tokens,
    }
    return {key: value for key, value in told.items() if value not in (None, "")}


def _rule_lines(name: str, targets: list[Any]) -> Iterator[str]:
    """An entry of ``models``: on one line where it has no conditions, else as a table of rules."""
    plain = [target if isinstance(target, str) else target["to"] for target in targets]
    if not any(isinstance(target, dict) and target.keys() & {"when", "set"} for target in targets):
        yield f"model {name} -> {', then '.join(plain)}"
        return
    yield f"model {name}:"
    otherwise = "always"
    for target in targets:
        rest = target if isinstance(target, dict) else {"to": target}
        condition = f"when {rest['when']}" if "when" in rest else otherwise
        otherwise = "otherwise" if "when" in rest else "then"
        overlay = f", set {dumps(rest['set'])}" if "set" in rest else ""
        yield f"  {condition} -> {rest['to']}{overlay}"


def _live_line(answer: dict[str, Any]) -> str:
    outcome = answer.get("error") or answer.get("note") or f"{answer.get('models')} models"
    who = f"live {answer['upstream']}" + (f" with {answer['key']}" if "key" in answer else "")
    missing = answer.get("not_listed", {})
    return "".join([f"{who}: {outcome}", *(f'\n  does not list "{name}"; {meant}' for name, meant in missing.items())])


def _file_notes(source: str, config: Config) -> list[str]:
    """A file that others can read should not hold a key."""
    literal = any(secrets.is_literal(key.reference) for upstream in config.upstreams for key in upstream.keys)
    literal = literal or any(secrets.is_literal(key) for key in config.client_keys)
    path = Path(source)
    # A reference may be readable by anybody, a key must not.
    if literal and path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return [f"{source} contains API keys and is readable by other users; run: chmod 600 {source}"]
    return []


def _not_listed(config: Config, upstream: Upstream, names: list[str]) -> dict[str, str]:
    """The models that targets name and the upstream does not list, nor its ``models``; and what may be meant."""
    routes = [route_to(config, target, "*") for _, targets in config.models for target in targets]
    wanted = dict.fromkeys(one.model for one in routes if one.upstream is upstream and "*" not in one.model)
    known = [*names, *upstream.models]
    return {model: hint(model, names) for model in wanted if not is_among(model, known)}


async def _answer_of(relay: Relay, config: Config, upstream: Upstream, key: Key | None) -> dict[str, Any]:
    """What an upstream says of its models; where it lists none, at least the key is had. Raises UpstreamError."""
    if not upstream.lists:
        if key is not None:
            await relay.upstreams.secret_of(upstream, key.reference)
        return {"note": _NO_LIST}
    names = [model.id for model in await relay.catalog.ask(relay.config.upstreams[0])]
    unlisted = _not_listed(config, upstream, names) if names else {}
    return {"models": len(names), **({"not_listed": unlisted} if unlisted else {})}


async def _ask_upstreams(config: Config) -> list[dict[str, Any]]:
    """What each upstream answers to each key."""
    answers: list[dict[str, Any]] = []
    for upstream in config.upstreams:
        if upstream.provider.runs:
            missing = shutil.which(upstream.command[0]) is None
            what = {"error": _why_missing(upstream.command[0])} if missing else {"note": _NO_PROGRAM_LIST}
            answers.append({"upstream": upstream.name, **what})
            continue
        if upstream.from_client:
            answers.append({"upstream": upstream.name, "note": "not contacted: it gets the client's own key"})
            continue
        # A proxy of its own for each key, so that failover does not hide one that fails.
        for key in upstream.keys or (None,):
            one = replace(upstream, keys=(key,) if key else ())
            vault = Vault()
            answer: dict[str, Any] = {"upstream": upstream.name, "key": key.label if key else "no key"}
            async with upstreams(replace(config, upstreams=(one,)), vault) as relay:
                try:
                    answer |= await _answer_of(relay, config, upstream, key)
                except UpstreamError as error:
                    answer["error"] = vault.redact(error.message)
            answers.append(answer)
    return answers
