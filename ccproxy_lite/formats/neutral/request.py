"""The neutral request: a conversation, tools and settings, as plain values. Pure.

Nobody changes a value once it is made: one request is written for several targets. That is a rule with a test, and not
``frozen``, with which making the parts of a long history takes a tenth longer.

A field is neutral only if two formats have it. Everything else rides in ``extra``, the slot of fields that only the
format which the value came from understands; what it notes there for itself stands in parentheses.

>>> Message("user", (Text("hi"),)) == Message("user", (Text("hi", at="messages[0]"),))
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

from ccproxy_lite.formats.neutral.events import NOTHING, Extra, Search

Role = Literal["system", "user", "assistant"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "auto"]


def _no_extra() -> Extra:
    return NOTHING


@dataclass(slots=True)
class Text:
    """A piece of text. ``at`` is the path in the client's body, to name losses by; it is no part of the value."""

    text: str
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class Image:
    """An image: ``data`` is standard base64 of ``media_type``; or a ``url``; or a ``file_id`` of the provider."""

    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""
    detail: str = ""
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class File:
    """A document or any other file, base64 in ``data``; ``text/plain`` documents carry their text in ``text``."""

    media_type: str = ""
    data: str = ""
    text: str = ""
    url: str = ""
    file_id: str = ""
    name: str = ""
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class Audio:
    """Audio: base64 ``data`` in ``format`` (wav, mp3, ...)."""

    data: str
    format: str
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class Thinking:
    """Reasoning of an earlier answer.

    ``signature`` and ``redacted`` are opaque values that only their ``origin`` (a format name) may see again.
    """

    text: str = ""
    signature: str = ""
    redacted: str = ""
    origin: str = ""
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class ToolCall:
    """A call that the model made. ``arguments`` is the JSON text as it came; free text where ``kind`` is custom."""

    id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class ToolResult:
    """What a call gave back. ``name`` is known where the format says it."""

    call_id: str
    content: tuple[Text | Image | File | Audio | Foreign, ...]
    is_error: bool = False
    name: str = ""
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class SearchCall:
    """What the provider has done on the web in an earlier answer; only its origin can be told of it again."""

    search: Search
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class Refusal:
    """The model's refusal in an earlier answer."""

    text: str
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class Foreign:
    """A part that only its own format knows: ``data`` is the whole block, ``type`` its name there."""

    type: str
    data: Extra
    at: str = field(default="", compare=False)

    @property
    def extra(self) -> Extra:
        return NOTHING


Part = Text | Image | File | Audio | Thinking | ToolCall | ToolResult | SearchCall | Refusal | Foreign


@dataclass(slots=True)
class Message:
    """One turn. A tool result stands in a ``user`` message. ``system`` messages here stand after the first turn."""

    role: Role
    parts: tuple[Part, ...]
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class Tool:
    """A tool that the client runs: a function with a JSON Schema, or a custom one that takes free text.

    The text of a custom tool may have to follow a ``grammar``: its syntax (``lark``, ``regex``) and its definition.
    """

    name: str
    description: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    kind: Literal["function", "custom"] = "function"
    grammar: tuple[str, str] | None = None
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class WebTool:
    """A tool that the provider runs, and that several have: the search of the web, or the fetching of pages.

    ``location`` is where the user is: city, region, country, timezone. ``is_live``: new pages may be fetched; else the
    client wants no more than an index.
    """

    name: Literal["web_search", "web_fetch"]
    allowed_domains: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    location: Mapping[str, str] = field(default_factory=_no_extra)
    max_uses: int | None = None
    context_size: str = ""
    is_live: bool = True
    extra: Extra = field(default_factory=_no_extra)
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class ServerTool:
    """A tool that the provider runs; only its own format can name it."""

    type: str
    name: str
    data: Extra
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class ToolChoice:
    """Whether the model may or must call tools, and which: an empty ``names`` means any of them."""

    mode: Literal["auto", "required", "none"]
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class Reasoning:
    """How much to reason: an effort or a budget in tokens, and whether the client wants to see it."""

    effort: Effort = "auto"
    budget: int | None = None
    visible: bool | None = None
    at: str = field(default="", compare=False)


@dataclass(slots=True)
class Output:
    """Structured output: any JSON object where ``schema`` is None, else a value of that JSON Schema."""

    schema: Mapping[str, Any] | None = None
    name: str = ""
    strict: bool | None = None
    description: str = ""


@dataclass(slots=True)
class Request:
    """A request for an answer. None means: the client did not say.

    ``paths`` says how the client's format calls a field, where it has another name; it is there to name losses by.
    """

    model: str
    messages: tuple[Message, ...] = ()
    system: tuple[Text, ...] = ()
    tools: tuple[Tool | WebTool | ServerTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    candidates: int | None = None
    logprobs: int | None = None
    reasoning: Reasoning | None = None
    output: Output | None = None
    verbosity: str | None = None
    user: str | None = None
    cache_key: str | None = None
    service_tier: str | None = None
    stream: bool = False
    origin: str = ""
    extra: Extra = field(default_factory=_no_extra)
    paths: Mapping[str, str] = field(default_factory=_no_extra, compare=False)

    @property
    def web_tools(self) -> tuple[WebTool, ...]:
        """What the provider may do on the web."""
        return tuple(tool for tool in self.tools if isinstance(tool, WebTool))

    @property
    def web_names(self) -> frozenset[str]:
        """The names by which a choice means them: a function of the client may have the same name, and comes first."""
        functions = {tool.name for tool in self.tools if isinstance(tool, Tool)}
        return frozenset(tool.name for tool in self.web_tools if tool.name not in functions)

    def scalars(self) -> dict[str, Any]:
        """The parameters that are one value each, as far as the client has set them."""
        values = zip(SCALARS, _scalars_of(self), strict=True)
        return {name: value for name, value in values if value is not None and value != ()}


SCALARS = (
    "max_tokens temperature top_p top_k stop seed frequency_penalty presence_penalty candidates logprobs verbosity "
    "user cache_key service_tier"
).split()
"""The parameters of a request that are one value each; the table of each format says where they stand."""
_scalars_of = attrgetter(*SCALARS)
