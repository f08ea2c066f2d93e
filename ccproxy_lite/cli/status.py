"""``ccproxy-lite status``: keys, rests, sessions and counters of a proxy that runs; ``--reset`` ends a key's rests."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from ccproxy_lite.cli.ask import address_of, ask
from ccproxy_lite.errors import CcproxyError
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.log import printable


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0 if the proxy answered, 1 if it did not, or knows no such key."""
    listen, client_keys = address_of(arguments.config)
    reset = {"reset": arguments.reset} if arguments.reset else None
    status, status_ = ask(arguments.listen or listen, client_keys, "/status", reset)
    if status == 401:
        remedy = "name its configuration with --config, or set CCPROXY_CLIENT_KEY"
        raise CcproxyError(f"the proxy wants a client key: {remedy}")
    if status != 200:
        error = status_.get("error") if isinstance(status_, dict) else None
        raise CcproxyError(
            printable(str(error.get("message"))) if isinstance(error, dict) else f"the proxy answered {status}"
        )
    try:
        shown = [printable(line) for line in lines(status_)]
    except (KeyError, TypeError, AttributeError):
        raise CcproxyError("what answers there is no ccproxy-lite of this version") from None
    if arguments.json:
        print(dumps(status_))
        return 0
    if arguments.reset:
        ended = status_.get("ended") or ()
        print(f"ended the rests of {', '.join(ended)}" if ended else f"{arguments.reset} did not rest")
    for line in shown:
        print(line)
    return 0


def lines(status_: dict[str, Any]) -> Iterator[str]:
    """The state for people."""
    settings = status_["configuration"]
    yield f"ccproxy-lite {status_['version']}, {settings['source'] or 'no file'}, loaded {settings['loaded_at']}"
    for problem in settings["problems"]:
        yield f"not reloaded at {settings['failed_at']}: {problem}"
    for name, upstream in status_["upstreams"].items():
        where = f" at {upstream['base_url']}" if upstream["base_url"] else ""
        yield f"{name}: {upstream['format']}{where}" + (", the client's own key" if upstream["from_client"] else "")
        for key in upstream["keys"]:
            yield from _key(key)
    yield f"sessions: {status_['sessions']}"


def _key(key: dict[str, Any]) -> Iterator[str]:
    last = f", last {key['last']} {_span(key['last_s'])} ago" if key["last"] else ""
    state = "rests" if key["rests"] else "ready"
    named = key["label"] if key["key"] in ("", key["label"]) else f"{key['label']} ({key['key']})"
    yield f"  {named}: {state}, {_requests(key)}{last}"
    for cooldown in key["rests"]:
        scope = cooldown["model"] or "all models"
        how = "as the service asked" if cooldown["hinted"] else "a guess: used if nothing else is left"
        yield f"    {scope} for {_span(cooldown['left_s'])} more, {cooldown['reason']} ({how}): {cooldown['message']}"
    for model, tally in key["models"].items():
        yield (f"    {model}: {_requests(tally)}, {tally['input_tokens']}/{tally['output_tokens']} tokens")


def _requests(counts: dict[str, Any]) -> str:
    return f"{counts['requests']} request{'s' * (counts['requests'] != 1)}, {counts['failures']} failed"


def _span(seconds: float) -> str:
    """A time as people say it.

    >>> _span(2.5), _span(90), _span(7300)
    ('2.5s', '1m30s', '2h01m')
    """
    if seconds < 60:
        return f"{seconds:g}s"
    minutes, cooldown = divmod(int(seconds), 60)
    return f"{minutes}m{cooldown:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"
