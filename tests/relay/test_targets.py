"""Targets by request, and what they set, as a client and a service see them."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.log import log
from ccproxy_lite.relay.call import Call
from tests.support import WIRES, ask, behind, http, proxy, upstream
from tests.targets import LEAST, LONG, MORE, PAIRS, PIXEL, model_in, question, say, serve

CONDITIONS: dict[str, dict[str, Any]] = {
    "image": {"has": ["audio", "image"]},
    "tools": {"has": "tools"},
    "web_search": {"has": "web_search"},
    "thinking": {"has": "thinking"},
    "long": {"tokens_over": 1000},
    "system": {"system": "You are the rev*"},
}


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(("client", "to"), PAIRS)
def test_the_request_chooses_its_target(client: str, to: str) -> None:
    models: dict[str, Any] = {
        name: [{"to": "up/special", "when": when}, "up/usual"] for name, when in CONDITIONS.items()
    }
    models["short"] = [{"to": "up/special", "when": {"tokens_under": 1000}}, "up/usual"]
    models["header"] = [{"to": "up/special", "when": {"header": {"User-Agent": "claude-cli/*"}}}, "up/usual"]
    quirks = ["web_search"] if to == "openai-chat" else []
    with upstream([http(200, WIRES[to].body)]) as up, serve(up, to, models, quirks=quirks) as served:
        for name in CONDITIONS:
            answers = [say(served, client, name), say(served, client, name, MORE[client][name])]
            assert [one.status for one in answers] == [200, 200], (name, answers)
            assert [one.headers["x-ccproxy-upstream"] for one in answers] == ["up/usual", "up/special"], name
            assert [model_in(one) for one in up.seen[-2:]] == ["usual", "special"]
        answers = [say(served, client, "short"), say(served, client, "short", MORE[client]["long"])]
        assert [one.headers["x-ccproxy-upstream"] for one in answers] == ["up/special", "up/usual"]
        answers = [say(served, client, "header", user_agent=name) for name in ("claude-cli/2.1", "codex/1")]
        assert [one.headers["x-ccproxy-upstream"] for one in answers] == ["up/special", "up/usual"]


@pytest.mark.parametrize("client", WIRES)
def test_targets_of_both_formats_in_one_entry(client: str) -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as one, upstream([http(200, WIRES["gemini"].body)]) as two:
        config = behind(one, "anthropic")
        config["upstreams"]["sees"] = behind(two, "gemini")["upstreams"]["up"]
        config["models"] = {"*": [{"to": "sees/eye", "when": {"has": "image"}}, "up/*"]}
        with proxy(config) as served:
            assert say(served, client, "m").headers["x-ccproxy-upstream"] == "up/m"
            assert say(served, client, "m", MORE[client]["image"]).headers["x-ccproxy-upstream"] == "sees/eye"
    assert (len(one.seen), len(two.seen)) == (1, 1)


@pytest.mark.parametrize("client", WIRES)
def test_failover_among_the_targets_that_fit(client: str) -> None:
    models = {"m": [{"to": "up/a", "when": {"has": "image"}}, "up/b", {"to": "up/c", "when": {"tokens_over": 0}}]}
    with upstream([http(500, {})], [http(500, {})], [http(200, WIRES["openai-chat"].body)]) as up:
        with serve(up, "openai-chat", models) as served:
            assert say(served, client, "m").status == 200
    assert [model_in(one) for one in up.seen][:2] == ["b", "c"]
    assert "a" not in [model_in(one) for one in up.seen]


def test_the_debug_log_names_the_rule(caplog: pytest.LogCaptureFixture) -> None:
    models = {"m*": ["up/a", {"to": "up/b", "when": {"has": "image"}}], "n": {"to": "up/c", "when": {"has": "image"}}}
    with upstream([http(200, WIRES["anthropic"].body)]) as up, serve(up, "anthropic", models) as served:
        with caplog.at_level(logging.DEBUG, log.name):
            for name in ("mm", "n", "up/z"):
                say(served, "anthropic", name, MORE["anthropic"]["image"])
    lines = [line for line in caplog.messages if line.startswith("route")]
    assert '"m*"' in lines[0] and "up/a, up/b" in lines[0]
    assert '"n"' in lines[1] and "image" in lines[1]
    assert "names the upstream" in lines[2]


COUNTS = {
    "anthropic": ("/v1/messages/count_tokens", {"input_tokens": 7}),
    "openai-responses": ("/v1/responses/input_tokens", {"input_tokens": 7}),
    "gemini": ("/v1beta/models/{}:countTokens", {"totalTokens": 7}),
}


@pytest.mark.parametrize("to", WIRES)
@pytest.mark.parametrize("client", COUNTS)
def test_counting_follows_the_rules(client: str, to: str) -> None:
    models = {"m": [{"to": "up/special", "when": {"has": "image"}, "set": {"top_k": 1}}, "up/usual"]}
    path = COUNTS[client][0]
    with upstream([http(200, COUNTS.get(to, ("", {}))[1])]) as up, serve(up, to, models) as served:
        for more, expected in ((None, "up/usual"), (MORE[client]["image"], "up/special")):
            for name in ("m", "m(high)", "m-high"):
                body = question(client, name, more)[1]
                answer = ask(served.port, path.format(name), body)
                assert (answer.status, answer.headers["x-ccproxy-upstream"]) == (200, expected)
                assert any(answer.json.values())
    for one in up.seen:
        assert "high" not in one.head and b"(high)" not in one.body and b"m-high" not in one.body


# ---------------------------------------------------------------- set

SAMPLING: dict[str, dict[str, Any]] = {
    "anthropic": {"temperature": 0.5, "top_p": 0.9},
    "openai-chat": {"temperature": 0.5, "top_p": 0.9},
    "openai-responses": {"temperature": 0.5, "top_p": 0.9},
    "gemini": {"generationConfig": {"temperature": 0.5, "topP": 0.9}},
}
OVERLAYS: dict[str, dict[str, Any]] = {
    "anthropic": {"temperature": None, "metadata": {"user_id": "me"}, "service": {"tier": {"level": 2}, "no": None}},
    "openai-chat": {"temperature": None, "chat_template_kwargs": {"enable_thinking": False}, "top_k": 20},
    "openai-responses": {"temperature": None, "text": {"verbosity": "low"}, "include": ["reasoning.encrypted_content"]},
    "gemini": {"generationConfig": {"temperature": None, "topK": 3, "deep": {"er": [1]}}, "labels": {"a": "b"}},
}


def merged(value: Any, overlay: Any) -> Any:
    """RFC 7396, written once more."""
    if not isinstance(overlay, dict):
        return overlay
    result = dict(value) if isinstance(value, dict) else {}
    for key, inner in overlay.items():
        result.pop(key, None) if inner is None else result.__setitem__(key, merged(result.get(key), inner))
    return result


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("client", "to"), PAIRS)
def test_what_a_target_sets_lies_over_the_upstreams_body(client: str, to: str, stream: bool) -> None:
    overlay = OVERLAYS[to]
    models = {"m": "up/there", "laid": {"to": "up/there", "set": overlay}}
    unknown = {} if client != to else {"x_unknown": {"kept": [1, 2.5, "ü"]}}
    with upstream(WIRES[to].stream if stream else [http(200, WIRES[to].body)]) as up:
        with serve(up, to, models) as served:
            for name in models:
                path, body = question(client, name, {**SAMPLING[client], **unknown})
                if stream and client == "gemini":
                    path = path.replace(":generateContent", ":streamGenerateContent?alt=sse")
                elif stream:
                    body |= WIRES[client].options
                answer = ask(served.port, path, body, session_id="one-session")
                assert answer.status == 200, answer
    plain, laid = (one.json for one in up.seen)
    assert laid == merged(plain, overlay)
    assert model_in(up.seen[1]) == "there"
    if client == to:
        expected = question(
            client, "there", {**SAMPLING[client], **unknown, **(WIRES[client].options if stream else {})}
        )
        assert plain == expected[1]


def test_a_field_that_is_removed_twice_or_was_never_there() -> None:
    models = {"m": {"to": "up/m", "set": {"absent": None, "messages": None, "metadata": {"user_id": None}}}}
    with upstream([http(200, WIRES["anthropic"].body)]) as up, serve(up, "anthropic", models) as served:
        assert say(served, "anthropic", "m", {"metadata": "odd"}).status == 200
        assert say(served, "anthropic", "m", {"metadata": {"user_id": "a", "b": 1}}).status == 200
    assert [one.json for one in up.seen] == [
        {"model": "m", "max_tokens": 16000, "metadata": {}}, {"model": "m", "max_tokens": 16000, "metadata": {"b": 1}},
    ]  # fmt: skip


def test_what_is_set_counts_for_the_target_alone() -> None:
    models = {"m": [{"to": "up/a", "set": {"top_k": 1}}, "up/b", {"to": "up/c", "set": {"top_k": 3}}]}
    with upstream([http(500, {})], [http(500, {})], [http(200, WIRES["anthropic"].body)]) as up:
        with serve(up, "anthropic", models) as served:
            assert say(served, "anthropic", "m").status == 200
    assert [(one.json["model"], one.json.get("top_k")) for one in up.seen] == [("a", 1), ("b", None), ("c", 3)]


@pytest.mark.parametrize("depth", [50, 400, 900])
def test_a_deep_body_is_laid_over_or_refused(depth: int) -> None:
    deep = f'{{"model":"m","deep":{"[" * depth}{"]" * depth}}}'.encode()
    models = {"m": {"to": "up/m", "set": {"a": 1}}}
    with upstream([http(200, WIRES["openai-chat"].body)]) as up, serve(up, "openai-chat", models) as served:
        answer = ask(served.port, "/v1/chat/completions", deep)
    assert answer.status in (200, 400), answer


# ---------------------------------------------------------------- what stays as it came

RAW: dict[str, bytes] = {
    "anthropic": b'{ "max_tokens" : 5e1,"x":1.0, "model":"m","messages": [ {"role":"user","content":"\\u00fc"} ] }',
    "openai-chat": b'{"messages":[{"role":"user","content":"\xc3\xbc"}],\n"model": "m","top_p":1.00}',
    "openai-responses": b'\t{"input" : "hi", "model":"m", "unknown":{"b":1,"a":2}}',
    "gemini": b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}] ,"safetySettings":[ ]}',
}
SEEING = {"m": [{"to": "up/eye", "when": {"has": "image"}}, "up/m"]}


@pytest.mark.parametrize("models", [{}, {"m": "up/m"}, {"*": "up/*"}, SEEING, {"m": {"to": "up/m", "set": {}}}])
@pytest.mark.parametrize("form", WIRES)
def test_a_body_of_the_same_format_stays_byte_for_byte(form: str, models: dict[str, Any]) -> None:
    with upstream([http(200, WIRES[form].body)]) as up, serve(up, form, models) as served:
        assert ask(served.port, WIRES[form].path, RAW[form]).status == 200
    assert up.seen[0].body == RAW[form]


@pytest.mark.parametrize(
    ("when", "times"),
    [({"header": {"x-a": "1"}}, 0), ({"has": "image"}, 1), ({"tokens_over": 9000}, 1), ({"system": "x*"}, 1)],
)
@pytest.mark.parametrize("form", WIRES)
def test_a_body_is_only_looked_into_where_a_rule_needs_it(
    form: str, when: dict[str, Any], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []

    class Counted:
        def __get__(self, call: Any, owner: Any) -> Any:
            read.append(call)
            call.__dict__["request"] = call.form.read_request(call.body, call.path_info)
            return call.__dict__["request"]

    monkeypatch.setattr(Call, "request", Counted())
    models = {"*": [{"to": "up/other", "when": when}, "up/*"]}
    with upstream([http(200, WIRES[form].body)]) as up, serve(up, form, models) as served:
        assert ask(served.port, WIRES[form].path, RAW[form]).status == 200
    assert len(read) == times and up.seen[0].body == RAW[form]


@pytest.mark.parametrize("form", ["anthropic", "openai-chat", "openai-responses"])
def test_only_the_model_is_replaced(form: str) -> None:
    models = {"m": [{"to": "up/eye", "when": {"has": "image"}}, "up/longer-name"]}
    with upstream([http(200, WIRES[form].body)]) as up, serve(up, form, models) as served:
        assert ask(served.port, WIRES[form].path, RAW[form]).status == 200
        assert ask(served.port, WIRES[form].path, RAW[form].replace(b'"m"', b'"m[1m]"')).status == 200
    assert [one.body for one in up.seen] == [RAW[form].replace(b'"m"', b'"longer-name"')] * 2


NEW: list[tuple[str, dict[str, Any]]] = [
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "hologram", "source": {}}]}]}),
    ("anthropic", {"messages": [{"role": "narrator", "content": "hi"}]}),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "moon"}}]}]}),
    ("openai-chat", {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}),
    ("openai-chat", {"messages": [{"role": "narrator", "content": "hi"}]}),
    ("openai-chat", {"tool_choice": {"type": ["function"]}}),
    ("openai-responses", {"tool_choice": {"type": {}}}),
    ("openai-responses", {"input": [{"type": "hologram_call", "id": "h"}]}),
    ("openai-responses", {"input": [{"role": "narrator", "content": "hi"}]}),
    ("gemini", {"contents": [{"role": "narrator", "parts": [{"text": "hi"}]}]}),
    ("gemini", {"contents": [{"role": "user", "parts": ["hi"]}]}),
    ("gemini", {"contents": [{"role": "user", "parts": [{"inlineData": "hi"}]}]}),
]
ANY_CONDITION: dict[str, Any] = {
    "m": [
        {"to": "up/eye", "when": {"has": ["image", "thinking", "web_search", "tools", "file", "audio"]}},
        {"to": "up/large", "when": {"tokens_over": 1_000_000}},
        {"to": "up/system", "when": {"system": "?*"}},
        "up/m",
    ]
}


@pytest.mark.parametrize(("form", "more"), NEW)
def test_what_the_proxy_cannot_read_passes_through_an_entry_with_conditions(form: str, more: dict[str, Any]) -> None:
    with upstream([http(200, WIRES[form].body)]) as up, serve(up, form, ANY_CONDITION) as served:
        answer = say(served, form, "m", more)
    assert (answer.status, answer.headers["x-ccproxy-upstream"]) == (200, "up/m"), answer
    assert up.seen[0].body == json.dumps(question(form, "m", more)[1]).encode()


UNREADABLE: list[tuple[str, dict[str, Any]]] = [
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "hologram"}]}], "top_k": "x"}),
    ("openai-chat", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": "x"}),
    ("openai-responses", {"input": "hi", "max_output_tokens": "x"}),
    ("gemini", {"generationConfig": {"maxOutputTokens": "x"}}),
]


@pytest.mark.parametrize(("form", "more"), UNREADABLE)
def test_a_large_request_that_cannot_be_read_is_not_small(form: str, more: dict[str, Any]) -> None:
    """Its size is known to be large, whatever the proxy understands of it."""
    with pytest.raises(ClientError):
        FORMATS[form].read_request({**LEAST[form], "model": "m", **more}, PathInfo(model="m"))
    models = {"m": [{"to": "up/small", "when": {"tokens_under": 1000}}, "up/large"]}
    with upstream([http(200, WIRES[form].body)]) as up, serve(up, form, models) as served:
        answer = say(served, form, "m", {**more, "padding": LONG * 10})
    assert answer.headers["x-ccproxy-upstream"] == "up/large"


def test_an_image_is_seen_beside_what_is_new() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    for other in ({"type": "hologram"}, {"type": "container_upload", "file_id": "f"}):
        with upstream([http(200, WIRES["anthropic"].body)]) as up, serve(up, "anthropic", SEEING) as served:
            more = {"messages": [{"role": "user", "content": [image, other]}]}
            assert say(served, "anthropic", "m", more).headers["x-ccproxy-upstream"] == "up/eye"


def test_a_broken_body_is_the_clients_fault_with_conditions_too() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up, serve(up, "anthropic", SEEING) as served:
        for body in (b"", b"[]", b"{", b'{"model": "m", "messages": [NaN]}', base64.b64decode(PIXEL)):
            assert ask(served.port, "/v1/messages", body).status == 400
    assert up.seen == []
