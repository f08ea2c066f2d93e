"""What hosts refuse: paths into bodies, betas with their fields, headers."""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.providers import HOSTS, QUIRKS, refusals
from ccproxy_lite.providers.provider import Ask, Place
from ccproxy_lite.providers.refusals import REFUSALS, fit, without


@pytest.mark.parametrize(
    ("body", "path", "left", "named"),
    [
        ({"a": 1, "b": 2}, "a", {"b": 2}, ["a"]),
        ({"a": {"b": 1, "c": 2}}, "a.b", {"a": {"c": 2}}, ["a.b"]),
        ({"a": {"b": 1}, "c": 2}, "a.b", {"c": 2}, ["a.b"]),
        ({"a": [{"b": 1}, {"c": 2}, {"b": 3, "c": 4}]}, "a[].b", {"a": [{"c": 2}, {"c": 4}]}, ["a[0].b", "a[2].b"]),
        ({"a": [{"type": "x"}, {"type": "y"}]}, "a[x]", {"a": [{"type": "y"}]}, ["a[0]"]),
        ({"a": [{"type": "x", "b": 1}, {"type": "y", "b": 1}]}, "a[y].b", {"a": [{"type": "x", "b": 1}, {"type": "y"}]}, ["a[1].b"]),
        ({"t": "flex"}, "t=auto|default", {}, ["t"]),
        ({"t": "auto"}, "t=auto|default", {"t": "auto"}, []),
        ({"a": "text"}, "a[].b", {"a": "text"}, []),
        ({"a": [1, None]}, "a[].b.c", {"a": [1, None]}, []),
        ({}, "a.b", {}, []),
    ],
)  # fmt: skip
def test_paths(body: Any, path: str, left: Any, named: list[str]) -> None:
    before = str(body)
    found, names = without(body, path)
    assert (found, names) == (left, named)
    assert str(body) == before, "the client's own body stays as it is"
    assert named or found is body


def fitted(quirk: str, form: str, body: dict[str, Any], model: str = "claude-opus-5", **headers: str) -> Any:
    told = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return fit(Place("", quirks=frozenset([quirk])), FORMATS[form], body, Ask(model, headers=told))


def test_what_a_host_takes_is_not_touched() -> None:
    body = {"messages": [], "tools": [{"name": "t"}]}
    assert fitted("bedrock_subset", "anthropic", body, anthropic_beta="context-1m-2025-08-07") is None
    assert fitted("top_k", "anthropic", {"speed": "fast"}) is None
    assert fitted("bedrock_subset", "gemini", {"anything": 1}) is None


def test_a_field_goes_with_its_beta_and_a_beta_with_its_fields() -> None:
    body = {"tools": [{"name": "t", "input_examples": [1], "defer_loading": True, "eager_input_streaming": True}]}
    betas = (
        "advanced-tool-use-2025-11-20,tool-examples-2025-10-29,fine-grained-tool-streaming-2025-05-14,oauth-2025-04-20"
    )
    found = fitted("bedrock_subset", "anthropic", body, anthropic_beta=betas)
    assert found.body == {"tools": [{"name": "t", "defer_loading": True}]}
    left = "tool-search-tool-2025-10-19,fine-grained-tool-streaming-2025-05-14"
    assert found.headers == [("anthropic-beta", left)], "a beta does what the field asks for"
    assert set(found.dropped) == {"tools[0].input_examples", "anthropic-beta:tool-examples-2025-10-29"}
    assert found.idle == ("anthropic-beta:oauth-2025-04-20",)


def test_a_beta_that_is_called_otherwise_may_bring_less() -> None:
    body = {"tools": [{"name": "t", "input_examples": [1], "defer_loading": True}]}
    found = fitted("bedrock_subset", "anthropic", body, anthropic_beta="advanced-tool-use-2025-11-20")
    assert (found.dropped, found.body["tools"]) == (
        ("tools[0].input_examples",),
        [{"name": "t", "defer_loading": True}],
    )


def test_where_no_beta_is_left_there_is_no_header() -> None:
    found = fitted("snowflake_subset", "anthropic", {}, anthropic_beta="claude-code-20250219", x_kept="1")
    assert (found.headers, found.dropped, found.idle) == (
        [("x-kept", "1")],
        (),
        ("anthropic-beta:claude-code-20250219",),
    )


def test_a_list_of_what_is_taken() -> None:
    found = fitted("bedrock_subset", "anthropic", {"max_tokens": 1, "speed": "fast", "brand_new": 1, "model": "m"})
    assert (found.body, found.dropped) == ({"max_tokens": 1, "model": "m"}, ("speed", "brand_new"))


def test_what_some_models_take() -> None:
    body = {"output_config": {"format": {"type": "json_schema"}, "effort": "low"}}
    assert fitted("bedrock_subset", "anthropic", body, "us.anthropic.claude-sonnet-4-5-v1:0") is None
    found = fitted("bedrock_subset", "anthropic", body, "us.anthropic.claude-opus-5")
    assert (found.body, found.dropped) == ({"output_config": {"effort": "low"}}, ("output_config.format",))


def test_headers_that_are_refused() -> None:
    found = fitted("foundry_subset", "openai-responses", {}, x_openai_internal_codex_responses_lite="1", x_a="b")
    assert (found.headers, found.dropped) == ([("x-a", "b")], ("x-openai-internal-codex-responses-lite",))


def test_many_losses_are_not_all_named() -> None:
    body = {"tools": [{"name": "t", "custom": {"a": 1}}] * 100}
    assert len(fitted("bedrock_subset", "anthropic", body).dropped) == 40


