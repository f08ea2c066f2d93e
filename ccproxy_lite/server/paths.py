"""URLs: which endpoint one leads to, and the upstream and session that it names. Pure.

Which paths belong to a wire format, the registry of formats knows; here stand those of the program itself.

>>> matched = match("/api/provider/work/v1/models", "/api/provider/work/v1/models", "")
>>> matched.pinned_upstream, matched.endpoint.action
('work', 'models')
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import VERSIONS, formats_at, model_list_at
from ccproxy_lite.formats.format import PathInfo

Action = Literal["message", "count", "models", "model", "root", "health", "status", "metrics"]

_READ = ("GET", "HEAD")
_PINNED = "/api/provider/"
_SLASHES = re.compile("/{2,}")
_SESSION = re.compile(
    rf"/(?!(?:{'|'.join(VERSIONS)}|api|\.\.?)/)([\w.~:@=+-]{{1,256}})(?=/(?:{'|'.join(VERSIONS)})/)", re.ASCII
)


class Endpoint(NamedTuple):
    """An endpoint: its methods, and the format of its responses (empty: the client's).

    ``open`` ones require no client key. ``path_info`` is what a wire format's URL says, for one model its name.
    """

    action: Action
    methods: tuple[str, ...] = _READ
    format: str = ""
    open: bool = False
    path_info: PathInfo = PathInfo()


class Match(NamedTuple):
    """What a URL stands for: an endpoint, or None; the upstream and the session before it; the path behind them."""

    endpoint: Endpoint | None
    pinned_upstream: str
    session: str
    path: str


_OTHERS = {
    "/": Endpoint("root", open=True),
    "/healthz": Endpoint("health", open=True),
    "/status": Endpoint("status", (*_READ, "POST")),
    "/metrics": Endpoint("metrics"),
}


def match(path: str, raw_path: str, query: str) -> Match:
    """What a URL stands for; ``path`` is percent-decoded, ``raw_path`` as sent."""
    pinned_upstream = session = ""
    path, raw_path = _tidy(path), _tidy(raw_path)
    if path.startswith(_PINNED):
        pinned_upstream, _, path = path[len(_PINNED) :].partition("/")
        path, raw_path = f"/{path}", "/" + raw_path[len(_PINNED) :].partition("/")[2]
    named = _SESSION.match(path)
    if named is not None and raw_path.startswith(named[0]):
        session, path, raw_path = named[1], path[named.end() :], raw_path[named.end() :]
    return Match(_endpoint_at(path, raw_path, query), pinned_upstream, session, path)


def _tidy(path: str) -> str:
    """One slash where there are several, and none at the end: what comes of base URLs as people paste them."""
    return _SLASHES.sub("/", path).rstrip("/") or "/" if "//" in path or path.endswith("/") else path


def _endpoint_at(path: str, raw_path: str, query: str) -> Endpoint | None:
    """The endpoint at a path. An escaped slash is not a separator, but may be part of a model's name."""
    for form in formats_at(path):
        path_info = form.read_path(raw_path, query)
        if path_info is not None:
            action: Action = "count" if path_info.action == "count" else "message"
            return Endpoint(action, ("POST",), form.name, path_info=path_info)
    models = model_list_at(path)
    if models is not None and models.model is not None:
        return Endpoint("model", format=models.format, path_info=PathInfo(model=models.model))
    if models is not None and "%2f" not in raw_path.lower():
        return Endpoint("models", format=models.format)
    return _OTHERS.get(path) if "%2f" not in raw_path.lower() else None


def endpoint_for(matched: Match, method: str, path: str, *, upgrades: bool = False) -> Endpoint:
    """The endpoint, if there is one and it has that method. Raises ClientError.

    :param path: the whole path, for the message
    :param upgrades: whether the request asks for another protocol
    """
    endpoint = matched.endpoint
    if endpoint is None:
        hint = '; remove "/v1" from the client\'s base URL' if matched.path.startswith("/v1/v1/") else ""
        raise ClientError(404, f"unknown endpoint: {method} {path}{hint}")
    if method in endpoint.methods:
        return endpoint
    if endpoint.action == "model" and endpoint.path_info.model:  # it may be an unsupported method of Google's
        raise ClientError(404, f"unknown endpoint: {method} {path}")
    if upgrades:
        raise ClientError(426, "WebSocket is not supported; use HTTP")
    raise ClientError(405, f"method not allowed; use {' or '.join(endpoint.methods)}")
