"""Web search on its way between formats: what is cited stays the same words, and what is sealed returns to its maker.

What a client ends up with is read here without the converters: characters, UTF-8 bytes and blocks have to agree.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo, ReplyInfo, Target
from ccproxy_lite.formats.neutral import search
from ccproxy_lite.formats.neutral.events import (
    Begin,
    Citation,
    End,
    Event,
    Lost,
    Page,
    PartDelta,
    PartEnd,
    PartStart,
    Search,
    check,
    fold,
)
from ccproxy_lite.formats.sse import Event as SseEvent
from tests.conversions import SMALLEST, payloads
from tests.e2e.sdks import CLIENTS, anthropic_client, genai_client, openai_client
from tests.e2e.searching import PAGES, QUERY, TEXT, Service, spans
from tests.e2e.searching import WIRES as SERVICES
from tests.support import WIRES, Proxy, ask, behind, http, proxy, upstream

ASKED: dict[str, dict[str, Any]] = {
    "anthropic": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    "openai-responses": {"tools": [{"type": "web_search"}]},
    "openai-chat": {"web_search_options": {}},
    "gemini": {"tools": [{"googleSearch": {}}]},
}
PAIRS = [(form, client) for form in FORMATS for client in FORMATS]
Cited = dict[str, str]
"""The words that each page is a source of, by its address."""

# ---------------------------------------------------------------- texts, and what is cited of them

LONE = "\ud83d"
"""Half of an emoji, as a broken upstream may send it; there are no bytes for it."""
MARKS = [*"aZ ß字\n\u2028\ue000\uffff", "e\u0301", "🌙", "🛰\ufe0f", "👩\u200d👩\u200d👧", "\U0010ffff", "\u200f", LONE]


@dataclass
class Said:
    """A text in pieces, and pages that are cited by some of them: the first one, and the one behind the last."""

    pieces: list[str]
    pages: list[tuple[int, int]]

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def cited(self) -> Cited:
        return {url: "".join(self.pieces[first:last]) for url, first, last in self.sources()}

    def sources(self) -> Iterator[tuple[str, int, int]]:
        for number, (first, last) in enumerate(self.pages):
            yield f"https://{number}.example", first, last

    def places(self) -> Iterator[tuple[str, int, int]]:
        """The pages, and the characters which they support."""
        for url, first, last in self.sources():
            start = len("".join(self.pieces[:first]))
            yield url, start, start + len("".join(self.pieces[first:last]))


@st.composite
def said(draw: st.DrawFn) -> Said:
    piece = st.lists(st.sampled_from(MARKS), min_size=1, max_size=5).map("".join)
    pieces = draw(st.lists(piece, min_size=1, max_size=6))
    places = st.tuples(st.integers(0, len(pieces) - 1), st.integers(1, len(pieces)))
    pages = draw(st.lists(places.filter(lambda place: place[0] < place[1]), max_size=4))
    return Said(pieces, pages)


def answered(form: str, what: Said) -> dict[str, Any]:
    """How a service of this format says it."""
    if form == "anthropic":
        content = []
        for number, piece in enumerate(what.pieces):
            urls = [url for url, first, last in what.sources() if first <= number < last]
            kind = {"type": "web_search_result_location", "title": "T", "cited_text": "", "encrypted_index": "aQ=="}
            content.append({"type": "text", "text": piece, "citations": [{**kind, "url": url} for url in urls]})
        return {**WIRES[form].body, "content": content}
    if form == "gemini":
        supports = []
        for number, (_, start, end) in enumerate(what.places()):
            segment = {"startIndex": byte_length(what.text[:start]), "endIndex": byte_length(what.text[:end])}
            supports.append({"segment": segment, "groundingChunkIndices": [number]})
        chunks = [{"web": {"uri": url, "title": "T"}} for url, _, _ in what.sources()]
        grounding = {"groundingChunks": chunks, "groundingSupports": supports} if chunks else {}
        content = {"role": "model", "parts": [{"text": what.text}]}
        return {"candidates": [{"content": content, "finishReason": "STOP", "groundingMetadata": grounding}]}
    annotations = [
        {"url": url, "title": "T", "start_index": start, "end_index": end} for url, start, end in what.places()
    ]
    if form == "openai-responses":
        part = {"type": "output_text", "text": what.text, "annotations": annotations}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
        return {**WIRES[form].body, "output": [item]}
    message = {"role": "assistant", "content": what.text}
    message["annotations"] = [{"type": "url_citation", "url_citation": one} for one in annotations]
    return {**WIRES[form].body, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def byte_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


# ---------------------------------------------------------------- what a client hears


def whole(client: str, sse: bytes) -> Any:
    """The answer that a stream adds up to."""
    events = payloads(sse)
    if client == "openai-responses":
        return events[-1]["response"]
    if client == "anthropic":
        blocks: list[dict[str, Any]] = []
        for event in events:
            if event["type"] == "content_block_start":
                assert event["index"] == len(blocks)
                blocks.append(event["content_block"])
            elif event["type"] == "content_block_delta":
                delta = event["delta"]
                if delta["type"] == "text_delta":
                    blocks[event["index"]]["text"] += delta["text"]
                elif delta["type"] == "input_json_delta":
                    blocks[event["index"]]["input"] = json.loads(delta["partial_json"])
                elif delta["type"] == "citations_delta":
                    blocks[event["index"]].setdefault("citations", []).append(delta["citation"])
        return {"content": blocks}
    if client == "openai-chat":
        deltas = [event["choices"][0]["delta"] for event in events if event != "[DONE]" and event["choices"]]
        annotations = [one for delta in deltas for one in delta.get("annotations", ())]
        content = "".join(delta.get("content") or "" for delta in deltas)
        return {"choices": [{"message": {"content": content, "annotations": annotations}}]}
    parts = [part for event in events for part in event["candidates"][0]["content"]["parts"]]
    text = "".join(part["text"] for part in parts)
    return {"candidates": [{**events[-1]["candidates"][0], "content": {"parts": [{"text": text}]}}]}


def heard(client: str, answer: Any) -> tuple[str, Cited]:
    """The text of an answer, and which of its words each page supports."""
    cited: Cited = {}
    if client == "anthropic":
        texts = [block for block in answer["content"] if block["type"] == "text"]
        for block in texts:
            for one in block.get("citations") or ():
                add(cited, one["url"], one["cited_text"])
        return "".join(block["text"] for block in texts), cited
    if client == "gemini":
        candidate = answer["candidates"][0]
        text = "".join(part["text"] for part in candidate["content"]["parts"])
        raw = text.encode("utf-8", "surrogatepass")
        grounding = candidate.get("groundingMetadata", {})
        for support in grounding.get("groundingSupports", ()):
            segment = support["segment"]
            words = raw[segment["startIndex"] : segment["endIndex"]].decode("utf-8", "surrogatepass")
            assert segment["text"] == words
            for number in support["groundingChunkIndices"]:
                add(cited, grounding["groundingChunks"][number]["web"]["uri"], words)
        return text, cited
    if client == "openai-responses":
        parts = [part for item in answer["output"] if item["type"] == "message" for part in item["content"]]
        for part in parts:
            for one in part["annotations"]:
                add(cited, one["url"], part["text"][one["start_index"] : one["end_index"]])
        return "".join(part["text"] for part in parts), cited
    message = answer["choices"][0]["message"]
    for annotation in message.get("annotations", ()):
        one = annotation["url_citation"]
        add(cited, one["url"], message["content"][one["start_index"] : one["end_index"]])
    return message["content"], cited


def add(cited: Cited, url: str, words: str) -> None:
    """An upstream that cites by block says the words piece by piece."""
    cited[url] = cited.get(url, "") + words


def reply_to(client: str) -> ReplyInfo:
    body = {**SMALLEST[client], **ASKED[client]}
    return ReplyInfo(FORMATS[client].read_request(body, PathInfo(model="m")), "id", 1)


@pytest.mark.parametrize(("form", "client"), PAIRS)
@given(what=said())
def test_what_is_cited_stays_the_same_words(form: str, client: str, what: Said) -> None:
    if "gemini" in (form, client):  # which counts bytes
        what = Said([piece.replace(LONE, "?") for piece in what.pieces], what.pages)
    body = json.loads(json.dumps(answered(form, what)))

    def events() -> list[Event]:
        read = FORMATS[form].read_body(body, "seed")
        assert check(read) == []
        return read

    def same(found: tuple[str, Cited]) -> bool:
        """White space alone is no block of Anthropic's, so that it is cited with what stands before it, or not."""
        wanted = {url: "".join(words.split()) for url, words in what.cited.items()}
        got = {url: "".join(words.split()) for url, words in found[1].items()}
        is_same = {url: words for url, words in got.items() if words} == {
            url: words for url, words in wanted.items() if words
        }
        return found[0] == what.text and (is_same if client == "anthropic" else found[1] == what.cited)

    answer = FORMATS[client].write_body(events(), reply_to(client))
    assert same(heard(client, json.loads(json.dumps(answer))))
    writer = FORMATS[client].writer(reply_to(client))
    sse = b"".join(writer.write(event) for event in events())
    assert same(heard(client, whole(client, sse)))


