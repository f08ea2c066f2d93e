"""Sources in Chat Completions, read: annotations with places in the text, and lists beside the choices. Pure.

annotations: [{"type": "url_citation", "url_citation": {...}}]    OpenAI, OpenRouter
citations: ["https://..."]                                        Perplexity, xAI: with every chunk, without places
search_results: [{"title", "url"}], web_search: [{"title", "link"}]    Perplexity, GLM
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.formats import fields
from ccproxy_lite.formats.neutral.events import Citation

BESIDE = frozenset(("citations", "search_results", "web_search"))
"""Members of an answer, or of its message, with sources of the whole text."""


def read_annotations(message: Mapping[str, Any]) -> tuple[Citation, ...]:
    """The web pages that a text cites, each with its place."""
    citations = []
    for annotation in fields.lenient_list(message, "annotations"):
        source = annotation.get("url_citation") if isinstance(annotation, dict) else None
        if isinstance(source, dict) and fields.lenient(source, "url"):
            start, end = fields.place(source, "start_index"), fields.place(source, "end_index")
            citations.append(Citation(source["url"], fields.lenient(source, "title"), start, end))
    return tuple(citations)


def read_sources(holder: Mapping[str, Any]) -> tuple[Citation, ...]:
    """The sources beside the choices, or of a message: addresses, or search results with titles."""
    found = [*fields.lenient_list(holder, "search_results"), *fields.lenient_list(holder, "web_search")]
    titles = {_address(one): fields.lenient(one, "title") for one in found}
    urls = [_address(one) for one in fields.lenient_list(holder, "citations")]
    return tuple(Citation(url, titles.get(url, "")) for url in dict.fromkeys(urls or titles) if url)


def _address(source: Any) -> str:
    return source if isinstance(source, str) else fields.lenient(source, "url") or fields.lenient(source, "link")
