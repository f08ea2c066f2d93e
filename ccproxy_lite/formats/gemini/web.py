"""Gemini generateContent: the web tools that the service runs, declared, used and cited; both ways. Pure.

    {"googleSearch": {}}, {"urlContext": {}}                    declarations
    groundingMetadata: {"webSearchQueries": ["moons"],          what was searched, with the end of the answer
        "groundingChunks": [{"web": {"uri": ..., "title": ...}}],
        "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 5}, "groundingChunkIndices": [0]}]}
    urlContextMetadata: {"urlMetadata": [{"retrievedUrl": ..., "urlRetrievalStatus": ...}]}

Places count UTF-8 bytes of a part. Which query has found which page is not told. From Gemini 3 on the uses may stand
among the parts (``toolCall``, ``toolResponse``), and return as they came. Source: the SDK's ``types.GoogleSearch``,
``GroundingMetadata``, ``UrlContextMetadata``, ``ToolConfig``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from ccproxy_lite.formats import fields
from ccproxy_lite.formats.format import Target
from ccproxy_lite.formats.gemini import models
from ccproxy_lite.formats.neutral import search
from ccproxy_lite.formats.neutral.events import Citation, Event, Page, Search
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import Request, SearchCall, Tool, WebTool
from ccproxy_lite.jsontext import dumps_text

NAME = "gemini"
_SEARCHES = ("googleSearch", "googleSearchRetrieval", "enterpriseWebSearch")
_FETCH = "urlContext"
_RUN_THERE = ("GOOGLE_SEARCH_WEB", "URL_CONTEXT")
_USE = frozenset(("toolCall", "toolResponse", "thoughtSignature"))
_OK = "URL_RETRIEVAL_STATUS_SUCCESS"

# ---------------------------------------------------------------- declarations


def read_tool(kind: str, options: Any, at: str) -> WebTool | None:
    """The web tool that a member of a tool object declares; None for any other."""
    if kind not in (*_SEARCHES, _FETCH):
        return None
    given = fields.as_object(options, at)
    blocked = fields.texts(given, "excludeDomains", at)
    extra = fields.extra_of(given, frozenset(("excludeDomains",)))
    if extra.get("searchTypes") == {"webSearch": {}}:  # the default
        extra = {name: value for name, value in extra.items() if name != "searchTypes"}
    name = "web_fetch" if kind == _FETCH else "web_search"
    return WebTool(name, blocked_domains=blocked, extra=extra, at=at)  # type: ignore[arg-type]


def tools_for(request: Request, target: Target) -> tuple[str, ...]:
    """The web tools that a model has for a request: before Gemini 3 none beside functions."""
    beside = any(isinstance(tool, Tool) for tool in request.tools)
    if (beside and not _takes_both(target)) or not search.allows_search(request):
        return ()
    return ("web_search", "web_fetch")


def _takes_both(target: Target) -> bool:
    return (models.gemini_version(target.model) or (0, 0)) >= (3, 0)


def write_tools(body: dict[str, Any], request: Request, target: Target, losses: Losses) -> None:
    """Declare the web tools beside the functions that the body has already."""
    if request.web_tools and "tools" in body:  # beside functions only if the uses may stand in the answer
        body["toolConfig"] = {**body.get("toolConfig", {}), "includeServerSideToolInvocations": True}
    for tool in request.web_tools:
        losses.lose_extra(tool.extra, tool.at)
        losses.lose_web_settings(tool, "allowed_domains", "location", "max_uses", "context_size")
        options: dict[str, Any] = {}
        if tool.name == "web_search" and "exclude_domains" in target.quirks and tool.blocked_domains:
            options["excludeDomains"] = list(tool.blocked_domains)
        else:
            losses.lose_web_settings(tool, "blocked_domains")
        written = {_FETCH if tool.name == "web_fetch" else _SEARCHES[0]: options}
        body.setdefault("tools", []).append(written)


# ---------------------------------------------------------------- answers, read


class Found:
    """What an answer tells of the web, chunk by chunk."""

    def __init__(self) -> None:
        self._queries: dict[str, None] = {}
        self._pages: dict[str, str] = {}
        self._fetched: dict[str, str] = {}
        self._uses: list[Mapping[str, Any]] = []
        self._used: list[str] = []
        self._told: set[str] = set()

    def add(self, candidate: Mapping[str, Any]) -> None:
        """What a candidate tells beside its parts."""
        grounding, fetching = candidate.get("groundingMetadata"), candidate.get("urlContextMetadata")
        told = fields.lenient_list(grounding, "webSearchQueries")
        self._queries.update((text, None) for text in told if isinstance(text, str) and text)
        for chunk in fields.lenient_list(grounding, "groundingChunks"):
            page = chunk.get("web") if isinstance(chunk, dict) else None
            if fields.lenient(page, "uri"):
                self._pages[fields.lenient(page, "uri")] = fields.lenient(page, "title")
        for one in fields.lenient_list(fetching, "urlMetadata"):
            url = fields.lenient(one, "retrievedUrl")
            if url:
                self._fetched[url] = fields.lenient(one, "urlRetrievalStatus")

    def add_use(self, part: Mapping[str, Any]) -> list[Event] | None:
        """Take a part that is the use of a web tool or the result of one, which completes it; None for any other."""
        use, result = part.get("toolCall"), part.get("toolResponse")
        if fields.lenient(use or result, "toolType") not in _RUN_THERE:
            return None
        self._uses.append(part)
        queries = fields.lenient_list(use.get("args"), "queries") if isinstance(use, dict) else []
        self._used += [text for text in queries if isinstance(text, str)]
        if result is None:
            return []
        pages, self._pages = self._pages, {}
        found = Search(tuple(self._used), _pages_of(pages), item=dumps_text(list(self._uses)), origin=NAME)
        self._told.update(self._used)
        self._uses, self._used = [], []
        return search.events_of(found)

    def events(self) -> list[Event]:
        """The searches and the fetched pages, at the end of the answer; all pages that were found with the first.

        A search that was told of as it was done is not told of again for its pages, which the texts cite.
        """
        pages = () if self._told else _pages_of(self._pages)
        queries = [query for query in self._queries if query not in self._told]
        events: list[Event] = []
        if queries or pages:
            events += search.events_of(Search(tuple(queries[:1]), pages, origin=NAME))
            for query in queries[1:]:
                events += search.events_of(Search((query,), origin=NAME))
        for url, status in self._fetched.items():
            error = "" if status == _OK else "url_not_accessible"
            events += search.events_of(Search(page=url, error=error, origin=NAME), name="web_fetch")
        return events


def _pages_of(titles: Mapping[str, str]) -> tuple[Page, ...]:
    return tuple(Page(url, title) for url, title in titles.items())


def can_return(found: Search) -> bool:
    """Whether the service can be told of a search again: it has made it, and there is nothing but uses and results."""
    parts = search.opened(found) if found.origin == NAME else None
    return isinstance(parts, list) and bool(parts) and all(isinstance(one, dict) and _is_use(one) for one in parts)


def _is_use(part: Mapping[str, Any]) -> bool:
    use = part.get("toolCall") or part.get("toolResponse")
    return fields.lenient(use, "toolType") in _RUN_THERE and part.keys() <= _USE


def write_history(part: SearchCall) -> list[dict[str, Any]]:
    """The parts of a search of this service, as they came."""
    parts: list[dict[str, Any]] = search.opened(part.search)
    return parts


# ---------------------------------------------------------------- answers, written

Cited = tuple[int, int, str, tuple[Citation, ...]]
"""Of a text the number of its part, the bytes before it in this part, itself, and its sources."""


def metadata(searches: Sequence[tuple[str, Search]], cited: Iterable[Cited]) -> dict[str, Any]:
    """What a candidate tells of the web: each page once, the queries, and which words which pages support."""
    queries = [query for name, found in searches if name == "web_search" for query in found.queries]
    numbers: dict[str, int] = {}
    titles: dict[str, str] = {}
    supports: dict[tuple[int, int, int, str], list[int]] = {}
    for page in (page for _, found in searches for page in found.pages):
        numbers.setdefault(page.url, len(numbers))
        titles[page.url] = titles.get(page.url) or page.title
    for part, before, text, citations in cited:
        places = [0, *accumulate(map(byte_length, text))] if citations else []
        for one in citations:
            number = numbers.setdefault(one.url, len(numbers))
            titles[one.url] = titles.get(one.url) or one.title
            start, end = search.span(one, len(text))
            place = part, before + places[start], before + places[end], text[start:end]
            supports.setdefault(place, []).append(number)
    grounding: dict[str, Any] = {"webSearchQueries": queries} if queries else {}
    if numbers:
        grounding["groundingChunks"] = [{"web": {"uri": url, "title": titles[url] or url}} for url in numbers]
        grounding["groundingSupports"] = [_support(place, pages) for place, pages in supports.items()]
    fetched = [
        {"retrievedUrl": found.page, "urlRetrievalStatus": "URL_RETRIEVAL_STATUS_ERROR" if found.error else _OK}
        for name, found in searches
        if name == "web_fetch"
    ]
    return {
        **({"groundingMetadata": grounding} if grounding else {}),
        **({"urlContextMetadata": {"urlMetadata": fetched}} if fetched else {}),
    }


def _support(place: tuple[int, int, int, str], pages: list[int]) -> dict[str, Any]:
    part, start, end, text = place
    segment = {**({"partIndex": part} if part else {}), "startIndex": start, "endIndex": end, "text": text}
    return {"segment": segment, "groundingChunkIndices": list(dict.fromkeys(pages))}


def byte_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
