"""Web search that a provider runs: what it found as one value, cited texts cut into pieces, and what is sealed. Pure.

A search is a part of an answer like a text: it opens when it begins, and ends with what it has found. What its provider
alone can read (encrypted results, a sequence of its own items) is kept as ``item`` and returns to its ``origin`` only;
a client whose format has an opaque slot carries it there.

>>> found = Search(("moons",), (Page("https://a.example"),), item="{}", origin="x")
>>> unsealed(sealed(found)), [text for text, _ in pieces("abcd", [Citation("u", "", 1, 3)])]
(('x', '{}'), ['a', 'bc', 'd'])
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ccproxy_lite.formats.neutral import thinking
from ccproxy_lite.formats.neutral.events import Citation, Event, Page, PartEnd, PartStart, Search
from ccproxy_lite.formats.neutral.request import Request
from ccproxy_lite.jsontext import dumps_text, loads

_MAX_ITEM_CHARS = 65_536
"""Of an item that is sealed: a client sends it back with every turn."""
_MAX_CITATIONS = 300
"""Of one text that is cut: each may stand in many pieces."""


def sealed(search: Search) -> str:
    """What only the search's provider can read, for the opaque slot of another format's client."""
    item = search.item if len(search.item) <= _MAX_ITEM_CHARS else ""
    return thinking.tag(search.origin, base64.b64encode(item.encode("utf-8", "surrogatepass")).decode())


def unsealed(value: str) -> tuple[str, str]:
    """Origin and item of a sealed value; an empty item where there is none, or it is not readable."""
    origin, packed = thinking.untag(value) or ("", "")
    try:
        return origin, base64.b64decode(packed, validate=True).decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return origin, ""


def opened(search: Search) -> Any:
    """The value of a search's item; None where there is none. It has been with a client: look at what it is."""
    try:
        return loads(search.item)
    except ValueError:
        return None


def merged(begun: Search, found: Search) -> Search:
    """One search of which the begin and what it has found were told apart; both are lists in the provider's words.

    >>> found = Search(pages=(Page("https://a.example"),), item="[2]", origin="a")
    >>> merged(Search(("moons",), item="[1]", origin="a"), found) == found._replace(queries=("moons",), item="[1,2]")
    True
    """
    first, then = opened(begun), opened(found)
    item = dumps_text([*first, *then]) if isinstance(first, list) and isinstance(then, list) else begun.item
    queries, pages = begun.queries or found.queries, begun.pages + found.pages
    return Search(queries, pages, begun.page or found.page, begun.pattern, found.error, item, begun.origin)


def allows_search(request: Request) -> bool:
    """Whether the client's choice of tools allows a search, for services that search whenever it is declared."""
    choice = request.tool_choice
    if choice is None or choice.mode == "required":
        return True
    return choice.mode == "auto" and (not choice.names or "web_search" in choice.names)


def events_of(search: Search, search_id: str = "", name: str = "web_search") -> list[Event]:
    """A search that is told of when it is over."""
    return [PartStart("search", search_id, name), PartEnd(search=search)]


def pages_of(citations: Iterable[Citation]) -> tuple[Page, ...]:
    """The pages that are cited, each once."""
    titles: dict[str, str] = {}
    for one in citations:
        titles[one.url] = titles.get(one.url) or one.title
    return tuple(Page(url, title) for url, title in titles.items())


def with_titles(pages: Sequence[Page], citations: Iterable[Citation]) -> tuple[Page, ...]:
    """The pages, with the titles that only the citations of the answer tell."""
    titles = {one.url: one.title for one in citations if one.title}
    return tuple(page if page.title else page._replace(title=titles.get(page.url, "")) for page in pages)


class Texts:
    """The texts of an answer, for citations that count over all of them and may come later than the words they cite.

    A text is open, then closed, and gone once its end has been passed on: from then on nothing can be added to it.

    >>> texts = Texts()
    >>> texts.begin(), texts.add("one "), (closed := texts.end()), texts.begin(), texts.add("two") and None
    (None, None, PartEnd(signature='', origin='', citations=(), search=None), None, None)
    >>> texts.cite(Citation("u", "", 0, 3)), texts.cite(Citation("v", "", 4, 7)), closed.citations
    (True, True, (Citation(url='u', title='', start=0, end=3),))
    >>> texts.end().citations
    (Citation(url='v', title='', start=0, end=3),)
    """

    def __init__(self) -> None:
        self.length = 0
        self._texts: list[_CitedText] = []
        self._gone = 0

    def begin(self) -> None:
        self._texts.append(_CitedText(self.length))

    def add(self, text: str) -> None:
        self.length += len(text)

    def end(self) -> PartEnd:
        """The end of the open text. Its citations may still grow, until ``let_go``."""
        last = self._texts[-1]
        last.length = self.length - last.start
        last.end = PartEnd(citations=tuple(last.citations))
        return last.end

    def let_go(self) -> None:
        """What has been closed is passed on."""
        while self._gone < len(self._texts) and self._texts[self._gone].end is not None:
            self._gone += 1

    def cite(self, citation: Citation) -> bool:
        """Put a citation on the text in which it begins, without a place on the last; returns whether it is there."""
        if not self._texts:
            return False
        number = len(self._texts) - 1
        if citation.start is not None:
            number = max(bisect_right(self._texts, citation.start, key=lambda text: text.start) - 1, 0)
        cited = self._texts[number]
        length = self.length - cited.start if cited.end is None else cited.length
        own = citation._replace(
            start=citation.start and min(citation.start - cited.start, length),
            end=citation.end and max(0, min(citation.end - cited.start, length)),
        )
        if number >= self._gone:
            cited.citations[own] = None
            if cited.end is not None:
                cited.end.citations = tuple(cited.citations)
        return own in cited.citations


@dataclass(slots=True)
class _CitedText:
    start: int
    length: int = 0
    end: PartEnd | None = None
    citations: dict[Citation, None] = field(default_factory=dict)


def pieces(text: str, citations: Sequence[Citation]) -> Iterator[tuple[str, list[Citation]]]:
    """A text, cut so that each citation covers whole pieces; for formats in which a piece cites as a whole."""
    citations = citations[:_MAX_CITATIONS]
    spans = [span(one, len(text)) for one in citations]
    borders = sorted({0, len(text), *(place for span in spans for place in span)})
    for start, end in pairwise(borders):
        cited = [one for one, (first, last) in zip(citations, spans, strict=True) if first <= start and end <= last]
        yield text[start:end], cited


def span(citation: Citation, length: int) -> tuple[int, int]:
    """The characters of a text that a citation supports: all of them where it does not say, and none beyond it."""
    end = length if citation.end is None else min(citation.end, length)
    return min(citation.start or 0, end), end
