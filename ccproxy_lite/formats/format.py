"""What a wire format offers: one value of pure functions. Nothing outside a format's folder knows its wire.

A ``Format`` holds both roles, the client's side and the upstream's. What goes in and comes out besides neutral requests
and events stands here too: what a URL says, what a request is written for, and what reads and writes streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from urllib.parse import unquote

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.formats.neutral.events import NOTHING, Event, Failed, Usage
from ccproxy_lite.formats.sse import Event as SseEvent
from ccproxy_lite.formats.sse import Usual

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import Effort, Request


class PathInfo(NamedTuple):
    """What the URL says beside the body: the action, and in Gemini's case the model and the kind of stream.

    ``streams`` is None where the body says it. ``array`` asks for a stream as one growing JSON array, and ``version``
    is the API's, as it stands in the path.
    """

    action: Literal["message", "count", "compact"] = "message"
    model: str = ""
    streams: bool | None = None
    array: bool = False
    version: str = ""


class Target(NamedTuple):
    """What a request is written for.

    ``session`` is the client's id of the conversation, if it gave one. ``caching``: a conversion may add what the
    service needs to find the prompt in its cache again; ``refused``: fields for that which it has rejected.
    """

    model: str
    quirks: frozenset[str] = frozenset()
    default_max_tokens: int = 8192
    budgets: Mapping[str, int] = NOTHING
    strict: bool = False
    session: str = ""
    caching: bool = False
    refused: frozenset[str] = frozenset()


class Outgoing(NamedTuple):
    """The body of a request in an upstream's format; where it goes, ``write_path`` says.

    ``names`` maps tool names on the wire to the client's, ``custom`` names custom tools that were sent as functions.
    ``for_cache`` names the fields that nobody has asked for, because they only serve the upstream's prompt cache; the
    first to do without first.
    """

    body: dict[str, Any]
    dropped: tuple[str, ...] = ()
    names: Mapping[str, str] = NOTHING
    custom: frozenset[str] = frozenset()
    for_cache: tuple[str, ...] = ()


class Parser(Protocol):
    """Cuts a stream into events."""

    @property
    def stray(self) -> str:
        """Text outside of events."""

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that these bytes complete. Raises UpstreamError."""

    def unfinished(self) -> bool:
        """Whether an event has begun that is not complete."""

    def check(self) -> None:
        """Raises UpstreamError if what has come behind the last event can be none."""

    def close(self) -> None:
        """The stream has ended. Raises UpstreamError where half an event must be one that was cut off."""


class Reader(Protocol):
    """Reads one streamed answer."""

    def feed(self, event: SseEvent) -> list[Event]:
        """What one server-sent event says. Raises UpstreamError for one that breaks the format."""

    def close(self) -> list[Event]:
        """The stream has ended: ``End`` if the format's ending was seen, else ``Failed``; nothing the second time."""


class Writer(Protocol):
    """Writes one streamed answer."""

    def write(self, event: Event) -> bytes:
        """The bytes for an event; empty if the format says nothing yet."""


@dataclass(slots=True)
class Progress:
    """How far a streamed answer has come, as far as code must know that only passes it on.

    :ivar content: content has begun; until then nothing needs to have reached the client
    :ivar ended: the format's ending was seen
    :ivar over: the answer is complete, and nothing more will come
    :ivar paused: the service has to be asked to go on; the client's answer is not over
    :ivar failed: the answer has failed, and its events say so
    :ivar is_foreign: they do not say it as the format does
    :ivar window_full: a finish reason says that the context window is full
    :ivar last: the data of the last event, and ``notes``, what else a format remembers for its ``write_failure``
    """

    content: bool = False
    ended: bool = False
    over: bool = False
    paused: bool = False
    failed: Failed | None = None
    is_foreign: bool = False
    window_full: bool = False
    usage: Usage | None = None
    last: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


class ReplyInfo(NamedTuple):
    """What a writer must know of the exchange: the client's ``request``, and identity and time from outside.

    ``previous`` is the response that it continues, and ``is_kept`` says whether this one can be continued.
    """

    request: Request
    id: str
    created: int
    previous: str = ""
    is_kept: bool = False


class Counting(NamedTuple):
    """Token counting by an upstream: a message's path and body as it accepts them, and how its response is read.

    ``path`` and ``body`` also take the model's name at the upstream.
    """

    path: Callable[[str, PathInfo], str]
    body: Callable[[Mapping[str, Any], str], dict[str, Any]]
    read: Callable[[Any], int]


class Turn(NamedTuple):
    """What one request adds to a conversation that is kept.

    :ivar id: of the response; ``previous`` is that of the one before it
    :ivar sealed: by the ids of items, what only the service can read that has made them
    """

    id: str
    asked: list[Any]
    response: Mapping[str, Any]
    previous: str = ""
    sealed: Mapping[str, str] = NOTHING

    @property
    def answered(self) -> list[Any]:
        """The items of the response."""
        return list(self.response.get("output") or ())


