"""Which headers are passed on, and which the proxy adds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import parse_qsl

from ccproxy_lite import __version__, providers
from ccproxy_lite.config.model import Upstream
from ccproxy_lite.formats import KEY_HEADERS
from ccproxy_lite.net.framing import Headers, tokens
from ccproxy_lite.net.heads import OutHeaders, RequestHead
from ccproxy_lite.routing.routes import Route

HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    "upgrade".split()
)


class Withheld(NamedTuple):
    """Names of headers that are not passed on: of the client's to the upstream, and of the upstream's to the client."""

    up: frozenset[str]
    down: frozenset[str]

    def but(self, up: Iterable[str], down: Iterable[str]) -> Withheld:
        """The same without some of the names."""
        return Withheld(self.up.difference(up), self.down.difference(down))


MESSAGES = Withheld(
    up=HOP_BY_HOP.union(
        "host content-length content-encoding accept-encoding expect authorization".split(),
        "cookie origin referer forwarded via".split(),
        KEY_HEADERS,
        providers.KEY_HEADERS,
    ),
    down=HOP_BY_HOP.union("content-length content-encoding set-cookie date alt-svc".split()),
)
"""Where bodies are read, and their coding is undone."""
RAW = MESSAGES.but(up=("content-encoding", "accept-encoding"), down=("content-encoding",))
"""Where bodies are passed on untouched, and so is what describes their coding."""
MOUNTED = RAW.but(up=("cookie",), down=("set-cookie", "date"))
"""Where the client talks to one service, as far as it knows."""
REQUEST_ID = "x-request-id"
_UPSTREAM_REQUEST_ID = "x-ccproxy-upstream-request-id"
_LIMITS = ("ratelimit", "rate-limit")
"""In names of headers that say what is left to the key that has answered."""
_NOT_UP_PREFIXES = ("x-ccproxy-", "x-forwarded-", "sec-", "access-control-", "x-real-")

USER_AGENT = f"ccproxy-lite/{__version__}"
JSON_HEADERS: OutHeaders = [("content-type", "application/json")]
SSE_HEADERS: OutHeaders = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]


def presented_keys(head: RequestHead) -> list[str]:
    """Every key that a request carries; the first is the one that counts."""
    keys = [value for name in KEY_HEADERS for value in head.all(name)]
    for value in head.all("authorization"):
        scheme, _, token = value.partition(" ")
        # An unknown scheme counts as an empty key, so that it does not pass for "no key".
        keys.append(token.strip() if scheme.lower() == "bearer" else "")
    keys += [value for name, value in parse_qsl(head.query, keep_blank_values=True) if name == "key"]
    return keys


def sends_bearer(head: RequestHead) -> bool:
    """Whether the key that counts is a bearer token."""
    return head.get("authorization") is not None and all(head.get(name) is None for name in KEY_HEADERS)


def for_upstream(head: RequestHead, withheld: Withheld = MESSAGES) -> list[tuple[str, str]]:
    """The client's headers that are passed on to an upstream of the same format."""
    # Headers that ``Connection`` names are for this hop only: RFC 9110 section 7.6.1.
    named = {token.decode("latin-1") for token in tokens(head.headers, b"connection")}
    kept = []
    for raw_name, value in head.headers:
        name = raw_name.decode("latin-1")
        # Underscores are how header names are smuggled past proxies into CGI variables.
        if name in withheld.up or name in named or "_" in name or name.startswith(_NOT_UP_PREFIXES):
            continue
        kept.append((name, value.decode("latin-1")))
    return kept


def for_converted(streaming: bool) -> list[tuple[str, str]]:
    """The headers of a converted request: none of the client's."""
    # Nothing of the client's: its headers describe another format, and its key is not the upstream's.
    accept = "text/event-stream" if streaming else "application/json"
    return [("content-type", "application/json"), ("accept", accept), ("user-agent", USER_AGENT)]


def for_client(headers: Headers, upstream: Upstream, withheld: Withheld = MESSAGES) -> OutHeaders:
    """The upstream's headers that are passed on to a client of the same format.

    Of several keys, what is left to one means nothing to the client. The upstream's request id keeps a name of its own.
    """
    named = {token.decode("latin-1") for token in tokens(headers, b"connection")}
    is_pool = len(upstream.keys) > 1
    passed_on = []
    for raw_name, value in headers:
        name = raw_name.decode("latin-1")
        if name in withheld.down or name in named or name.startswith("access-control-"):
            continue
        if not (is_pool and any(word in name for word in _LIMITS)):
            name = _UPSTREAM_REQUEST_ID if name == REQUEST_ID else name
            passed_on.append((name, value.decode("latin-1")))
    return passed_on


def configured(upstream: Upstream, head: RequestHead | None) -> list[tuple[str, str]]:
    """The headers that the configuration adds; ``$header:Name`` copies the client's."""
    added = []
    for name, value in upstream.headers:
        if value.startswith("$header:"):
            copied = head.get(value[8:].lower()) if head else None
            if copied is not None:
                added.append((name, copied))
        else:
            added.append((name, value))
    return added


def merged(*groups: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """All headers, a later group overriding the names of earlier ones."""
    result = list(groups[0])
    for group in groups[1:]:
        new = list(group)
        if new:
            names = {name for name, _ in new}
            result = [one for one in result if one[0] not in names]
            result += new
    return result


def about_answer(route: Route, dropped: tuple[str, ...]) -> OutHeaders:
    """The headers that the proxy adds to a response: its route, and the fields that were dropped."""
    answer_headers: OutHeaders = [("x-ccproxy-upstream", _header_safe(str(route)))]
    if dropped:
        answer_headers.append(("x-ccproxy-dropped", _header_safe(", ".join(dropped))[:2000]))
    return answer_headers


def _header_safe(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text.strip()
    return "".join(char if "\x20" <= char <= "\x7e" else "?" for char in text).strip()