# ---------------------------------------------------------------- citations that come later than their text


def grounded(*supports: tuple[int, int, int, str]) -> dict[str, Any]:
    """Metadata in which each page supports some words: number of the part, first and last byte, the words."""
    segments = [
        {"partIndex": part, "startIndex": first, "endIndex": last, "text": text} for part, first, last, text in supports
    ]
    return {
        "groundingChunks": [{"web": {"uri": f"https://{number}.example", "title": "T"}} for number in range(len(supports))],
        "groundingSupports": [{"segment": one, "groundingChunkIndices": [number]} for number, one in enumerate(segments)],
    }  # fmt: skip


def candidate(parts: list[Any], **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": parts}, **more}]}


def texts_cited(events: list[Event]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each text of an answer, and the words that pages support in it."""
    assert check(events) == []
    parts, _ = fold(events)
    texts = [part for part in parts if part.start.kind == "text"]
    return [(part.text, [(one.url[8], part.text[one.start : one.end]) for one in part.end.citations]) for part in texts]


def streamed_events(form: str, *chunks: Any) -> list[Event]:
    reader = FORMATS[form].reader("seed")
    events = [event for chunk in chunks for event in reader.feed(SseEvent("", json.dumps(chunk)))]
    return events + reader.close()


CALL_OF_GOOGLES = {"toolCall": {"id": "1", "toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["q"]}}}
RESULT_OF_GOOGLES = {"toolResponse": {"id": "1", "toolType": "GOOGLE_SEARCH_WEB", "response": {}}}
FUNCTION = {"functionCall": {"name": "f", "args": {}}}


def test_a_source_stands_at_the_text_of_its_part() -> None:
    parts = [{"text": "AÄAA BBBB"}, CALL_OF_GOOGLES, RESULT_OF_GOOGLES, {"text": "CCCC DÜDD"}, FUNCTION]
    metadata = grounded((0, 0, 5, "AÄAA"), (3, 5, 10, "DÜDD"))
    events = FORMATS["gemini"].read_body(candidate(parts, groundingMetadata=metadata, finishReason="STOP"), "seed")
    assert texts_cited(events) == [("AÄAA BBBB", [("0", "AÄAA")]), ("CCCC DÜDD", [("1", "DÜDD")])]
    assert not [event for event in events if isinstance(event, Lost)]
    # The pages belong to the search that was told of; there is no second one.
    assert [event.search.queries for event in events if isinstance(event, PartEnd) and event.search] == [("q",)]


def test_sources_that_come_with_what_closes_the_text() -> None:
    for more in (FUNCTION, {"text": "", "thoughtSignature": "c2ln"}):
        chunks = [candidate([{"text": "AAAA"}]), candidate([more], groundingMetadata=grounded((0, 0, 4, "AAAA")))]
        events = streamed_events("gemini", *chunks, candidate([], finishReason="STOP"))
        assert texts_cited(events) == [("AAAA", [("0", "AAAA")])]


def test_sources_of_a_text_that_is_gone_are_lost_and_put_on_no_other() -> None:
    metadata = grounded((0, 0, 4, "AAAA"), (0, 4, 8, "BBBB"))
    chunks = [candidate([{"text": "AAAA"}]), candidate([{"text": "hm", "thought": True}])]
    chunks.append(candidate([{"text": "BBBB"}], groundingMetadata=metadata, finishReason="STOP"))
    events = streamed_events("gemini", *chunks)
    assert texts_cited(events) == [("AAAA", []), ("BBBB", [("1", "BBBB")])]
    assert Lost("groundingMetadata") in events


def test_metadata_that_grows_is_told_once() -> None:
    chunks = [candidate([{"text": text}], groundingMetadata=grounded((0, 0, 4, "AAAA"))) for text in ("AAAA", "BBBB")]
    events = streamed_events("gemini", *chunks, candidate([], finishReason="STOP"))
    assert texts_cited(events) == [("AAAABBBB", [("0", "AAAA")])]


def annotation(url: str, start: int, end: int) -> dict[str, Any]:
    return {"type": "url_citation", "url_citation": {"url": url, "title": "T", "start_index": start, "end_index": end}}


def delta(**members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": members}]}


OVER = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
BOTH = [annotation("https://0.example", 0, 4), annotation("https://1.example", 5, 9)]
CALLS = [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def test_annotations_count_over_all_texts() -> None:
    chunks = [delta(content="AAAA "), delta(reasoning_content="hm"), delta(content="BBBB"), delta(annotations=BOTH)]
    events = streamed_events("openai-chat", *chunks, OVER)
    assert texts_cited(events) == [("AAAA ", []), ("BBBB", [("1", "BBBB")])]
    assert Lost("citations") in events
    # Those that come before their words wait for them.
    events = streamed_events(
        "openai-chat", delta(annotations=BOTH), delta(content="AAAA "), delta(content="BBBB"), OVER
    )
    assert texts_cited(events) == [("AAAA BBBB", [("0", "AAAA"), ("1", "BBBB")])]


def test_annotations_beside_calls() -> None:
    message = {"role": "assistant", "content": "AAAA BBBB", "tool_calls": CALLS, "annotations": BOTH}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    cited = [("AAAA BBBB", [("0", "AAAA"), ("1", "BBBB")])]
    assert texts_cited(FORMATS["openai-chat"].read_body(body, "seed")) == cited
    assert (
        texts_cited(
            streamed_events("openai-chat", delta(content="AAAA BBBB", annotations=BOTH), delta(tool_calls=CALLS), OVER)
        )
        == cited
    )


@pytest.mark.parametrize("client", FORMATS)
def test_no_citation_reaches_beyond_its_text(client: str) -> None:
    citations = (Citation("https://0.example", "T", 0, 1000), Citation("https://1.example", "T", 2, 1))
    events: list[Event] = [Begin()]
    for text in ("ab", "cd"):
        events += [PartStart("text"), PartDelta(text), PartEnd(citations=citations)]
    text, cited = heard(client, FORMATS[client].write_body([*events, End("end")], reply_to(client)))
    assert text == "abcd" and cited.get("https://0.example", "") == "abcd"
    assert cited.get("https://1.example", "") == ""


# ---------------------------------------------------------------- searches that find nothing, or are odd


def test_what_is_sealed_returns_also_where_nothing_was_found() -> None:
    """Gemini's own parts, through a client of Anthropic's format."""
    parts = [{**CALL_OF_GOOGLES, "thoughtSignature": "c2ln"}, RESULT_OF_GOOGLES, {"text": "Nothing."}]
    body: dict[str, Any] = {"model": "gemini-3-pro", "max_tokens": 99, "messages": [{"role": "user", "content": "q"}]}
    body["tools"] = [*ASKED["anthropic"]["tools"], {"name": "f", "input_schema": {"type": "object"}}]
    for stream in (False, True):
        got, _ = asked_of("gemini", body, candidate(parts, finishReason="STOP"), stream)
        turns = [
            *body["messages"],
            {"role": "assistant", "content": got["content"]},
            {"role": "user", "content": "more"},
        ]
        _, sent = asked_of("gemini", {**body, "messages": turns}, candidate(parts, finishReason="STOP"))
        assert sent["contents"][1]["parts"] == parts


def test_results_without_ids_belong_to_the_uses_in_their_order() -> None:
    uses = [
        {"type": "server_tool_use", "id": "", "name": "web_search", "input": {"query": query}} for query in ("a", "b")
    ]
    results = [
        {
            "type": "web_search_tool_result",
            "tool_use_id": "",
            "content": [{"type": "web_search_result", "url": f"https://{url}.example"}],
        }
        for url in ("1", "2")
    ]
    events = FORMATS["anthropic"].read_body({**WIRES["anthropic"].body, "content": [*uses, *results]}, "seed")
    found = [event.search for event in events if isinstance(event, PartEnd) and event.search is not None]
    assert [(one.queries, [page.url for page in one.pages]) for one in found] == [
        (("a",), ["https://1.example"]), (("b",), ["https://2.example"])
    ]  # fmt: skip


def test_a_result_without_its_use_is_what_its_type_says() -> None:
    block = {
        "type": "web_fetch_tool_result",
        "tool_use_id": "x",
        "content": {"type": "web_fetch_result", "url": "https://1.example"},
    }
    events = FORMATS["anthropic"].read_body({**WIRES["anthropic"].body, "content": [block]}, "seed")
    assert [event.name for event in events if isinstance(event, PartStart)] == ["web_fetch"]


@pytest.mark.parametrize("size", ["huge", 7])
@pytest.mark.parametrize("client", ["openai-chat", "openai-responses"])
def test_an_unknown_size_of_the_context_is_the_clients_mistake(client: str, size: Any) -> None:
    option = {"search_context_size": size}
    asked = {"web_search_options": option} if client == "openai-chat" else {"tools": [{"type": "web_search", **option}]}
    to = "openai-responses" if client == "openai-chat" else "openai-chat"
    with upstream([http(200, WIRES[to].body)]) as up, proxy(behind(up, to)) as served:
        answer = ask(served.port, WIRES[client].path, {**WIRES[client].ask, **asked})
    assert answer.status == 400 and "search_context_size" in answer.json["error"]["message"]


@pytest.mark.parametrize("kind", [["x"], {}, None, 5])
def test_odd_blocks_are_the_services_business(kind: Any) -> None:
    turns = [{"role": "assistant", "content": [{"type": kind, "text": "a"}]}, {"role": "user", "content": "b"}]
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        assert ask(served.port, "/v1/messages", {**WIRES["anthropic"].ask, "messages": turns}).status == 200
    assert up.seen[0].json["messages"] == turns


def of_responses(**more: Any) -> dict[str, Any]:
    return {**WIRES["openai-responses"].ask, **more}


F = {"type": "function", "name": "web_search_2", "parameters": {"type": "object"}}


def written_for(to: str, body: dict[str, Any]) -> Any:
    request = FORMATS["openai-responses"].read_request(body, PathInfo())
    return FORMATS[to].write_request(request, Target("m"))


def test_a_function_that_is_called_like_a_search_is_none() -> None:
    choice = {"type": "function", "name": "web_search_2"}
    outgoing = written_for("anthropic", of_responses(tools=[F], tool_choice=choice))
    assert outgoing.body["tool_choice"] == {"type": "tool", "name": "web_search_2"}


def test_a_search_of_an_index_that_alone_may_be_used_leaves_nothing_to_call() -> None:
    tools = [{"type": "web_search", "external_web_access": False}, F]
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}
    outgoing = written_for("anthropic", of_responses(tools=tools, tool_choice=choice))
    assert outgoing.body["tool_choice"] == {"type": "none"} and outgoing.dropped == ("tools[0]",)


def test_a_search_that_the_client_forbids_is_no_loss() -> None:
    outgoing = written_for("gemini", of_responses(tools=[{"type": "web_search"}, F], tool_choice="none"))
    assert outgoing.dropped == ()


# ---------------------------------------------------------------- pieces of a text

PLACES = st.none() | st.integers(0, 12)


@given(st.text(st.sampled_from("ab🌙\ud83d"), max_size=9), st.lists(st.tuples(PLACES, PLACES), max_size=5))
def test_pieces_join_to_the_text(text: str, places: list[tuple[int | None, int | None]]) -> None:
    """Wherever the citations begin and end, even beyond the text, or behind their own end."""
    citations = [Citation(f"https://{n}.example", "", start, end) for n, (start, end) in enumerate(places)]
    pieces = list(search.pieces(text, citations))
    assert "".join(piece for piece, _ in pieces) == text
    assert all(piece for piece, _ in pieces)
    for one in citations:
        covered = "".join(piece for piece, cited in pieces if one in cited)
        assert covered == text[one.start or 0 : len(text) if one.end is None else one.end]


# ---------------------------------------------------------------- seals


@given(st.text(min_size=1), st.sampled_from([*FORMATS]))
def test_what_is_sealed_is_opened(item: str, origin: str) -> None:
    assert search.unsealed(search.sealed(Search(item=item, origin=origin))) == (origin, item)


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_no_seal_breaks_anything(value: str) -> None:
    """Whatever a client sends in place of a seal, without a mark or with one."""
    assert search.unsealed(f"x{value}") == ("", "")
    origin, item = search.unsealed(f"ccp1.gemini.{value}")
    assert origin == "gemini" and isinstance(item, str)


def test_a_long_item_is_not_sealed() -> None:
    """A client sends it back with every turn."""
    long = Search(item="x" * 100_000, origin="openai-responses")
    assert search.unsealed(search.sealed(long)) == ("openai-responses", "")


def test_an_empty_item_is_not_sealed() -> None:
    found = Search(("moons",), (Page("https://a.example"),), origin="openai-chat")
    assert search.sealed(found) == "ccp1.openai-chat."
    assert search.unsealed(search.sealed(found)) == ("openai-chat", "")


# ---------------------------------------------------------------- the official SDKs read the streams

CITED = {PAGES[page][1]: TEXT[start:end] for start, end, page in spans()}
"""What the services of the end-to-end tests cite."""


@pytest.fixture
def closed_clients() -> Iterator[None]:
    """The SDKs keep connections open until they are told."""
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def streamed(form: str, served: Proxy) -> Any:
    """The answer that the SDK of a format makes of a stream."""
    question = [{"role": "user", "content": "hi"}]
    if form == "anthropic":
        asked = {"model": "m", "max_tokens": 4096, "messages": question, **ASKED[form]}
        with anthropic_client(served).messages.stream(**asked) as stream:
            return stream.get_final_message().model_dump(mode="json")
    if form == "openai-responses":
        with openai_client(served).responses.stream(model="m", input="hi", **ASKED[form]) as stream:
            return stream.get_final_response().model_dump(mode="json")
    if form == "openai-chat":
        with openai_client(served).chat.completions.stream(model="m", messages=question, **ASKED[form]) as stream:
            return stream.get_final_completion().model_dump(mode="json")
    config: Any = {"tools": [{"google_search": {}}]}
    chunks = list(genai_client(served).models.generate_content_stream(model="m", contents="hi", config=config))
    dumped = [chunk.model_dump(mode="json", by_alias=True, exclude_none=True) for chunk in chunks]
    parts = [part for one in dumped for part in one["candidates"][0]["content"]["parts"]]
    return {"candidates": [{**dumped[-1]["candidates"][0], "content": {"parts": parts}}]}


def searches(client: str, answer: dict[str, Any]) -> list[str]:
    """The queries of an answer, as far as the format tells of searches."""
    if client == "anthropic":
        uses = [block for block in answer["content"] if block["type"] == "server_tool_use"]
        results = [block for block in answer["content"] if block["type"] == "web_search_tool_result"]
        assert [one["id"] for one in uses] == [one["tool_use_id"] for one in results]
        assert answer["usage"]["server_tool_use"]["web_search_requests"] == len(uses)
        return [one["input"].get("query", "") for one in uses]
    if client == "openai-responses":
        calls = [item for item in answer["output"] if item["type"] == "web_search_call"]
        assert {item["status"] for item in calls} <= {"completed"}
        return [item["action"]["query"] for item in calls]
    return [QUERY] if client == "openai-chat" else answer["candidates"][0]["groundingMetadata"]["webSearchQueries"]


@pytest.mark.usefixtures("closed_clients")
@pytest.mark.parametrize(("form", "client"), [pair for pair in PAIRS if pair[0] != pair[1]])
def test_an_sdk_reads_a_streamed_search(form: str, client: str) -> None:
    for name in ("anthropic", "openai", "google.genai"):
        pytest.importorskip(name)
    service = Service(SERVICES[form], "")
    with upstream(choose=service.choose) as up:
        config = {**behind(up, form, quirks=[*service.wire.quirks]), "models": {"*": f"up/{service.wire.model}"}}
        with proxy({**config, "client_keys": ["client-key"]}) as served:
            answer = streamed(client, served)
    assert [call["kind"] for call in service.calls] == ["search"]
    assert heard(client, answer) == (TEXT, CITED)
    if form == "openai-chat":  # which does not tell of queries
        return
    assert searches(client, answer) == [QUERY]


# ---------------------------------------------------------------- a conversation that moves

CALL = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {
        "type": "search",
        "query": "Monde 🌙",
        "queries": ["Monde 🌙"],
        "sources": [{"type": "url", "url": "https://a.example"}],
    },
    "unheard_of": {"ü": [1.5, None]},
}
WORDS = "Zork hat zwei Monde 🌙."
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [
        {
            "type": "output_text",
            "text": WORDS,
            "annotations": [
                {"type": "url_citation", "url": "https://a.example", "title": "Ä", "start_index": 9, "end_index": 13}
            ],
        }
    ],
}
OWN_CITATION = {
    "type": "web_search_result_location",
    "url": "https://b.example",
    "title": "B",
    "cited_text": "grün",
    "encrypted_index": "aW5kZXg=",
}
OWN = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [
            {"type": "web_search_result", "url": "https://b.example", "title": "B", "encrypted_content": "c2VhbGVk"}
        ],
    },
    {"type": "text", "text": "Grün.", "citations": [OWN_CITATION]},
]
"""A search of the client's own service, earlier in the conversation."""


def asked_of(form: str, body: dict[str, Any], answer: dict[str, Any], stream: bool = False) -> tuple[Any, Any]:
    """What an Anthropic client gets from a service of this format for a request, and what that was sent."""
    with upstream([http(200, answer)]) as up, proxy(behind(up, form)) as served:
        got = ask(served.port, "/v1/messages", {**body, "stream": stream})
    assert got.status == 200, got.body
    return whole("anthropic", got.body) if stream else got.json, up.seen[0].json


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside functions"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_search_returns_to_its_service_and_to_no_other(stream: bool, beside: bool) -> None:
    function = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
    turns: list[Any] = [{"role": "user", "content": "q"}, {"role": "assistant", "content": OWN}]
    turns.append({"role": "user", "content": "And?"})
    tools = [*ASKED["anthropic"]["tools"], *([function] if beside else [])]
    body = {"model": "m", "max_tokens": 4096, "messages": turns, "tools": tools}
    answer = {**WIRES["openai-responses"].body, "output": [CALL, SAID]}
    got, sent = asked_of("openai-responses", body, answer, stream)
    assert "c2VhbGVk" not in json.dumps(sent)
    kinds = [block["type"] for block in got["content"]]
    assert kinds[:2] == ["server_tool_use", "web_search_tool_result"] and set(kinds[2:]) == {"text"}
    turns += [{"role": "assistant", "content": got["content"]}, {"role": "user", "content": "More."}]

    _, back = asked_of("openai-responses", body, answer)
    assert [item for item in back["input"] if item["type"] == "web_search_call"] == [CALL]
    assert "ccp" not in json.dumps(back)

    _, home = asked_of("anthropic", body, WIRES["anthropic"].body)
    assert "ccp" not in json.dumps(home)
    assert home["messages"][:3] == turns[:3] and home["messages"][4] == turns[4]
    assert home["tools"] == tools
    content = home["messages"][3]["content"]
    assert {tuple(sorted(block)) for block in content} == {("text", "type")}
    assert "".join(block["text"] for block in content) == WORDS

    _, elsewhere = asked_of("gemini", {**body, "tools": tools[:1]}, WIRES["gemini"].body)
    assert "ccp" not in json.dumps(elsewhere) and "ws_1" not in json.dumps(elsewhere)
