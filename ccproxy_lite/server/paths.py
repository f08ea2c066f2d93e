"""URLs: which endpoint one leads to, and the upstream and session that it names. Pure.

Which paths belong to a wire format, the registry of formats knows; here stand those of the program itself.

>>> matched = match("/api/provider/work/v1/models", "/api/provider/work/v1/models", "")
>>> matched.pinned_upstream, matched.endpoint.action
('work', 'models')
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple
from urllib.parse import unquote

from ccproxy_lite.config.model import Mount
from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import VERSIONS, api_folders, formats_at, is_api_path, model_list_at
from ccproxy_lite.formats import routes as form_routes
from ccproxy_lite.formats.format import PathInfo

Action = Literal["message", "count", "models", "model", "root", "health", "status", "metrics", "raw", "mount"]

_READ = ("GET", "HEAD")
_ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_PINNED = "/api/provider/"
_DOUBLED = re.compile(rf"/(?:{'|'.join(VERSIONS)})/(?:{'|'.join(VERSIONS)})/")
"""What comes of a base URL with a version where none belongs."""
_TWICE_ESCAPED = re.compile("%25[0-9A-Fa-f]{2}")
"""What hides where a path leads."""
_VERSION = re.compile(rf"(?:/upload)?/(?:{'|'.join(VERSIONS)})(?=/)")
_SLASHES = re.compile("/{2,}")
_SESSION = re.compile(
    rf"/(?!(?:{'|'.join(VERSIONS)}|api|upload|\.\.?)/)([\w.~:@=+-]{{1,256}})(?=/(?:{'|'.join(VERSIONS)})/)", re.ASCII
)


class Endpoint(NamedTuple):
    """An endpoint: its methods, and the format of its responses (empty: the client's).

    ``open`` ones require no client key. ``path_info`` is what a wire format's URL says, for one model its name.
    ``about`` is what users are told of it.
    """

    action: Action
    methods: tuple[str, ...] = _READ
    format: str = ""
    open: bool = False
    path_info: PathInfo = PathInfo()
    about: str = ""


class Match(NamedTuple):
    """What a URL stands for: an endpoint, or None; the upstream and the session before it; the path behind them.

    ``raw_path`` is that path as it was sent, where it may be passed on, and ``mount`` the one that it leads through.
    """

    endpoint: Endpoint | None
    pinned_upstream: str
    session: str
    path: str
    raw_path: str
    mount: Mount | None = None


_OTHERS = {
    "/": Endpoint("root", open=True, about="the dashboard in a browser, else a line of text"),
    "/healthz": Endpoint("health", open=True, about="200 while serving, 503 while draining"),
    "/status": Endpoint("status", (*_READ, "POST"), about="keys, cooldowns, counters as JSON; POST clears a cooldown"),
    "/metrics": Endpoint("metrics", about="Prometheus metrics"),
    "/api/hello": Endpoint("root", open=True, about="200, for clients that look whether somebody is there"),
}
"""The program's own endpoints. Clients ask for the first and the last to see whether somebody is there."""
_RAW = Endpoint("raw", _ANY)
_MOUNT = Endpoint("mount", _ANY)
STREAMED: tuple[Action, ...] = ("raw", "mount")
"""What passes bodies on while they arrive, whatever they are."""


def routes() -> list[tuple[str, str]]:
    """All that is answered, for users: method and path, and what answers."""
    folders = ", ".join(api_folders())
    return [
        *form_routes(),
        *((f"{'|'.join(one.methods)} {path}", one.about) for path, one in _OTHERS.items()),
        (
            f"{_PINNED}{{upstream}}/...",
            "all of the above, pinned to an upstream or a vendor's first; also without v1/",
        ),
        (f"/{{session}}/{VERSIONS[0]}/...", "the same paths, in that session; with a pin, it stands behind it"),
        ("mounts of the configuration", "passed through to a client's own service"),
        (f"anything else below {folders}", "passed on untouched to the upstream of its vendor"),
    ]


@lru_cache(maxsize=256)  # clients ask for the same few again and again
def match(path: str, raw_path: str, query: str, mounts: tuple[Mount, ...] = ()) -> Match:
    """What a URL stands for; ``path`` is percent-decoded, ``raw_path`` as sent. Of mounts the first that fits."""
    as_sent, skipped = raw_path, 0
    pinned_upstream = session = ""
    path, raw_path = _tidy(path), _tidy(raw_path)
    if raw_path.startswith(_PINNED):
        name, _, raw_path = raw_path[len(_PINNED) :].partition("/")
        skipped = 3
        pinned_upstream, raw_path = unquote(name), f"/{raw_path}"
        path = unquote(raw_path)
    named = _SESSION.match(path)
    if named is not None and raw_path.startswith(named[0]):
        session, path, raw_path = named[1], path[named.end() :], raw_path[named.end() :]
        skipped += 1
    endpoint = _endpoint_at(path, raw_path, query)
    if endpoint is None and pinned_upstream:  # where base URLs end is a matter of taste
        endpoint = _endpoint_at(f"/{VERSIONS[0]}{path}", f"/{VERSIONS[0]}{raw_path}", query)
    if endpoint is not None and endpoint.action != "model":
        return Match(endpoint, pinned_upstream, session, path, raw_path)
    if endpoint is None and _has_dot_segments(raw_path):
        return Match(None, pinned_upstream, session, path, raw_path)
    if endpoint is None and not pinned_upstream:
        mount = next((one for one in mounts if _is_behind(one.path, as_sent)), None)
        if mount is not None:
            kept = as_sent[len(mount.path.rstrip("/")) :] if mount.strip else as_sent
            return Match(_MOUNT, "", "", path, kept, mount)
    is_mistaken = _DOUBLED.match(raw_path) or _TWICE_ESCAPED.search(raw_path)
    if endpoint is None and not is_mistaken and ((pinned_upstream and path != "/") or is_api_path(raw_path)):
        endpoint = _RAW
    return Match(endpoint, pinned_upstream, session, path, _as_sent(as_sent, skipped, raw_path))


def _as_sent(whole: str, skipped: int, tidied: str) -> str:
    """A path without so many segments at its beginning, untouched behind the version of the API.

    >>> _as_sent("//api/provider/up//v1//files//x/", 3, "/v1/files/x")
    '/v1/files//x/'
    """
    version = _VERSION.match(tidied)
    kept = version[0] if version is not None else ""
    before = re.match(rf"(?:/+[^/]+){{{skipped + kept.count('/')}}}", whole)
    assert before is not None, "the tidied path has as many"
    return kept + re.sub("^/+", "/", whole[before.end() :])


def _is_behind(mount: str, raw_path: str) -> bool:
    return raw_path.startswith(mount) if mount.endswith("/") else raw_path == mount


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
    if endpoint.action in STREAMED and upgrades:
        raise ClientError(426, "WebSocket is not supported; use HTTP")
    if method in endpoint.methods:
        return endpoint
    # A model's methods, and those that change one.
    if endpoint.action == "model" and (matched.pinned_upstream or is_api_path(matched.raw_path)):
        return _RAW
    if upgrades:
        raise ClientError(426, "WebSocket is not supported; use HTTP")
    raise ClientError(405, f"method not allowed; use {' or '.join(endpoint.methods)}")


def _has_dot_segments(raw_path: str) -> bool:
    """Whether a path may lead out of the folder that it begins with.

    >>> _has_dot_segments("/v1/%2e%2e/admin"), _has_dot_segments("/v1/..;/admin"), _has_dot_segments("/v1/files/..a")
    (True, True, False)
    """
    return any(one.partition(";")[0] in (".", "..") for one in re.split(r"[/\\]", unquote(raw_path)))
