"""What is known of the formats before their converters are: who speaks one, and where models are listed."""

from __future__ import annotations

import pytest

from ccproxy_lite.formats import FORMATS, KEY_HEADERS, detect_format, formats_at, model_list_at


@pytest.mark.parametrize(
    ("headers", "query", "path", "expected"),
    [
        ({}, "", "/v1/models", "openai-chat"),
        ({"anthropic-version": "2023-06-01"}, "", "/v1/models", "anthropic"),
        ({"x-api-key": "k"}, "", "/v1/models", "openai-chat"),
        ({"x-goog-api-key": "k"}, "", "/v1/models", "gemini"),
        ({"x-goog-api-client": "x"}, "", "/nothing", "gemini"),
        ({}, "key=k", "/v1/models", "gemini"),
        ({}, "monkey=k", "/v1/models", "openai-chat"),
        ({}, "", "/v1beta/nothing", "gemini"),
        ({"anthropic-version": "x", "x-goog-api-key": "k"}, "key=k", "/v1beta/models", "anthropic"),
    ],
)
def test_who_asks(headers: dict[str, str], query: str, path: str, expected: str) -> None:
    assert detect_format(headers.get, query, path).name == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models", ("", None)),
        ("/models", ("", None)),
        ("/v1alpha/models", ("gemini", None)),
        ("/v1/models/models/", ("", "")),
        ("/v1/models/a/b", ("", "a/b")),
        ("/v1beta/models/models/m", ("gemini", "m")),
        ("/models/m", None),
        ("/v2/models", None),
    ],
)
def test_where_models_are_listed(path: str, expected: tuple[str, str | None] | None) -> None:
    assert model_list_at(path) == expected


def test_a_path_of_one_format_may_be_anothers() -> None:
    assert [form.name for form in formats_at("/v1/responses")] == ["openai-responses"]
    assert [form.name for form in formats_at("/v1/models/messages:generateContent")] == ["anthropic", "gemini"]
    assert list(formats_at("/v1/embeddings")) == []


def test_every_format_has_its_name() -> None:
    assert [FORMATS[name].name for name in FORMATS] == list(FORMATS)
    assert "authorization" not in KEY_HEADERS
