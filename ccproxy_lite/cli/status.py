"""``ccproxy-lite status``: keys, cooldowns, sessions and counters of a running proxy; ``--reset`` clears cooldowns."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from ccproxy_lite.cli.ask import address_of, ask
from ccproxy_lite.clock import duration
from ccproxy_lite.errors import CcproxyError, printable
from ccproxy_lite.jsontext import dumps


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0 if the proxy answered, 1 if it did not, or knows no such key."""
    listen, client_keys = address_of(arguments.config)
    reset = {"reset": arguments.reset} if arguments.reset else None
    status, state_of_proxy = ask(arguments.listen or listen, client_keys, "/status", reset)
    if status == 401:
        remedy = "pass its configuration with --config, or set CCPROXY_CLIENT_KEY"
        raise CcproxyError(f"the proxy requires a client key: {remedy}")
    if status != 200:
        error = state_of_proxy.get("error") if isinstance(state_of_proxy, dict) else None
        raise CcproxyError(
            printable(str(error.get("message"))) if isinstance(error, dict) else f"the proxy returned {status}"
        )
    try:
        shown = [printable(line) for line in lines(state_of_proxy)]
    except (KeyError, TypeError, AttributeError):
        if not isinstance(state_of_proxy, dict) or "version" not in state_of_proxy:
            raise CcproxyError(
                f"something else is listening at {arguments.listen or listen} (not ccproxy-lite)"
            ) from None
        raise CcproxyError(f"the proxy at {arguments.listen or listen} is a different ccproxy-lite version") from None
    if arguments.json:
        print(dumps(state_of_proxy))
        return 0
    if arguments.reset:
        cleared = state_of_proxy.get("cleared") or ()
        print(f"cleared cooldowns: {', '.join(cleared)}" if cleared else "no key was cooling down")
    for line in shown:
        print(line)
    return 0


def lines(state_of_proxy: dict[str, Any]) -> Iterator[str]:
    """The state as text."""
    settings = state_of_proxy["configuration"]
    yield f"ccproxy-lite {state_of_proxy['version']}, {settings['source'] or 'no file'}, loaded {settings['loaded_at']}"
    for problem in settings["problems"]:
        yield f"reload failed at {settings['failed_at']}, keeping the previous configuration: {problem}"
    for name, upstream in state_of_proxy["upstreams"].items():
        where = f" at {upstream['base_url']}" if upstream["base_url"] else ""
        yield f"{name}: {upstream['format']}{where}" + (", the client's own key" if upstream["from_client"] else "")
        if upstream["unreachable_s"] is not None:
            yield f"  unreachable for {duration(upstream['unreachable_s'])}; other targets are tried first"
        if upstream["cached_input"] is not None:
            yield f"  input from the prompt cache: {upstream['cached_input']:.0%}"
        for key in upstream["keys"]:
            yield from _key_lines(key)
    yield f"sessions: {state_of_proxy['sessions']}"


def _key_lines(key: dict[str, Any]) -> Iterator[str]:
    last = f", last: {key['last'].replace('_', ' ')} {duration(key['last_s'])} ago" if key["last"] else ""
    state = "cooling down" if key["cooldowns"] else "ready"
    named = key["label"] if key["key"] in ("", key["label"]) else f"{key['label']} ({key['key']})"
    yield f"  {named}: {state}, {_count_text(key, 'attempt')}{last}"
    for cooldown in key["cooldowns"]:
        scope, reason = cooldown["model"] or "all models", cooldown["reason"].replace("_", " ")
        how = "from retry-after" if cooldown["source"] == "retry_after" else "estimated; still used as a last resort"
        yield f"    {scope}: {duration(cooldown['left_s'])} left ({reason}, {how}): {cooldown['message']}"
    for model, totals in key["models"].items():
        tokens = f"{totals['input_tokens']:,} in / {totals['output_tokens']:,} out"
        yield f"    {model}: {_count_text(totals, 'attempt')}, {tokens}"


def _count_text(counts: dict[str, Any], noun: str) -> str:
    return f"{counts['requests']:,} {noun}{'s' * (counts['requests'] != 1)}, {counts['failures']:,} failed"
