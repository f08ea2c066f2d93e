"""Tool names and ids: each format's limits, and how a foreign one is made to fit. Pure and without memory.

A name that does not fit is shortened and gets a hash; the tools of the request say how to undo that. An id that does
not fit is encoded so that it can be read back from the id alone, because the next request must send the original
again, maybe through another process; only an id that is too long even for that becomes a hash.

>>> narrow, wide = Limits(WORD, 64, WORD, 512), Limits(WORD, 64, PRINTABLE, 40)
>>> fit_name("mcp/server.read", wide)
'mcp_server_read_99a328ba'
>>> fit_id("functions.read:0", narrow), fit_id(fit_id("functions.read:0", narrow), wide)
('ccp_ZnVuY3Rpb25zLnJlYWQ6MA', 'functions.read:0')
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ccproxy_lite.formats.neutral.events import Event, PartDelta, PartEnd, PartStart
from ccproxy_lite.jsontext import loads

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import ServerTool, Tool, ToolCall, WebTool


class Limits(NamedTuple):
    """What a format allows: patterns for one legal name and id, and the most characters of each."""

    name: re.Pattern[str]
    name_chars: int
    id: re.Pattern[str]
    id_chars: int


WORD = re.compile(r"[A-Za-z0-9_-]+\Z")
PRINTABLE = re.compile(r"[\x21-\x7e]+\Z")

# What fit_name makes of a name: eight hex digits at its end.
_FITTED = re.compile(r"_[0-9a-f]{8}\Z")
_MAX_ID_CHARS = 4096
# Marks an id whose original can be decoded from the id itself.
_PREFIX = "ccp_"
_ILLEGAL = re.compile(r"[^A-Za-z0-9_-]")


def fit_name(name: str, limits: Limits) -> str:
    """A tool name that the format accepts; the same name always gives the same result.

    A name that looks like such a result is changed too, so that no two names ever become one.
    """
    if len(name) <= limits.name_chars and limits.name.match(name) and not _FITTED.search(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    # Gemini also requires a letter or an underscore at the beginning.
    legal = _ILLEGAL.sub("_", name)
    return (legal if limits.name.match(legal) else f"_{legal}")[: limits.name_chars - 9] + "_" + digest


def fit_id(call_id: str, limits: Limits) -> str:
    """An id that the format accepts: the original wherever it fits."""
    original = _decode_id(call_id)
    if len(original) <= limits.id_chars and limits.id.match(original):
        return original
    # The upstream sees the encoded id in the next request as well, perhaps through another process.
    raw = original.encode("utf-8", "surrogatepass")
    encoded = _PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")
    if len(encoded) <= limits.id_chars:
        return encoded
    return "call_" + hashlib.sha256(raw).hexdigest()[:24]


def id_for_client(call_id: str, limits: Limits) -> str:
    """An id in an answer: it may be longer than in a request, for only services count its characters."""
    return fit_id(call_id, limits._replace(id_chars=_MAX_ID_CHARS))


def _decode_id(call_id: str) -> str:
    if not call_id.startswith(_PREFIX):
        return call_id
    tail = call_id[len(_PREFIX) :]
    try:
        return base64.urlsafe_b64decode(tail + "=" * (-len(tail) % 4)).decode()
    except (binascii.Error, ValueError):
        return call_id


def renamed_tools(tools: Iterable[Tool | WebTool | ServerTool], limits: Limits) -> dict[str, str]:
    """For a request's tools whose names do not fit: from the name on the wire to the client's own."""
    called = [tool.name for tool in _client_tools(tools)]
    return {fit_name(name, limits): name for name in called if fit_name(name, limits) != name}


def custom_names(tools: Iterable[Tool | WebTool | ServerTool]) -> frozenset[str]:
    """The names of the client's free-text tools."""
    return frozenset(tool.name for tool in _client_tools(tools) if tool.kind == "custom")


def _client_tools(tools: Iterable[Tool | WebTool | ServerTool]) -> list[Tool]:
    from ccproxy_lite.formats.neutral.request import Tool  # only who converts has one

    return [tool for tool in tools if isinstance(tool, Tool)]


def made_up_id(*seeds: object) -> str:
    """A call id where the upstream gave none; equal seeds give equal ids."""
    return "call_" + hashlib.sha256("|".join(map(str, seeds)).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def short_user(user: str, limit: int) -> str:
    """An end-user id within a format's limit: the same user always gets the same one."""
    if len(user) <= limit:
        return user
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:limit]


class Restorer:
    """Gives the tool calls of an answer the names that the client knows, and free-text calls their text back.

    :param names: from names on the wire to the client's own
    :param custom: the client's custom tools that went out as functions with one ``input``
    :ivar is_idle: whether there are none of either
    """

    def __init__(self, names: Mapping[str, str], custom: frozenset[str]) -> None:
        self._names = names
        self._custom = custom
        self.is_idle = not names and not custom
        self._pieces: list[str] | None = None

    def restore(self, events: list[Event]) -> list[Event]:
        """The same events, with the client's names."""
        if self.is_idle:
            return events
        restored: list[Event] = []
        for event in events:
            if isinstance(event, PartStart) and event.kind in ("tool", "custom"):
                event.name = self._names.get(event.name, event.name)
                # It went out as a function with one argument: its text is only known once the JSON is complete.
                if event.kind == "tool" and event.name in self._custom:
                    event.kind, self._pieces = "custom", []
            elif isinstance(event, PartDelta) and self._pieces is not None:
                self._pieces.append(event.text)
                continue
            elif isinstance(event, PartEnd) and self._pieces is not None:
                restored.append(PartDelta(free_text("".join(self._pieces))))
                self._pieces = None
            restored.append(event)
        return restored


def free_text(arguments: str) -> str:
    """The text that a function standing for a custom tool was called with."""
    try:
        value = loads(arguments)
    except ValueError:
        return arguments
    text = value.get("input") if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments


def may_be_null(arguments: str) -> bool:
    """Whether a call's arguments say nothing so far: empty, ``null``, or the beginning of it.

    >>> may_be_null("nu"), may_be_null('{"a"')
    (True, False)
    """
    return "null".startswith(arguments.strip())


class Arguments:
    """The arguments of a call as they arrive in pieces; ``null`` is none.

    :ivar begun: some have been passed on
    """

    def __init__(self) -> None:
        self.begun = False
        self._held = ""

    def add(self, piece: str) -> str:
        """What may be passed on now."""
        if self.begun:
            return piece
        self._held += piece
        self.begun = not may_be_null(self._held)
        return self._held if self.begun else ""


def arguments_object(arguments: str) -> dict[str, Any]:
    """Arguments as an object; text that is none is kept under ``_raw``, because history must not be lost.

    >>> arguments_object("null"), arguments_object('{"a": 1}'), arguments_object("oops")
    ({}, {'a': 1}, {'_raw': 'oops'})
    """
    if arguments.strip() in ("", "null"):
        return {}
    try:
        value = loads(arguments)
    except ValueError:
        return {"_raw": arguments}
    return value if isinstance(value, dict) else {"_raw": arguments}


def arguments_text(arguments: str) -> str:
    """The arguments of a call as JSON text of an object, as far as they are: nothing becomes ``{}``."""
    return "{}" if arguments.strip() in ("", "null") else arguments


def call_arguments(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call as an object, where the target has functions only."""
    return {"input": call.arguments} if call.kind == "custom" else arguments_object(call.arguments)
