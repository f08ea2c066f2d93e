"""Which kinds of content a request has, for rules that choose a target by them. Pure.

>>> from ccproxy_lite.formats.neutral.request import Image, Message, Request, ToolResult
>>> sorted(contents_of(Request("m", (Message("user", (ToolResult("c", (Image(url="u"),)),)),))))
['image']
"""

from __future__ import annotations

from ccproxy_lite.formats.neutral import thinking
from ccproxy_lite.formats.neutral.request import Audio, File, Image, Part, Request, ToolResult, WebTool

_KINDS: tuple[tuple[type, str], ...] = ((Image, "image"), (File, "file"), (Audio, "audio"))


def contents_of(request: Request) -> set[str]:
    """The kinds of content in the turns, also in the results of tools; whether there are tools, a search, reasoning."""
    found = {kind for message in request.messages for part in message.parts for kind in _kinds_of(part)}
    if any(not isinstance(tool, WebTool) for tool in request.tools):
        found.add("tools")
    if any(tool.name == "web_search" for tool in request.web_tools):
        found.add("web_search")
    if request.reasoning is not None and thinking.effort_of(request.reasoning) != "none":
        found.add("thinking")
    return found


def _kinds_of(part: Part) -> list[str]:
    if isinstance(part, ToolResult):
        return [kind for inner in part.content for kind in _kinds_of(inner)]
    return [kind for kinds, kind in _KINDS if isinstance(part, kinds)]
