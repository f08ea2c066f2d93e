"""Where a format is spoken: what a host is like, apart from what the bytes mean. Pure.

A *format* says what a body means. A *provider* says where it goes: URL and path, where the key stands, how the answer
is framed, what the host wants otherwise (quirks), what its model list looks like, and what is usual (base URL,
variables). The relay asks a provider for an ``Outbound`` and sends it; which provider it is, the relay does not know.

A provider is one value of pure functions, in a file of its own, and one line of the registry. It must not know the
configuration: it sees of an upstream what ``Service`` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar
from urllib.parse import unquote_plus

from ccproxy_lite.formats import sse
from ccproxy_lite.formats.format import Format, Parser, PathInfo
from ccproxy_lite.formats.neutral.catalog import ModelInfo

Answer = TypeVar("Answer")
Headers = list[tuple[str, str]]

QUIRKS: Mapping[str, str] = {
    "adaptive_thinking": "reasoning is switched on as for newer models, whatever the model's name says",
    "manual_thinking": "reasoning is switched on with a budget in tokens, whatever the model's name says",
    "no_thinking": "the model does not reason, whatever its name says",
    "sampling": "accepts temperature, top_p and top_k, against what the model's name suggests",
    "no_sampling": "rejects temperature, top_p and top_k, against what the model's name suggests",
    "system_turns": "accepts system messages in the middle of a conversation; elsewhere they become text of the user",
    "max_completion_tokens": "requires this name for the token limit",
    "prompt_cache_key": "accepts prompt_cache_key and prompt_cache_breakpoint in Chat Completions",
    "automatic_caching": "accepts one top-level cache_control for the whole request",
    "completions": "has the endpoint for text completions itself: requests for it are passed on untouched",
    "reasoning_content": "expects previous reasoning in this field (DeepSeek, Kimi)",
    "no_reasoning_effort": "does not support reasoning_effort",
    "no_reasoning_summary": "has no reasoning summaries",
    "top_k": "accepts top_k in Chat Completions",
    "gemini_strict_schema": "supports only older schemas; other constraints move into descriptions",
    "web_search": "supports web_search_options in Chat Completions",
    "live_search": "searches live even if the client allows cached results only (external_web_access: false)",
    "exclude_domains": "accepts excludeDomains in a web search (Vertex AI)",
    "thinking_budget": "a newer Gemini model that expects a budget, not a level",
    "bedrock_subset": "accepts only the betas and fields that Bedrock's InvokeModel accepts",
    "mantle_subset": "accepts only the betas and fields that Bedrock's mantle accepts",
    "vertex_subset": "accepts only the betas and fields that Vertex AI accepts",
    "foundry_subset": "accepts only the betas and fields that Azure accepts",
    "databricks_subset": "accepts only the betas and fields that Databricks accepts",
    "snowflake_subset": "accepts only the betas and fields that Snowflake accepts",
}
"""The dialect switches that an upstream may have, and what each says about it; the formats act on them."""


SUBSETS = frozenset(name for name in QUIRKS if name.endswith("_subset"))
"""Those that say what a host refuses."""


class Service(Protocol):
    """What a provider sees of an upstream."""

    @property
    def base_url(self) -> str: ...

    @property
    def auth(self) -> tuple[str, ...]:
        """How it wants its key, a word for each header (see ``credentials``); empty for the format's usual way."""

    @property
    def project(self) -> str:
        """Of Google's cloud, like the next."""

    @property
    def location(self) -> str: ...

    @property
    def region(self) -> str:
        """Of AWS."""

    @property
    def api_version(self) -> str:
        """Of Azure's older paths."""

    @property
    def quirks(self) -> frozenset[str]: ...

    @property
    def command(self) -> tuple[str, ...]:
        """Of a local program, like the next: how to run it."""

    @property
    def tools(self) -> tuple[str, ...]:
        """Which of its own tools it may use."""


class Place(NamedTuple):
    """A service that is none of the configuration's: what stands in for one that is, with something else about it."""

    base_url: str
    auth: tuple[str, ...] = ()
    project: str = ""
    location: str = ""
    region: str = ""
    api_version: str = ""
    quirks: frozenset[str] = frozenset()
    command: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()


class Ask(NamedTuple):
    """One request for a service, before its provider has added URL and credential.

    ``path`` says what is requested, and whether the response shall be a stream; ``query`` is the client's, where the
    request is passed on as it came, like ``raw_path`` where that is passed on as well. ``auth`` says how a key is sent
    of which only one copy may be: ``bearer``, or ``default`` for the way of the format's maker. ``session`` is the
    client's id of the conversation.
    """

    model: str = ""
    path: PathInfo = PathInfo()
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    method: str = "POST"
    raw_path: str = ""
    auth: str = ""
    session: str = ""


class Move(NamedTuple):
    """What comes of a line of a local program: bytes for its input, and what is known of the response by now.

    ``status`` and ``headers`` begin the response, once; ``done`` ends it, and ``kill`` says that the program must not
    go on.
    """

    write: bytes = b""
    close_input: bool = False
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    data: bytes = b""
    done: bool = False
    kill: bool = False


