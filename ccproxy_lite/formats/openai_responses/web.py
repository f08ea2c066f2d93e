"""OpenAI Responses: the web search that the service runs, declared and used; both ways. Pure.

    {"type": "web_search", "filters": {"allowed_domains": [...]}, "user_location": {...}, "external_web_access": false}
    {"type": "web_search_call", "id": "ws_1", "status": "completed",
     "action": {"type": "search", "query": "moons", "queries": ["moons"], "sources": [{"type": "url", "url": ...}]}}

Opening a page and looking for words in one are calls as well (``open_page``, ``find_in_page``). What a text cites
stands in its annotations, with the titles that the sources lack. Source: ``types.responses.web_search_tool_param``,
``response_function_web_search``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.formats import fields, openai
from ccproxy_lite.formats.neutral import search
from ccproxy_lite.formats.neutral.events import Page, Search
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import SearchCall, WebTool
from ccproxy_lite.jsontext import dumps_text

NAME = "openai-responses"
CALL = "web_search_call"
SEALED = "(sealed)"
"""Our note on a call in a turn that was kept: what only the service that has searched can read."""
PATHS = {
    "web_tool.allowed_domains": "{at}.filters.allowed_domains",
    "web_tool.blocked_domains": "{at}.filters.blocked_domains",
    "web_tool.context_size": "{at}.search_context_size",
    "web_tool.location": "{at}.user_location",
    "web_tool.max_uses": "max_tool_calls",
}
"""How losses name the settings."""
INCLUDE = ("web_search_call.action.sources", "web_search_call.results")
"""What asks for the sources of a search."""
_TOOL = frozenset("type filters user_location search_context_size external_web_access".split())


def is_search(kind: str) -> bool:
    """Whether the type of a tool is that of a web search: newer and older ones have dates behind them."""
    return kind == "web_search" or kind.startswith(("web_search_2", "web_search_preview"))


def read_tool(tool: fields.Object, at: str) -> WebTool:
    filters = fields.optional_object(tool, "filters", at) or {}
    return WebTool(
        "web_search",
        fields.texts(filters, "allowed_domains", f"{at}.filters"),
        fields.texts(filters, "blocked_domains", f"{at}.filters"),
        fields.location(tool, "user_location", at),
        context_size=openai.context_size(tool, at),
        is_live=fields.optional_bool(tool, "external_web_access", at) is not False,
        extra=fields.extra_of(tool, _TOOL),
        at=at,
    )


def write_tool(tool: WebTool, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(tool.extra, tool.at)
    losses.lose_web_settings(tool, "blocked_domains")
    written: dict[str, Any] = {"type": "web_search"}
    if tool.allowed_domains:
        written["filters"] = {"allowed_domains": list(tool.allowed_domains)}
    if tool.location:
        written["user_location"] = {"type": "approximate", **tool.location}
    if tool.context_size:
        written["search_context_size"] = tool.context_size
    return written


def read_search(item: Mapping[str, Any]) -> Search:
    """What a call says: its action, and the results or sources that were asked for."""
    action = item.get("action")
    queries = [text for text in fields.lenient_list(action, "queries") if isinstance(text, str) and text]
    queries = queries or [text for text in [fields.lenient(action, "query")] if text]
    sources = [*fields.lenient_list(item, "results"), *fields.lenient_list(action, "sources")]
    titles: dict[str, str] = {}
    for source in sources:
        url = fields.lenient(source, "url")
        if url:
            titles[url] = titles.get(url) or fields.lenient(source, "title")
    return Search(
        tuple(queries),
        tuple(Page(url, title) for url, title in titles.items()),
        fields.lenient(action, "url"),
        fields.lenient(action, "pattern"),
        "unavailable" if item.get("status") == "failed" else "",
        dumps_text({key: value for key, value in item.items() if key != "results"}),
        NAME,
    )


def write_action(found: Search) -> dict[str, Any]:
    """The action of a call. Codex drops calls whose action is empty, and needs a query to show."""
    if found.pattern:
        return {"type": "find_in_page", "url": found.page, "pattern": found.pattern}
    if found.page and not found.queries:
        return {"type": "open_page", "url": found.page}
    sources = [{"type": "url", "url": page.url} for page in found.pages]
    query = found.queries[0] if found.queries else ""
    return {"type": "search", "query": query, "queries": list(found.queries), "sources": sources}


def read_history(item: fields.Object, at: str) -> SearchCall:
    """A call in the conversation; one that another service has made, in a turn that was kept, goes back there."""
    found = read_search(item)
    if SEALED in item:
        origin, sealed = search.unsealed(fields.lenient(item, SEALED))
        found = found._replace(item=sealed, origin=origin)
    return SearchCall(found, at=at)


def is_sendable(item: Any) -> bool:
    """Whether the service accepts a call back: Codex turns an action that it does not know into ``other``."""
    is_call = isinstance(item, dict) and item.get("type") == CALL and SEALED not in item
    action = item["action"] if is_call and "action" in item else None
    return fields.lenient(action, "type") in ("search", "open_page", "find_in_page")


def can_return(found: Search) -> bool:
    """Whether the service can be told of a search again: it has made it, and it is a call and nothing else."""
    return found.origin == NAME and is_sendable(search.opened(found))


def write_history(part: SearchCall) -> dict[str, Any]:
    """A call of this service, as it came."""
    item: dict[str, Any] = search.opened(part.search)
    return item
