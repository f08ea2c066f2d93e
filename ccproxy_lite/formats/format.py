"""What a wire format offers: one value of pure functions. Nothing outside a format's folder knows its wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from ccproxy_lite.formats.neutral.events import (
    Event,
    Failed,
    Outgoing,
    PathInfo,
    Reader,
    Reply,
    Target,
    Watcher,
    Writer,
)

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import Request


class Counting(NamedTuple):
    """An upstream's own token counting: a message's path and body as it accepts them, and its answer read.

    ``path`` and ``body`` also take the model's name at the upstream.
    """

    path: Callable[[str, PathInfo], str]
    body: Callable[[Mapping[str, Any], str], dict[str, Any]]
    read: Callable[[Any], int]


class Format(NamedTuple):
    """A wire format in both roles.

    Client side: ``read_request``, ``writer``, ``write_body``, ``write_error``, ``write_models``, ``write_model``,
    ``write_count``.
    Upstream side: ``write_request``, ``reader``, ``read_body``, ``read_error``, ``read_models``, ``counting``.
    ``reader`` and ``read_body`` take a seed, from which ids are made where an upstream gives none.
    ``watcher`` looks on while a stream between two sides of this format is relayed as it is. ``without_foreign``
    returns a request body without what this service would refuse because another one made it, or None if all is well.
    ``read_path`` tells what a URL's raw path and query ask for, or None if they are not this format's; ``write_path``
    is its reverse for an upstream. ``breaks_off``: clients hear of a late failure only when the connection breaks.
    """

    name: str
    key_header: str
    read_path: Callable[[str, str], PathInfo | None]
    write_path: Callable[[str, PathInfo], str]
    models_path: str
    fixed_headers: tuple[tuple[str, str], ...]
    read_request: Callable[[Mapping[str, Any], PathInfo], Request]
    write_request: Callable[[Request, Target], Outgoing]
    read_body: Callable[[Mapping[str, Any], str], list[Event]]
    write_body: Callable[[Iterable[Event], Reply], dict[str, Any]]
    reader: Callable[[str], Reader]
    writer: Callable[[Reply], Writer]
    keep_alive: bytes
    watcher: Callable[[], Watcher]
    without_foreign: Callable[[Mapping[str, Any]], dict[str, Any] | None]
    read_error: Callable[[int, Any], Failed]
    write_error: Callable[[Failed], tuple[int, Mapping[str, Any]]]
    read_models: Callable[[Any], list[str]]
    write_models: Callable[[Sequence[str], int], dict[str, Any]]
    write_model: Callable[[str, int], dict[str, Any]]
    counting: Counting | None
    write_count: Callable[[int], dict[str, Any]]
    breaks_off: bool = False


def fixed_paths(paths: Mapping[str, PathInfo]) -> Callable[[str, str], PathInfo | None]:
    """``read_path`` of a format whose paths hold no names."""
    return lambda path, query: None if "%2f" in path.lower() else paths.get(unquote(path))