class Dialogue(Protocol):
    """What is said to one run of a local program, line by line, and what its lines mean."""

    @property
    def answer(self) -> str:
        """The text of the answer so far."""

    def begin(self) -> Move:
        """What is said first."""

    def feed(self, line: bytes) -> Move:
        """A line that it has printed. Raises UpstreamError; with code ``UNKNOWN_SESSION`` if it has forgotten that."""

    def ended(self, status: int, stderr: str) -> Move:
        """It has ended. Raises UpstreamError if its answer is not complete."""


class Resume(NamedTuple):
    """A session of a local program: its id, and how many turns it knows; none if it is to be begun."""

    id: str
    turns: int = 0


class Launch(NamedTuple):
    """How a local program is run: its words, environment beside the usual, files in its folder, and the dialogue."""

    argv: list[str]
    env: Mapping[str, str]
    files: Mapping[str, str]
    dialogue: Dialogue


class Program(Protocol):
    """One exchange with a local program.

    ``turns`` identifies the conversation's turns one by one, so that a session can be found that knows the first.
    """

    @property
    def session(self) -> str: ...
    @property
    def turns(self) -> tuple[str, ...]: ...

    def turn_of(self, answer: str) -> str:
        """What will identify the answer as a turn."""

    def launch(self, resume: Resume | None) -> Launch:
        """How to run it, with a session or without."""


class Outbound(NamedTuple):
    """One request as it is sent. ``base_url`` leads to the host, ``target`` is the whole path and query there.

    ``upload`` is the framing of a body that follows piece by piece; ``raw`` leaves the content coding to the client.
    ``sign`` gives the headers that sign it as it is sent, for the authority that it goes to and a time in seconds since
    1970.
    A request for a local ``program`` goes nowhere else.
    """

    method: str
    base_url: str
    target: str
    headers: Headers
    body: bytes = b""
    upload: int | Literal["chunked"] | None = None
    raw: bool = False
    program: Program | None = None
    sign: Callable[[Outbound, str, float], Headers] | None = None


class Question(Generic[Answer]):
    """A request that the proxy makes for itself, and how the JSON body of its response is read."""

    def __init__(self, outbound: Outbound, read: Callable[[Any], Answer]) -> None:
        self.outbound = outbound
        self.read = read


class Fitted(NamedTuple):
    """What is left of a request at a host that does not take everything.

    ``dropped`` names what was left out; ``idle`` what was left out and has no effect on the answer.
    """

    body: Mapping[str, Any]
    headers: Headers
    dropped: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()


class Framing(NamedTuple):
    """How a stream is cut into events: its content type, and a parser that takes events up to so many bytes.

    Clients know server-sent events only: what is framed otherwise is framed anew for them.
    """

    content_type: str
    parser: Callable[[int], Parser]


SERVER_SENT_EVENTS = Framing("text/event-stream", sse.Parser)


class Defaults(NamedTuple):
    """What a format's maker uses: base URL, environment variables that hold a key, the header of the key."""

    base_url: str
    key_variables: tuple[str, ...]
    key_header: str


class Provider(NamedTuple):
    """A kind of host; ``name`` is what the configuration calls it.

    ``defaults`` has the defaults for each word that may stand in an upstream's ``format``; a base URL is empty where
    there is none. ``speaks`` gives the wire format for requests to such an upstream, given the client's (which is empty
    without a client). ``tidy`` mends a base URL that is written otherwise.
    ``fit`` leaves out of a request's body and headers what the host does not take, and raises ClientError for what must
    not be left out; None if it takes all. ``error_body`` gives the body of an error response with what its headers
    say. ``runs`` providers are local programs. ``embedded`` providers are served by this program itself, at
    an address that shows only then.

    ``raw`` makes a request for any other path of the API.
    ``message``, ``count_tokens`` and ``models`` make a request out of an ``Ask`` and a key; a count is None where the
    service has no endpoint for it.
    """

    name: str
    defaults: Mapping[str, Defaults]
    framing: Framing
    speaks: Callable[[str, str], str]
    tidy: Callable[[str, str], str]
    message: Callable[[Service, Format, Ask, str], Outbound]
    count_tokens: Callable[[Service, Format, Ask, str], Question[int] | None]
    models: Callable[[Service, Format, Ask, str], Question[list[ModelInfo]]]
    raw: Callable[[Service, Format, Ask, str], Outbound]
    fit: Callable[[Service, Format, Mapping[str, Any], Ask], Fitted | None]
    error_body: Callable[[Callable[[str], str], Any], Any] = lambda get, body: body
    runs: bool = False
    embedded: bool = False


def with_query(path: str, query: str) -> str:
    """A path with the client's query behind it, without a client key and what the path says itself.

    >>> with_query("/v1/models/m:streamGenerateContent?alt=sse", "key=k&$alt=json&fields=a")
    '/v1/models/m:streamGenerateContent?alt=sse&fields=a'
    """
    # ``key`` is the client's, and ``alt`` says how the answer is framed, which the proxy decides.
    reserved = {"key", "alt", "$alt"} if "alt=" in path else {"key"}
    kept = "&".join(part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) not in reserved)
    return path + (("&" if "?" in path else "?") + kept if kept else "")
