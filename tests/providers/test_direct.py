"""The makers' own services: where a request goes, and where the key stands in it."""

from __future__ import annotations

import pytest

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.providers import defaults, provider_of, quirks_at
from ccproxy_lite.providers.credentials import key_headers
from ccproxy_lite.providers.direct import PROVIDER, usual_auth
from ccproxy_lite.providers.provider import Ask, Place


@pytest.mark.parametrize(
    ("kind", "base_url", "expected"),
    [
        ("anthropic", "https://api.anthropic.com", [("x-api-key", "k")]),
        ("anthropic", "https://other.example", [("x-api-key", "k"), ("authorization", "Bearer k")]),
        ("gemini", "https://generativelanguage.googleapis.com", [("x-goog-api-key", "k")]),
        ("openai-chat", "https://api.openai.com/v1", [("authorization", "Bearer k")]),
        ("openai-responses", "https://other.example/v1", [("authorization", "Bearer k")]),
    ],
)
def test_credentials(kind: str, base_url: str, expected: list[tuple[str, str]]) -> None:
    assert key_headers(usual_auth(kind, base_url), "k") == expected
    assert key_headers(usual_auth(kind, base_url), "") == []


@pytest.mark.parametrize(
    ("kind", "path", "query", "target"),
    [
        ("anthropic", PathInfo(), "beta=true&key=secret", "/v1/messages?beta=true"),
        ("openai-chat", PathInfo(), "", "/v1/chat/completions"),
        ("openai-responses", PathInfo("compact"), "", "/v1/responses/compact"),
        (
            "gemini",
            PathInfo(streams=True),
            "alt=json&fields=a",
            "/v1beta/models/m:streamGenerateContent?alt=sse&fields=a",
        ),
    ],
)
def test_a_message_goes_below_the_base_url(kind: str, path: PathInfo, query: str, target: str) -> None:
    ask = Ask("m", path, query, (("content-type", "application/json"),), b"{}")
    sent = PROVIDER.message(Place(defaults(kind).base_url), FORMATS[kind], ask, "k")
    assert (sent.method, sent.target, sent.body) == ("POST", target, b"{}")
    assert sent.headers[0] == ("content-type", "application/json")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_key_takes_the_place_of_a_header_of_its_name(kind: str) -> None:
    name = defaults(kind).key_header
    ask = Ask("m", PathInfo(), "", ((name, "the client's"), ("x-kept", "1")), b"{}")
    sent = PROVIDER.message(Place(defaults(kind).base_url), FORMATS[kind], ask, "k")
    assert sent.headers == [("x-kept", "1"), *key_headers(usual_auth(kind, defaults(kind).base_url), "k")]


@pytest.mark.parametrize("kind", FORMATS)
def test_side_requests_say_how_their_answers_are_read(kind: str) -> None:
    place = Place(defaults(kind).base_url)
    listed = PROVIDER.models(place, FORMATS[kind], Ask(), "k")
    assert listed.outbound.method == "GET"
    models = [ModelInfo("one", "One", 1000, 10, ("image",)), ModelInfo("two")]
    read = listed.read(FORMATS[kind].write_models(models, 0))
    assert [model.id for model in read] == ["one", "two"]
    assert read[0][1:4] == models[0][1:4] and read[1][2:4] == (None, None)
    assert read[0].inputs == (None if kind == "gemini" else ("image",))
    counted = PROVIDER.count_tokens(place, FORMATS[kind], Ask("m", body=b"{}"), "k")
    if counted is None:
        assert FORMATS[kind].counting is None
    else:
        assert counted.outbound.method == "POST"
        assert counted.read(FORMATS[kind].write_count(7)) == 7


@pytest.mark.parametrize(
    ("kind", "given", "base_url"),
    [
        ("anthropic", "https://a/v1/", "https://a"),
        ("gemini", "https://a/v1beta", "https://a"),
        ("openai-chat", "https://a/v1/", "https://a/v1"),
    ],
)
def test_base_urls_are_tidied(kind: str, given: str, base_url: str) -> None:
    assert provider_of(kind).tidy(given, kind) == base_url


def test_openai_itself_wants_another_limit() -> None:
    assert quirks_at("https://api.openai.com/v1") == {"max_completion_tokens", "system_turns", "prompt_cache_key"}
    assert quirks_at("https://openai.example.com/v1") == frozenset()
