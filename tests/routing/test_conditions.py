"""Targets by request: each condition, what is left of an entry, and efforts behind the names of models."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from ccproxy_lite.cli.load import read_text
from ccproxy_lite.config import file as configfile
from ccproxy_lite.config.model import CONTENTS, EFFORTS, Condition, Config
from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.formats.neutral.contents import contents_of
from ccproxy_lite.formats.neutral.tokens import estimate
from ccproxy_lite.routing.conditions import SYSTEM_CHARS, condition_text, holds
from ccproxy_lite.routing.routes import resolve

UPSTREAMS = {
    "up": {"format": "openai-chat", "base_url": "http://127.0.0.1:1/v1", "keys": ["a-key-0123456789"]},
    "other": {"format": "anthropic", "base_url": "http://127.0.0.1:2", "keys": ["a-key-0123456789"]},
}
CLOSED = {"up": {**UPSTREAMS["up"], "models": ["listed", "gpt-5", "gpt-5-high"]}}
"""Nothing but an upstream that lists its models."""


@dataclass
class Request:
    """What is known of a request, as conditions ask for it."""

    contents: Collection[str] = ()
    tokens: int = 100
    system: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, Collection[str]] = field(default_factory=dict)
    repeats: bool = False

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    def fit(self, condition: Condition, effort: str = "") -> bool:
        return holds(condition, self)


def configured(models: dict[str, Any], upstreams: dict[str, Any] | None = None) -> Config:
    """A configuration as it would be read from a file."""
    text = json.dumps({"upstreams": upstreams or UPSTREAMS, "models": models})
    return configfile.read(text, "test.json", {"HOME": "/nonexistent"}, read_text)


def conditions_of(when: dict[str, Any]) -> Condition:
    config = configured({"m": {"to": "up/x", "when": when}})
    condition = config.models[0][1][0].when
    assert condition is not None
    return condition


def routes(models: dict[str, Any], name: str, request: Request | None = None, **more: Any) -> list[str]:
    found = resolve(configured(models, more.get("upstreams")), name, "openai-chat", "", request or Request())
    return [f"{route}({route.effort})" if route.effort else str(route) for route in found]


# ---------------------------------------------------------------- conditions

ALONE: list[tuple[dict[str, Any], Request, bool]] = [
    *(({"has": word}, Request({word}), True) for word in CONTENTS),
    *(({"has": word}, Request(set(CONTENTS) - {word}), False) for word in CONTENTS),
    ({"has": ["image"]}, Request({"image"}), True),
    ({"has": ["image", "file"]}, Request({"file"}), True),  # any of them
    ({"has": ["image", "file"]}, Request({"image", "file", "tools"}), True),
    ({"has": ["image", "file"]}, Request({"audio", "tools"}), False),
    ({"has": ["image", "file"]}, Request(), False),
    ({"tokens_over": 100}, Request(tokens=100), False),
    ({"tokens_over": 100}, Request(tokens=101), True),
    ({"tokens_over": 0}, Request(tokens=1), True),
    ({"tokens_under": 100}, Request(tokens=100), False),
    ({"tokens_under": 100}, Request(tokens=99), True),
    ({"header": {"user-agent": "claude-cli/*"}}, Request(headers={"user-agent": "claude-cli/2.1"}), True),
    ({"header": {"User-Agent": "claude-cli/*"}}, Request(headers={"user-agent": "claude-cli/2.1"}), True),
    ({"header": {"user-agent": "claude-cli/*"}}, Request(headers={"user-agent": "codex/1 claude-cli/2"}), False),
    ({"header": {"x-team": "*"}}, Request(), False),  # a header that is not there fits no glob
    ({"header": {"x-team": "*"}}, Request(headers={"x-team": ""}), True),
    ({"header": {"x-team": "[ab]?"}}, Request(headers={"x-team": "b2"}), True),
    ({"header": {"x-team": "a"}}, Request(headers={"x-team": "ab"}), False),
    ({"header": {"x-a": "1", "x-b": "2"}}, Request(headers={"x-a": "1", "x-b": "2"}), True),
    ({"header": {"x-a": "1", "x-b": "2"}}, Request(headers={"x-a": "1"}), False),
    ({"system": "*Claude Code*"}, Request(system="You are Claude Code,\nAnthropic's CLI"), True),
    ({"system": "Claude Code*"}, Request(system="You are Claude Code"), False),
    ({"system": "You are*"}, Request(system="You are\nmany lines"), True),
    ({"system": "*needle*"}, Request(system="x" * (SYSTEM_CHARS - 6) + "needle" + "y" * 99), True),
    ({"system": "*needle*"}, Request(system="x" * (SYSTEM_CHARS - 5) + "needle"), False),
    ({"system": "*end"}, Request(system="x" * (SYSTEM_CHARS - 3) + "end and more"), True),
    ({"system": "?*"}, Request(), False),  # none at all
    ({"system": "*"}, Request(), True),
]


@pytest.mark.parametrize(("when", "request_", "expected"), ALONE)
def test_each_condition_alone(when: dict[str, Any], request_: Request, expected: bool) -> None:
    assert holds(conditions_of(when), request_) is expected


FITTING = Request({"image", "tools"}, 500, "be brief", {"x-a": "1"})
ALL = {"has": ["image", "file"], "tokens_over": 400, "tokens_under": 600, "header": {"x-a": "1"}, "system": "be*"}


@pytest.mark.parametrize(
    "changed",
    [
        {"has": "file"},
        {"tokens_over": 500},
        {"tokens_under": 500},
        {"header": {"x-a": "2"}},
        {"header": {"x-b": "*"}},
        {"system": "not*"},
    ],
)
def test_a_target_is_for_requests_that_fit_all_of_it(changed: dict[str, Any]) -> None:
    assert holds(conditions_of(ALL), FITTING)
    assert not holds(conditions_of({**ALL, **changed}), FITTING)


def test_conditions_are_described_in_full() -> None:
    text = condition_text(conditions_of(ALL))
    for word in ("image or file", "over 400", "under 600", 'x-a "1"', "be*"):
        assert word in text


def test_a_body_is_not_looked_at_when_a_header_says_no() -> None:
    class Dear(Request):
        @property
        def contents(self) -> Collection[str]:
            raise AssertionError("the body was read")

        @contents.setter
        def contents(self, value: Collection[str]) -> None: ...

    assert not holds(conditions_of({"has": "image", "header": {"x-a": "1"}}), Dear())


# ---------------------------------------------------------------- what requests have

PIXEL = "iVBORw0KGgo="
HAVING: list[tuple[str, dict[str, Any], set[str]]] = [
    ("anthropic", {"messages": [{"role": "user", "content": "hi"}]}, set()),
    (
        "anthropic",
        {"messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]}]},
        ]},
        {"image"},
    ),
    (
        "anthropic",
        {"messages": [{"role": "user", "content": [
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL}}]}]},
        {"file"},
    ),
    ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"thinking"}),
    ("anthropic", {"thinking": {"type": "adaptive"}}, {"thinking"}),
    ("anthropic", {"thinking": {"type": "disabled"}}, set()),
    ("anthropic", {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, {"tools"}),
    ("anthropic", {"tools": [{"type": "bash_20250124", "name": "bash"}]}, {"tools"}),  # the client runs it
    ("anthropic", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, {"web_search"}),
    (
        "openai-chat",
        {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]},
        {"image"},
    ),
    (
        "openai-chat",
        {"messages": [
            {"role": "assistant", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]},
        ]},
        {"image"},
    ),
    (
        "openai-chat",
        {"messages": [{"role": "user", "content": [
            {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PIXEL}"}}]}]},
        {"audio", "file"},
    ),
    ("openai-chat", {"reasoning_effort": "low"}, {"thinking"}),
    ("openai-chat", {"reasoning_effort": "none"}, set()),
    ("openai-chat", {"web_search_options": {}}, {"web_search"}),
    ("openai-chat", {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"tools"}),
    (
        "openai-responses",
        {"input": [
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}]},
        ]},
        {"image"},
    ),
    (
        "openai-responses",
        {"input": [{"role": "user", "content": [
            {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PIXEL}"}]}]},
        {"file"},
    ),
    ("openai-responses", {"reasoning": {"effort": "high"}}, {"thinking"}),
    ("openai-responses", {"tools": [{"type": "web_search"}]}, {"web_search"}),
    ("openai-responses", {"tools": [{"type": "custom", "name": "apply_patch"}]}, {"tools"}),
    ("openai-responses", {"tools": [{"type": "local_shell"}]}, {"tools"}),
    (
        "gemini",
        {"contents": [
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"ok": True}, "parts": [
                {"inlineData": {"mimeType": "image/png", "data": PIXEL}}]}}]},
        ]},
        {"image"},
    ),
    (
        "gemini",
        {"contents": [{"role": "user", "parts": [
            {"inlineData": {"mimeType": "audio/mp3", "data": PIXEL}},
            {"inlineData": {"mimeType": "application/pdf", "data": PIXEL}}]}]},
        {"audio", "file"},
    ),
    ("gemini", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 2048}}}, {"thinking"}),
    ("gemini", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}, set()),
    ("gemini", {"tools": [{"googleSearch": {}}]}, {"web_search"}),
    ("gemini", {"tools": [{"functionDeclarations": [{"name": "f"}]}]}, {"tools"}),
]  # fmt: skip
_LEAST: dict[str, dict[str, Any]] = {
    "anthropic": {"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}]},
    "openai-chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "openai-responses": {"model": "m", "input": "hi"},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}


@pytest.mark.parametrize(("form", "more", "expected"), HAVING)
def test_what_a_request_has(form: str, more: dict[str, Any], expected: set[str]) -> None:
    request = FORMATS[form].read_request({**_LEAST[form], **more}, PathInfo(model="m"))
    assert contents_of(request) == expected


def test_the_estimate_counts_for_sizes() -> None:
    body = {**_LEAST["anthropic"], "messages": [{"role": "user", "content": "several words and more " * 200}]}
    tokens = estimate(FORMATS["anthropic"].read_request(body, PathInfo()))
    assert 600 < tokens < 1200
    models = {"m": [{"to": "up/small", "when": {"tokens_under": tokens}}, {"to": "up/exact"}]}
    assert routes(models, "m", Request(tokens=tokens)) == ["up/exact"]
    assert routes(models, "m", Request(tokens=tokens - 1)) == ["up/small", "up/exact"]


# ---------------------------------------------------------------- what is left of an entry

IMAGE = {"has": "image"}
BY_CONTENT: dict[str, Any] = {
    "m": [{"to": "other/sees", "when": IMAGE}],
    "m*": [{"to": "other/hears", "when": {"has": "audio"}}],
    "*": [{"to": "up/*", "when": {"has": "tools"}}],
}


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({"image"}, "other/sees"),
        ({"image", "audio", "tools"}, "other/sees"),
        ({"audio"}, "other/hears"),
        ({"tools"}, "up/m"),
        (set(), "up/m"),  # the first without a list
    ],
)
def test_an_entry_of_which_nothing_fits_is_passed_over(contents: set[str], expected: str) -> None:
    assert routes(BY_CONTENT, "m", Request(contents)) == [expected]


def test_the_search_goes_on_with_lists_families_and_the_first() -> None:
    entries = {"*": {"to": "up/x", "when": IMAGE}}
    both = {**UPSTREAMS, "third": {**UPSTREAMS["other"], "models": ["listed"]}}
    assert routes(entries, "listed", upstreams=both) == ["third/listed"]
    assert routes(entries, "claude-opus-5", upstreams=both) == ["other/claude-opus-5"]
    assert routes(entries, "whatever", upstreams=both) == ["up/whatever"]
    assert routes(entries, "whatever", Request({"image"}), upstreams=both) == ["up/x"]
    with pytest.raises(ClientError) as caught:
        routes({"alias": {"to": "up/listed", "when": IMAGE}}, "alias", upstreams=CLOSED)
    assert caught.value.status == 404


def test_failover_goes_in_order_among_those_that_fit() -> None:
    entries = {
        "m": [
            {"to": "up/one", "when": IMAGE},
            "other/two",
            {"to": "up/three", "when": {"tokens_over": 1000}},
            {"to": "other/four", "when": {"tokens_under": 1000}},
            "up/five",
        ]
    }
    assert routes(entries, "m") == ["other/two", "other/four", "up/five"]
    assert routes(entries, "m", Request({"image"})) == ["up/one", "other/two", "other/four", "up/five"]
    assert routes(entries, "m", Request(tokens=2000)) == ["other/two", "up/three", "up/five"]


def test_a_target_that_is_named_twice_keeps_its_first_place() -> None:
    entries = {"m": [{"to": "up/one", "when": IMAGE}, "other/two", "up/one"]}
    assert routes(entries, "m", Request({"image"})) == ["up/one", "other/two"]
    assert routes(entries, "m") == ["other/two", "up/one"]


def test_the_same_model_with_other_fields_is_another_target() -> None:
    entries = {"m": [{"to": "up/x", "set": {"a": 1}}, {"to": "up/x", "set": {"a": 2}}, "up/x(high)"]}
    found = resolve(configured(entries), "m", "", "", Request())
    assert [(str(route), route.overlay, route.effort) for route in found] == [
        ("up/x", '{"a":1}', ""), ("up/x", '{"a":2}', ""), ("up/x", "", "high"),
    ]  # fmt: skip


def test_a_route_says_by_which_rule_it_was_chosen() -> None:
    entries = {"m*": ["up/a", {"to": "up/b", "when": IMAGE}]}
    first, second = resolve(configured(entries), "mm", "", "", Request({"image"}))
    assert '"m*"' in first.rule and "1" in first.rule
    assert '"m*"' in second.rule and "2" in second.rule
    assert first.condition is None and second.condition == conditions_of(IMAGE)


# ---------------------------------------------------------------- efforts behind names

ALIASES: dict[str, Any] = {
    "fast": "up/quick",
    "slow-high": "other/thorough",
    "deep": "up/deep(max)",
    "own-*": "other/*",
}
SPELLINGS = [
    *((f"fast({effort})", f"up/quick({effort})") for effort in EFFORTS),
    *((f"fast:{effort}", f"up/quick({effort})") for effort in EFFORTS),
    *((f"fast-{effort}", f"up/quick({effort})") for effort in EFFORTS),
    ("fast", "up/quick"),
    ("fast[1m]", "up/quick"),
    ("fast(high)[1m]", "up/quick(high)"),
    ("fast[1m](high)", "up/quick(high)"),
    ("fast:high[1m]", "up/quick(high)"),
    ("fast-high[1m]", "up/quick(high)"),
    ("slow-high", "other/thorough"),  # an alias of its own
    ("slow-high(low)", "other/thorough(low)"),
    ("slow-high-low", "other/thorough(low)"),
    ("slow-low", "up/slow-low"),  # nobody knows a model "slow"
    ("fast:ultra", "up/fast:ultra"),
    ("fast-ultra", "up/fast-ultra"),
    ("anything(low)", "up/anything(low)"),
    ("anything:low", "up/anything:low"),
    ("anything-low", "up/anything-low"),
    ("own-model-high", "other/own-model-high"),  # that a glob matches says nothing
    ("own-model:high", "other/own-model:high"),
    ("own-model(high)", "other/own-model(high)"),
    ("claude-opus-5(high)[1m]", "other/claude-opus-5(high)"),
    ("claude-opus-5[1m]", "other/claude-opus-5"),
    ("deep", "up/deep(max)"),
    ("deep(low)", "up/deep(low)"),  # what the client has written counts more
    ("deep-low", "up/deep(low)"),
    ("up/free(low)", "up/free(low)"),
    ("up/free-low", "up/free-low"),
    ("up/free[1m]", "up/free"),
    ("other/vendor/model(low)", "other/vendor/model(low)"),
]


@pytest.mark.parametrize(("name", "expected"), SPELLINGS)
def test_efforts_in_names(name: str, expected: str) -> None:
    route = resolve(configured(ALIASES), name, "openai-chat", "", Request())[0]
    model, _, effort = expected.partition("(") if expected.endswith(")") else (expected, "", "")
    if effort.removesuffix(")") not in EFFORTS:
        model, effort = expected, ""
    assert (str(route), route.effort) == (model, effort.removesuffix(")"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("listed-high", ("listed", "high")),
        ("listed:low", ("listed", "low")),
        ("gpt-5-high", ("gpt-5-high", "")),  # listed by this name
        ("gpt-5-low", ("gpt-5", "low")),
        ("gpt-5-high-low", ("gpt-5-high", "low")),
        ("up/listed-high", ("listed", "high")),
        ("up/gpt-5-high", ("gpt-5-high", "")),
        ("up/listed:low", ("listed", "low")),
    ],
)
def test_names_in_a_list_are_known(name: str, expected: tuple[str, str]) -> None:
    route = resolve(configured({}, CLOSED), name, "", "", Request())[0]
    assert (route.model, route.effort) == expected


@pytest.mark.parametrize("name", ["listed-high", "listed:high", "listed(high)", "up/listed(high)", "listed[1m](high)"])
def test_efforts_where_the_path_names_the_upstream(name: str) -> None:
    route = resolve(configured({}, CLOSED), name, "", "up", Request())[0]
    assert (str(route), route.effort) == ("up/listed", "high")


def test_a_list_that_was_fetched_tells_names_from_efforts() -> None:
    asked = Request(lists={"other": ("glm-5", "glm-5-max")})
    assert routes({}, "glm-5-high", asked) == ["up/glm-5(high)"]
    assert routes({}, "glm-5-max", asked) == ["up/glm-5-max"]
    assert routes({}, "glm-5-high") == ["up/glm-5-high"]
    # Where a model goes does not depend on who has asked for a list before.
    assert routes({}, "glm-5", asked) == routes({}, "glm-5") == ["up/glm-5"]
    # What the configuration lists is all that there is.
    other = {**UPSTREAMS, "other": {**UPSTREAMS["other"], "models": ["mine"]}}
    assert routes({}, "glm-5", asked, upstreams=other) == ["up/glm-5"]


def test_a_fetched_list_does_not_close_an_upstream() -> None:
    assert routes({}, "not-in-it", Request(lists={"up": ("one",), "other": ("two",)})) == ["up/not-in-it"]


@pytest.mark.parametrize("suffix", ["[1m]", "[1m](high)", "(high)[1m]", ":high[1m]", "[1m]:high", "[1m]-high"])
@pytest.mark.parametrize("name", ["fast", "up/known"])
def test_no_suffix_reaches_a_service(name: str, suffix: str) -> None:
    request = Request(lists={"up": ("known",)})
    route = resolve(configured(ALIASES), name + suffix, "", "", request)[0]
    assert (route.model, route.effort) == ({"fast": "quick"}.get(name, "known"), "high" if "high" in suffix else "")


@pytest.mark.parametrize("target", ["up/x[1m]", "up/x(high)[1m]", "up/x[1m](high)"])
def test_no_suffix_of_a_target_reaches_a_service(target: str) -> None:
    route = resolve(configured({"m": target}), "m", "", "", Request())[0]
    assert (route.model, route.effort) == ("x", "high" if "high" in target else "")


@pytest.mark.parametrize("name", ["[1m]", "[1m](high)", "up/[1m]", "up/(high)"])
def test_a_suffix_alone_is_no_model(name: str) -> None:
    """There is no name in front of it: an error, or a model that is called so, but none without a name."""
    try:
        found = resolve(configured({}), name, "", "", Request())
    except ClientError as error:
        assert error.status in (400, 404)
    else:
        assert found[0].model not in ("", "up/")


def test_an_effort_in_the_name_is_the_clients_wish_for_all_targets() -> None:
    entries = {"m": ["up/a(low)", "other/b", {"to": "up/c", "when": IMAGE}]}
    assert routes(entries, "m(high)") == ["up/a(high)", "other/b(high)"]
