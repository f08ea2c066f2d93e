"""Anthropic Messages: the web tools that the service runs, declared, used and cited; both ways. Pure.

    {"type": "web_search_20250305", "name": "web_search", "allowed_domains": [...], "max_uses": 8}      a declaration
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "moons"}}  a use
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
        {"type": "web_search_result", "url": ..., "title": ..., "encrypted_content": ...}]}             its result
    {"type": "text", "text": ..., "citations": [{"type": "web_search_result_location", ...}]}           a cited text

A use and its result are one search, and return to the service as they came. A search of another provider is written
with an id that begins with ``MARK``, by which it is known when the client sends it back, and carries what only that
provider can read in the first result's ``encrypted_content``, or, if it has found nothing, in its input. Source: the
SDK's ``web_search_tool_20250305_param``, ``web_search_tool_result_block``, ``web_fetch_tool_result_block``,
``citations_web_search_result_location``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ccproxy_lite.formats import fields
from ccproxy_lite.formats.neutral import search, thinking
from ccproxy_lite.formats.neutral.events import Citation, Page, Search
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import SearchCall, WebTool
from ccproxy_lite.jsontext import dumps_text

NAME = "anthropic"
USE = "server_tool_use"
TOOLS = ("web_search", "web_fetch")
MARK = "srvtoolu_ccp_"
_RESULTS = frozenset(f"{name}_tool_result" for name in TOOLS)
_SEARCHING = _RESULTS | {USE}
_VERSIONS = {"web_search": "web_search_20250305", "web_fetch": "web_fetch_20250910"}
_TOOL = frozenset("type name allowed_domains blocked_domains user_location max_uses cache_control".split())
_ERRORS = (
    "invalid_tool_input unavailable max_uses_exceeded too_many_requests query_too_long request_too_large "
    "url_too_long url_not_allowed url_not_accessible unsupported_content_type"
).split()
_MAX_QUOTE_CHARS = 150
_SEALED = "sealed"
"""The member of a use's input for what only the provider can read."""

# ---------------------------------------------------------------- declarations


def read_tool(tool: fields.Object, at: str) -> WebTool | None:
    """The web tool that an entry of ``tools`` declares; None for any other."""
    kind = fields.text(tool, "type", at)
    name = next((one for one in TOOLS if kind.startswith(f"{one}_2")), None)
    if name is None:
        return None
    return WebTool(
        name,  # type: ignore[arg-type]
        fields.texts(tool, "allowed_domains", at),
        fields.texts(tool, "blocked_domains", at),
        fields.location(tool, "user_location", at),
        fields.optional_int(tool, "max_uses", at),
        extra=fields.extra_of(tool, _TOOL),
        at=at,
    )