class Stored(NamedTuple):
    """What a path names: a stored response, or (``items``) what it was asked, and how that is to be listed.

    ``is_streamed``: the response is wanted as a stream.
    """

    id: str
    items: str | None = None
    is_streamed: bool = False


class State(NamedTuple):
    """Conversations that continue a stored response, for formats that have them.

    ``previous_id`` and ``wants_store`` say what a request's body wants, and ``refers_elsewhere`` which of its fields
    refers to what only its own service keeps; ``continued`` returns a body that holds the turns before it, ``unknown``
    the error if they are not kept, or only some of them are, ``missing`` that for one that was asked for. ``turn_of``
    is what a request and its response add, once the writer has written all of it. ``stored_at`` reads a raw path and
    query; ``write_items`` and ``write_deleted`` answer such requests.
    """

    previous_id: Callable[[Mapping[str, Any]], str]
    wants_store: Callable[[Mapping[str, Any]], bool]
    refers_elsewhere: Callable[[Mapping[str, Any]], str]
    unknown: Callable[[str, bool], ClientError]
    missing: Callable[[str], ClientError]
    continued: Callable[[Mapping[str, Any], Iterable[Turn]], dict[str, Any]]
    turn_of: Callable[[Mapping[str, Any], Writer, str], Turn | None]
    stored_at: Callable[[str, str], Stored | None]
    write_items: Callable[[Turn, str], dict[str, Any]]
    write_deleted: Callable[[str], dict[str, Any]]


class Format(NamedTuple):
    """A wire format in both roles.

    Client side: ``read_request``, ``writer``, ``write_body``, ``write_error``, ``write_models``, ``write_model``,
    ``write_count``.
    Upstream side: ``write_request``, ``reader``, ``read_body``, ``read_models``, ``counting``.
    ``reader`` and ``read_body`` take a seed, from which ids are made where an upstream gives none.
    ``look`` notes the progress of a stream that is relayed as it is, because both sides speak this format, event by
    event but for those that are ``usual``; ``write_failure`` is the in-band error that ends one. ``without_foreign``
    returns a request body without what this service would reject because another one made it, or None if all is well.
    ``with_effort`` returns one that asks for an effort to reason, as the target's model knows it, and what is left out.
    ``read_path`` returns what a URL's raw path and query request, or None if they are not this format's; ``write_path``
    is its reverse for an upstream, and ``fixed_headers`` are sent with every request to one. ``is_own_error`` tells
    whether an error answer, its status and its body, can be passed on to a client of the format as it is.
    ``routes`` describes the clients' endpoints: method and path, and what answers.
    ``state`` is there if responses can be stored and continued.
    ``base``: for an endpoint that is part of another format, this format; an upstream with the ``quirk`` has it, too.
    ``breaks_off``: clients notice a late failure only when the connection breaks. ``comments``: clients ignore comments
    in a stream. ``pauses``: the service may end an answer in the middle of a search, and wants to be asked to go on.
    """

    name: str
    read_path: Callable[[str, str], PathInfo | None]
    write_path: Callable[[str, PathInfo], str]
    models_path: str
    fixed_headers: tuple[tuple[str, str], ...]
    read_request: Callable[[Mapping[str, Any], PathInfo], Request]
    write_request: Callable[[Request, Target], Outgoing]
    read_body: Callable[[Mapping[str, Any], str], list[Event]]
    write_body: Callable[[Iterable[Event], ReplyInfo], dict[str, Any]]
    reader: Callable[[str], Reader]
    writer: Callable[[ReplyInfo], Writer]
    keep_alive: bytes
    look: Callable[[SseEvent, Progress], None]
    write_failure: Callable[[Failed, Progress], bytes]
    without_foreign: Callable[[Mapping[str, Any]], dict[str, Any] | None]
    with_effort: Callable[[Mapping[str, Any], Effort, Target], tuple[dict[str, Any], tuple[str, ...]]]
    is_own_error: Callable[[int, Any], bool]
    write_error: Callable[[Failed], tuple[int, Mapping[str, Any]]]
    read_models: Callable[[Any], list[ModelInfo]]
    write_models: Callable[[Sequence[ModelInfo], int], dict[str, Any]]
    write_model: Callable[[ModelInfo, int], dict[str, Any]]
    counting: Counting | None
    write_count: Callable[[int], dict[str, Any]]
    routes: tuple[tuple[str, str], ...] = ()
    base: str = ""
    quirk: str = ""
    state: State | None = None
    breaks_off: bool = False
    comments: bool = True
    pauses: bool = False
    usual: Usual = Usual()


def fixed_paths(paths: Mapping[str, PathInfo]) -> Callable[[str, str], PathInfo | None]:
    """``read_path`` of a format whose paths hold no names."""
    return lambda path, query: None if "%2f" in path.lower() else paths.get(unquote(path))
