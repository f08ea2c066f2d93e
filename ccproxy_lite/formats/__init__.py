"""The wire formats: the registry, and the facts about each that need no converters. Pure.

No format refers to another, and nothing outside to one: code that has to distinguish them by a path, a header or a
parameter asks here. A format's converters are imported when it is first used: most proxies use two of the four.

>>> sorted(FORMATS), model_list_at("/v1beta/models/gemini-3.5-flash")
(['anthropic', 'gemini', 'openai-chat', 'openai-responses'], ModelList(format='gemini', model='gemini-3.5-flash'))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import NamedTuple
from urllib.parse import parse_qsl

from ccproxy_lite.formats.format import Format

__all__ = ["FORMATS", "Format", "dialect", "formats_at", "model_list_at"]


class Profile(NamedTuple):
    """The facts about a format that need no converters.

    ``stem`` is part of all its request paths; ``own_paths`` are others, of this format alone. ``key_header`` is where
    its clients send their key. A client that sends one of ``headers`` or ``parameters``, or requests a path below
    ``folder``, speaks this format.
    """

    stem: str
    key_header: str = "authorization"
    headers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    folder: str = ""
    own_paths: tuple[str, ...] = ()


PROFILES = {
    "anthropic": Profile("/messages", "x-api-key", ("anthropic-version",)),
    "openai-responses": Profile("/responses", own_paths=("/v1/alpha/search",)),  # where Codex searches
    "openai-chat": Profile("/chat/completions"),
    "gemini": Profile(
        "/models/", "x-goog-api-key", ("x-goog-api-key", "x-goog-api-client"), ("key",), folder="/v1beta/"
    ),
}
DEFAULT_FORMAT = "openai-chat"
"""The format of a client without any sign of one."""
_PARTS = {"openai-completions": ("openai-chat", "COMPLETIONS", "/completions")}
"""Endpoints of clients that are part of a format: in which folder, under which name, and the stem of their paths."""
_STEMS = (*((name, profile.stem) for name, profile in PROFILES.items()), *((n, part[2]) for n, part in _PARTS.items()))
KEY_HEADERS = tuple(dict.fromkeys(p.key_header for p in PROFILES.values() if p.key_header != "authorization"))
"""The headers that carry nothing but a key."""
VERSIONS = ("v1", "v1beta", "v1alpha")
"""The versions of APIs, as paths begin with them."""
_API = re.compile(rf"/(?:upload/)?(?:{'|'.join(VERSIONS)})/(?!(?:{'|'.join(VERSIONS)})/).")
_GOOGLES = re.compile(
    r"/upload/|/v1(?:beta|alpha)/|/v1/models/.+:(?:embed|batch|asyncBatch|predict|generate|stream|count)\w*\Z"
)
"""What no other vendor's API has; the names of fine-tuned models contain colons, too."""
_MODEL_LISTS = {"/v1/models": "", "/models": "", "/v1beta/models": "gemini", "/v1alpha/models": "gemini"}
_ONE_MODEL = re.compile(r"(/v1(?:beta|alpha)?/models)/((?!.*/operations/).+)")


class _Formats(Mapping[str, Format]):
    """The formats by name, loaded one by one; parts of one can be had by their names, too, but are not listed."""

    def __init__(self) -> None:
        self._loaded: dict[str, Format] = {}

    def __getitem__(self, name: str) -> Format:
        if name not in self._loaded:
            folder, value, _ = _PARTS.get(name, (name, "FORMAT", ""))
            if folder not in PROFILES:
                raise KeyError(name)
            # On first use: most proxies never convert between all four, and each costs start time.
            module = import_module(f"ccproxy_lite.formats.{folder.replace('-', '_')}")
            self._loaded[name] = getattr(module, value)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in PROFILES

    def __iter__(self) -> Iterator[str]:
        return iter(PROFILES)

    def __len__(self) -> int:
        return len(PROFILES)


FORMATS = _Formats()


def formats_at(path: str) -> Iterator[Format]:
    """The formats that a path may belong to."""
    return (FORMATS[name] for name, stem in _STEMS if stem in path)


def detect_format(get: Callable[[str], str | None], query: str, path: str) -> Format:
    """The format of a client, if the path alone is ambiguous.

    :param get: gives the first value of a header, its name in lower case
    """
    for name, profile in PROFILES.items():
        # A header of an SDK is the strongest hint, a parameter the next, the path the last.
        if any(get(header) is not None for header in profile.headers):
            return FORMATS[name]
    named = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    for name, profile in PROFILES.items():
        if named.intersection(profile.parameters) or (profile.folder and path.startswith(profile.folder)):
            return FORMATS[name]
    return FORMATS[DEFAULT_FORMAT]


def is_api_path(path: str) -> bool:
    """Whether a path may belong to an API of a vendor, although no endpoint has it.

    >>> is_api_path("/v1/embeddings"), is_api_path("/upload/v1beta/files"), is_api_path("/v1/v1/messages")
    (True, True, False)
    """
    return _API.match(path) is not None


class Owner(NamedTuple):
    """To whom a path belongs that no endpoint has: to the vendor of a format, or (``only``) to this format alone."""

    format: str
    only: bool = False


def owner_of(path: str, query: str, get: Callable[[str], str | None]) -> Owner:
    """The owner of a path of an API: what stands below a format's own path is that format's.

    >>> owner_of("/v1/files", "", {}.get), owner_of("/v1/messages/batches", "", {}.get)
    (Owner(format='openai-chat', only=False), Owner(format='anthropic', only=True))
    """
    if _GOOGLES.match(path):
        return Owner("gemini")
    for name, profile in PROFILES.items():
        if f"{path}/".startswith(f"/v1{profile.stem}/") or path in profile.own_paths:
            return Owner(name, only=True)
    return Owner(detect_format(get, query, path).name)


LIST_ROUTES = (
    ("GET /v1/models", "the models, in the dialect of who asks"),
    ("GET /v1/models/{id}", "one of them"),
    ("GET /v1beta/models", "the models, as Google lists them; /v1beta/models/{id} for one"),
)
"""The endpoints that list models, and what answers."""


def routes() -> list[tuple[str, str]]:
    """The clients' endpoints of all formats, and what answers."""
    return [row for name in (*FORMATS, *_PARTS) for row in FORMATS[name].routes] + list(LIST_ROUTES)


def api_folders() -> list[str]:
    """Below which paths an API may have more than the formats know."""
    return [f"/{version}/" for version in VERSIONS] + [f"/upload/{VERSIONS[1]}/"]


class ModelList(NamedTuple):
    """A path that lists models: in one format (empty: the client's), all of them (None) or one."""

    format: str
    model: str | None = None


def model_list_at(path: str) -> ModelList | None:
    """The model list, or the part of one, that a path names; or None."""
    if path in _MODEL_LISTS:
        return ModelList(_MODEL_LISTS[path])
    one = _ONE_MODEL.fullmatch(path)
    return ModelList(_MODEL_LISTS[one[1]], one[2].removeprefix("models/")) if one else None
