"""``ccproxy-lite health``: does the proxy serve? For health checks of containers, which have no curl."""

from __future__ import annotations

import argparse

from ccproxy_lite.cli.ask import address_of, ask
from ccproxy_lite.errors import CcproxyError, printable


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0 if the proxy is up, 1 if it does not respond or is draining."""
    listen = arguments.listen or address_of(arguments.config)[0]
    status, answer = ask(listen, (), "/healthz", patience_s=5)
    word = answer.get("status") if isinstance(answer, dict) else None
    if status != 200 or word != "ok":
        raise CcproxyError(
            f"the proxy at {listen} is {printable(word)}"
            if isinstance(word, str)
            else f"something else is listening at {listen} (not ccproxy-lite)"
        )
    print("ok")
    return 0