def write_tool(tool: WebTool, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(tool.extra, tool.at)
    losses.lose_web_settings(tool, "context_size")
    written: dict[str, Any] = {"type": _VERSIONS[tool.name], "name": tool.name}
    if tool.allowed_domains:
        losses.lose_web_settings(tool, "blocked_domains")  # only one of the two is accepted
        written["allowed_domains"] = list(tool.allowed_domains)
    elif tool.blocked_domains:
        written["blocked_domains"] = list(tool.blocked_domains)
    if tool.location and tool.name == "web_search":
        written["user_location"] = {"type": "approximate", **tool.location}
    if tool.max_uses is not None:
        written["max_uses"] = tool.max_uses
    return written


# ---------------------------------------------------------------- uses and results


def is_use(block: Any) -> bool:
    """Whether a block is the use of a web tool."""
    return fields.lenient(block, "type") == USE and fields.lenient(block, "name") in TOOLS


def is_result(block: Any) -> bool:
    """Whether a block is the result of one."""
    return fields.lenient(block, "type") in _RESULTS


def read_search(use: Mapping[str, Any], result: Mapping[str, Any] | None) -> Search:
    """What a use and its result say."""
    given = use.get("input")
    query, page = fields.lenient(given, "query"), fields.lenient(given, "url")
    content = result.get("content") if result is not None else None
    pages, error = [], ""
    for one in content if isinstance(content, list) else [content]:
        error = fields.lenient(one, "error_code") or error
        if fields.lenient(one, "url"):
            pages.append(Page(fields.lenient(one, "url"), fields.lenient(one, "title")))
    item = dumps_text([block for block in (use, result) if block])
    return Search((query,) if query else (), tuple(pages), page, "", error, item, NAME)


def searches_in(blocks: Sequence[Any], at: str) -> dict[int, SearchCall]:
    """The searches in the content of an earlier answer, by the places of the blocks with which they begin.

    A result may stand anywhere behind its use; one without a use is a search of its own.
    """
    results = {fields.lenient(block, "tool_use_id"): block for block in blocks if is_result(block)}
    found: dict[int, SearchCall] = {}
    for number, block in enumerate(blocks):
        if is_use(block):
            result = results.pop(fields.lenient(block, "id"), None)
            found[number] = SearchCall(_from_history(block, result), at=f"{at}[{number}]")
    for number, block in enumerate(blocks):
        if is_result(block) and results.get(fields.lenient(block, "tool_use_id")) is block:
            found[number] = SearchCall(_from_history({}, block)._replace(item=""), at=f"{at}[{number}]")
    return found


def _from_history(use: Mapping[str, Any], result: Mapping[str, Any] | None) -> Search:
    """A search as a client sends it back: one that is marked was made by another provider."""
    found = read_search(use, result)
    if not fields.lenient(use, "id").startswith(MARK):
        return found
    sealed = next((fields.lenient(one, "encrypted_content") for one in fields.lenient_list(result, "content")), "")
    origin, item = search.unsealed(sealed or fields.lenient(use.get("input"), _SEALED))
    return found._replace(item=item, origin=origin)


def can_return(found: Search) -> bool:
    """Whether the service can be told of a search again: it has made it, and nothing else is in it."""
    blocks = search.opened(found) if found.origin == NAME else None
    return isinstance(blocks, list) and bool(blocks) and all(is_use(one) or is_result(one) for one in blocks)


def write_history(part: SearchCall) -> list[dict[str, Any]]:
    """The blocks of a search of this service, as they came."""
    blocks: list[dict[str, Any]] = search.opened(part.search)
    return blocks


def write_use(found: Search, use_id: str) -> dict[str, Any]:
    """The use of a web tool for a client."""
    query = ", ".join(found.queries) or found.page
    given = {"query": query} if query else {}
    if found.item and (found.error or not (found.pages or found.page)):
        given[_SEALED] = search.sealed(found)
    return {"type": USE, "id": use_id, "name": "web_search", "input": given}


def write_result(found: Search, use_id: str, citations: Iterable[Citation] = ()) -> dict[str, Any]:
    """Its result. Titles that only the citations of the answer tell are taken from them."""
    block = {"type": "web_search_tool_result", "tool_use_id": use_id}
    if found.error:
        code = found.error if found.error in _ERRORS else "unavailable"
        return {**block, "content": {"type": "web_search_tool_result_error", "error_code": code}}
    pages = found.pages or ((Page(found.page),) if found.page else ())
    sealed = [search.sealed(found)] + [""] * len(pages)
    return {
        **block,
        "content": [
            {
                "type": "web_search_result",
                "url": page.url,
                "title": page.title or page.url,
                "page_age": None,
                "encrypted_content": content,
            }
            for page, content in zip(search.with_titles(pages, citations), sealed, strict=False)
        ],
    }


# ---------------------------------------------------------------- cited texts


def write_texts(text: str, citations: Sequence[Citation]) -> list[dict[str, Any]]:
    """A text as blocks, for a block cites as a whole.

    White space between two pieces stands in the block of the first: the service rejects blocks of nothing else.
    """
    blocks: list[dict[str, Any]] = []
    for piece, cited in search.pieces(text, citations):
        if blocks and not piece.strip():
            blocks[-1]["text"] += piece
            continue
        sources = {"citations": [write_citation(one, piece) for one in cited]} if cited else {}
        before = blocks.pop()["text"] if blocks and not blocks[-1]["text"].strip() else ""
        blocks.append({"type": "text", "text": before + piece, **sources})
    return blocks or [{"type": "text", "text": text}]


def write_citation(citation: Citation, quoted: str) -> dict[str, Any]:
    """A source of a text; the index is marked, for the service itself has not sealed it."""
    return {
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title or None,
        "cited_text": quoted[:_MAX_QUOTE_CHARS],
        "encrypted_index": thinking.tag("", ""),
    }


def is_marked_citation(citation: Any) -> bool:
    """Whether a citation was written here."""
    return thinking.untag(fields.lenient(citation, "encrypted_index")) is not None


# ---------------------------------------------------------------- the same format on both sides


def own(block: Any) -> Any:
    """A block of a message as the service accepts it: itself, or without citations that others made; None for none.

    A search of another provider is none.
    """
    kind = fields.lenient(block, "type")
    if kind == "text":
        return _with_own_citations(block) if "citations" in block else block
    if kind not in _SEARCHING:
        return block
    marked = fields.lenient(block, "id" if kind == USE else "tool_use_id").startswith(MARK)
    return None if marked else block


def _with_own_citations(block: dict[str, Any]) -> dict[str, Any]:
    citations = fields.lenient_list(block, "citations")
    own_ones = [one for one in citations if not is_marked_citation(one)]
    if len(own_ones) == len(citations):
        return block
    rest = {key: value for key, value in block.items() if key != "citations"}
    return {**rest, "citations": own_ones} if own_ones else rest
