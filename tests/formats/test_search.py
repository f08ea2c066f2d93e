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
from ccproxy_lite.formats.format import PathInfo, ReplyInfo
from ccproxy_lite.formats.neutral import search
from ccproxy_lite.formats.neutral.events import Citation, Event, Page, Search, check
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
