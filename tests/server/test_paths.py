"""A URL becomes an endpoint, without a socket and without a configuration."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from ccproxy_lite.errors import ClientError
from ccproxy_lite.server.paths import Match, endpoint_for, match


def found(raw: str) -> Match:
    raw_path, _, query = raw.partition("?")
    return match(unquote(raw_path), raw_path, query)


@pytest.mark.parametrize(
    ("url", "action", "form", "model", "pinned", "session"),
    [
        ("/v1/messages", "message", "anthropic", "", "", ""),
        ("/v1/messages/count_tokens", "count", "anthropic", "", "", ""),
        ("/chat/completions", "message", "openai-chat", "", "", ""),
        ("/v1/responses/compact", "message", "openai-responses", "", "", ""),
        ("/v1beta/models/a%2Fb:streamGenerateContent?alt=sse", "message", "gemini", "a/b", "", ""),
        ("/v1alpha/models/m:countTokens", "count", "gemini", "m", "", ""),
        ("/api/provider/work/v1/messages", "message", "anthropic", "", "work", ""),
        ("/my-session/v1/responses", "message", "openai-responses", "", "", "my-session"),
        ("/api/provider/work/my-session/v1/models", "models", "", "", "work", "my-session"),
        ("/v1/models", "models", "", "", "", ""),
        ("/models", "models", "", "", "", ""),
        ("/v1beta/models", "models", "gemini", "", "", ""),
        ("//v1/models/", "models", "", "", "", ""),
        ("/v1//messages/", "message", "anthropic", "", "", ""),
        ("//my-session//v1/responses", "message", "openai-responses", "", "", "my-session"),
        ("/api/provider//mine/v1/models/", "models", "", "", "mine", ""),
        ("/healthz/", "health", "", "", "", ""),
        ("/v1/models/a/b", "model", "", "a/b", "", ""),
        ("/v1/models/a%2fb", "model", "", "a/b", "", ""),
        ("/v1alpha/models/models/m", "model", "gemini", "m", "", ""),
        ("/", "root", "", "", "", ""),
        ("/healthz", "health", "", "", "", ""),
        ("/status", "status", "", "", "", ""),
        ("/metrics", "metrics", "", "", "", ""),
    ],
)
def test_what_is_at_a_url(url: str, action: str, form: str, model: str, pinned: str, session: str) -> None:
    place = found(url)
    assert place.endpoint is not None
    assert (place.endpoint.action, place.endpoint.format, place.endpoint.path_info.model) == (action, form, model)
    assert (place.pinned_upstream, place.session) == (pinned, session)


@pytest.mark.parametrize("url", ["/v2", "/v1%2Fmodels", "/%2fhealthz", "/v1%2f/models", "/healthz%2f"])
def test_what_is_nowhere(url: str) -> None:
    assert found(url).endpoint is None


@pytest.mark.parametrize(
    "url", ["/v1/v1/messages", "/v1beta/v1/messages", "/api/provider/work/v1/v1/messages", "/../v1/models"]
)
def test_no_version_and_no_folder_is_a_session(url: str) -> None:
    assert found(url).session == ""


@pytest.mark.parametrize(
    ("method", "url", "upgrades", "status", "words"),
    [
        ("POST", "/v2/nothing", False, 404, "unknown endpoint: POST /v2/nothing"),
        ("POST", "/v1/v1/messages", False, 404, 'remove "/v1" from the client\'s base URL'),
        ("GET", "/v1/messages", False, 405, "use POST"),
        ("GET", "/v1/responses", True, 426, "WebSocket is not supported"),
        ("DELETE", "/status", False, 405, "use GET or HEAD or POST"),
        ("POST", "/models/m:embedContent", False, 404, "unknown endpoint: POST"),
        ("GET", "/v1/realtime", True, 426, "WebSocket is not supported"),
    ],
)
def test_what_cannot_be_asked_so(method: str, url: str, upgrades: bool, status: int, words: str) -> None:
    with pytest.raises(ClientError) as caught:
        endpoint_for(found(url), method, url, upgrades=upgrades)
    assert caught.value.status == status
    assert words in caught.value.message