def test_every_row_is_a_quirk_of_a_host() -> None:
    known = {quirk for host in HOSTS for quirk in host.quirks}
    assert set(REFUSALS) <= known and known <= set(QUIRKS)
    for rows in REFUSALS.values():
        for form, row in rows.items():
            assert form in FORMATS
            for path in (*row.fields, *(one for one, _ in row.by_model)):
                assert refusals._STEP.sub("", path.partition("=")[0]).strip(".") == "", path


def test_a_field_in_whose_place_a_beta_does_the_same_is_no_loss() -> None:
    beta = "fine-grained-tool-streaming-2025-05-14"
    found = fitted("bedrock_subset", "anthropic", {"tools": [{"name": "t", "eager_input_streaming": True}]})
    assert (found.headers, found.dropped) == ([("anthropic-beta", beta)], ())
    assert fitted("bedrock_subset", "anthropic", {"tools": [{"name": "t"}]}, anthropic_beta=beta) is None


def test_betas_in_the_body_are_betas() -> None:
    body = {"anthropic_beta": ["oauth-2025-04-20", "context-1m-2025-08-07", "bogus-1"], "max_tokens": 1}
    found = fitted("vertex_subset", "anthropic", body, anthropic_beta="effort-2025-11-24")
    assert found.body == {"max_tokens": 1}
    assert found.headers == [("anthropic-beta", "effort-2025-11-24,context-1m-2025-08-07")]
    assert (found.dropped, found.idle) == (("anthropic-beta:bogus-1",), ("anthropic-beta:oauth-2025-04-20",))


def test_the_older_output_format_goes_where_the_newer_stands() -> None:
    wanted = {"type": "json_schema", "schema": {}}
    found = fitted("vertex_subset", "anthropic", {"output_format": wanted, "output_config": {"effort": "low"}})
    assert (found.body, found.dropped) == ({"output_config": {"format": wanted, "effort": "low"}}, ())


def test_what_is_null_or_false_is_no_loss() -> None:
    body = {"tools": [{"name": "t", "strict": False}], "service_tier": None, "max_tokens": 1}
    found = fitted("bedrock_subset", "anthropic", body)
    assert (found.body, found.dropped) == ({"tools": [{"name": "t"}], "max_tokens": 1}, ())
    assert fitted("mantle_subset", "openai-chat", {"service_tier": None}) is None


@pytest.mark.parametrize("value", [[], {}, 5, ["auto"]])
def test_odd_values_are_no_values_that_are_taken(value: Any) -> None:
    assert fitted("mantle_subset", "openai-chat", {"service_tier": value}).body == {}


def test_nothing_is_left_of_tools_that_are_gone() -> None:
    body = {
        "tools": [{"type": "web_search"}, {"type": "function", "name": "f"}],
        "tool_choice": "auto",
        "include": ["web_search_call.action.sources", "reasoning.encrypted_content"],
        "parallel_tool_calls": True,
    }
    found = fitted("bedrock_subset", "openai-responses", body)
    assert found.body == {**body, "tools": body["tools"][1:], "include": ["reasoning.encrypted_content"]}
    found = fitted("bedrock_subset", "openai-responses", {**body, "tools": body["tools"][:1]})
    assert found.body == {"include": ["reasoning.encrypted_content"]}
    assert found.dropped == ("tools[0]",)


@pytest.mark.parametrize("choice", [{"type": "web_search"}, "required"])
def test_a_tool_that_is_forced_cannot_be_left_out(choice: Any) -> None:
    with pytest.raises(ClientError, match="does not support"):
        fitted("bedrock_subset", "openai-responses", {"tools": [{"type": "web_search"}], "tool_choice": choice})


def test_tools_of_the_maker_go_with_what_they_need() -> None:
    tools = [
        {"type": "mcp_toolset", "mcp_server_name": "s"},
        {"type": "code_execution_20250825", "name": "c"},
        {"name": "t"},
    ]
    found = fitted("vertex_subset", "anthropic", {"tools": tools, "mcp_servers": [{}], "container": "c"})
    assert found.body == {"tools": [{"name": "t"}]}
    found = fitted("vertex_subset", "gemini", {"tools": [{"fileSearch": {}}, {"functionDeclarations": []}]})
    assert found.body == {"tools": [{"functionDeclarations": []}]}


def test_of_two_hosts_in_a_row_each_takes_its_part() -> None:
    place = Place("", quirks=frozenset(["bedrock_subset", "vertex_subset"]))
    ask = Ask("claude-opus-5", headers=(("anthropic-beta", "claude-code-20250219,context-1m-2025-08-07"),))
    found = fit(place, FORMATS["anthropic"], {"inference_geo": "us", "workspace_id": "w"}, ask)
    assert found is not None
    assert (found.body, found.headers) == ({}, [("anthropic-beta", "context-1m-2025-08-07")])
    assert set(found.dropped) == {"inference_geo", "workspace_id"}


def test_a_message_may_go_without_its_type() -> None:
    items = [
        {"role": "assistant", "status": "completed", "content": "x"},
        {"type": "function_call", "status": "completed"},
    ]
    found = fitted("foundry_subset", "openai-responses", {"input": items})
    assert found.body["input"] == [{"role": "assistant", "content": "x"}, items[1]]


def test_betas_of_the_body_that_are_taken_go_into_the_header() -> None:
    found = fitted("vertex_subset", "anthropic", {"anthropic_beta": ["effort-2025-11-24"]})
    assert (found.body, found.headers, found.dropped) == ({}, [("anthropic-beta", "effort-2025-11-24")], ())
