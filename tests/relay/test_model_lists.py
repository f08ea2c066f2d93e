"""What model lists say of a model: read in each service's own words, told in each client's, and never broken."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import anthropic
import openai
import pytest
from anthropic.types import CapabilitySupport
from anthropic.types import ModelInfo as AnthropicModel
from google import genai
from google.genai.types import HttpOptions
from openai.types import Model as OpenAIModel

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.anthropic.models import claude_max_tokens
from ccproxy_lite.providers import known_model
from tests.support import Proxy, ask, behind, http, proxy, upstream

ANTHROPIC = {"anthropic_version": "2023-06-01"}


def listed(served: Proxy, path: str = "/v1/models", **headers: str) -> dict[str, dict[str, Any]]:
    """The list, by name; Gemini's with the prefix of its names."""
    answer = ask(served.port, path, method="GET", **headers)
    assert answer.status == 200, answer
    body = answer.json
    entries = body["data"] if "data" in body else body["models"]
    return {entry["id"] if "id" in entry else entry["name"]: entry for entry in entries}


def all_lists(served: Proxy) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """As OpenAI's, Anthropic's and Google's clients see it."""
    return listed(served), listed(served, **ANTHROPIC), listed(served, "/v1beta/models")


def told(served: Proxy, name: str) -> tuple[Any, Any, Any, set[str]]:
    """Name, window, answer and kinds of input of a model, after all dialects have agreed on it."""
    chat, messages, gemini = (
        one[key] for one, key in zip(all_lists(served), (name, name, f"models/{name}"), strict=True)
    )
    display = messages["display_name"]
    assert display and display == gemini["displayName"] and chat.get("name", name) == display
    numbers = [
        (chat.get("context_length"), chat.get("max_completion_tokens")),
        (messages.get("max_input_tokens"), messages.get("max_tokens")),
        (gemini.get("inputTokenLimit"), gemini.get("outputTokenLimit")),
    ]
    assert len(set(numbers)) == 1, numbers
    inputs = set(chat.get("architecture", {}).get("input_modalities", ["text"])) - {"text"}
    capabilities = messages.get("capabilities", {})
    assert capabilities.get("image_input", {}).get("supported", False) is ("image" in inputs)
    assert capabilities.get("pdf_input", {}).get("supported", False) is ("file" in inputs)
    return display, *numbers[0], inputs


# ---------------------------------------------------------------- services

CLAUDE = {
    "type": "model", "id": "claude-zork-9", "display_name": "Claude Zork 9", "created_at": "2026-02-04T00:00:00Z",
    "max_input_tokens": 1000000, "max_tokens": 128000,
    "capabilities": {
        "batch": {"supported": True}, "image_input": {"supported": True}, "pdf_input": {"supported": False},
        "thinking": {"supported": True, "types": {"adaptive": {"supported": True}}},
    },
}  # fmt: skip
GEMINI = {
    "name": "models/zork-pro", "version": "001", "displayName": "Zork Pro", "inputTokenLimit": 1048576,
    "outputTokenLimit": 65536, "supportedGenerationMethods": ["generateContent", "countTokens"], "temperature": 1,
}  # fmt: skip
OPENROUTER = {
    "id": "vendor/zork-large", "canonical_slug": "vendor/zork-large-0525", "name": "Vendor: Zork Large", "created": 1,
    "context_length": 262144,
    "architecture": {"modality": "text+image->text", "input_modalities": ["text", "image", "file"],
                     "output_modalities": ["text"], "tokenizer": "Other", "instruct_type": None},
    "pricing": {"prompt": "0.0000003", "completion": "0.0000009"},
    "top_provider": {"context_length": 131072, "max_completion_tokens": 32768, "is_moderated": False},
    "per_request_limits": None, "supported_parameters": ["tools", "reasoning"],
}  # fmt: skip
VLLM = {
    "id": "org/zork-7b", "object": "model", "created": 1, "owned_by": "vllm", "root": "org/zork-7b", "parent": None,
    "max_model_len": 32768, "permission": [{"id": "modelperm-1", "object": "model_permission"}],
}  # fmt: skip
LLAMA_CPP = {
    "id": "zork-8b.gguf", "aliases": [], "tags": [], "object": "model", "created": 1735142223, "owned_by": "llamacpp",
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "meta": {"vocab_type": 2, "n_vocab": 128256, "n_ctx": 16384, "n_ctx_train": 131072, "n_embd": 4096},
}  # fmt: skip
LLAMA_CPP_BESIDE = {
    "name": "zork-8b.gguf", "model": "zork-8b.gguf", "modified_at": "", "size": "", "digest": "", "type": "model",
    "capabilities": ["completion", "multimodal"], "parameters": "", "details": {"format": "gguf"},
}  # fmt: skip
LM_STUDIO = {
    "id": "zork-vl-7b", "object": "model", "type": "vlm", "publisher": "mlx-community", "arch": "zork", "state": "loaded",
    "quantization": "4bit", "max_context_length": 131072, "loaded_context_length": 8192,
    "capabilities": ["tool_use"],
}  # fmt: skip
GROQ = {
    "id": "zork-70b-versatile", "object": "model", "created": 1, "owned_by": "Meta", "active": True,
    "context_window": 131072, "public_apps": None, "max_completion_tokens": 32768,
}  # fmt: skip
MISTRAL = {
    "id": "zork-medium-2508", "object": "model", "created": 1, "owned_by": "mistralai", "name": "zork-medium-2508",
    "capabilities": {"completion_chat": True, "function_calling": True, "vision": True, "fine_tuning": False},
    "description": None, "max_context_length": 131072, "aliases": ["zork-medium-latest"], "type": "base",
}  # fmt: skip
TOGETHER = {
    "id": "org/Zork-70B-Turbo", "object": "model", "created": 0, "type": "chat", "running": False,
    "display_name": "Zork 70B Turbo", "organization": "Org", "link": "", "license": "", "context_length": 131072,
    "config": {"chat_template": None, "stop": []}, "pricing": {"hourly": 0, "input": 0.88, "output": 0.88},
}  # fmt: skip
OLLAMA = {"id": "zork:latest", "object": "model", "created": 1, "owned_by": "library"}

SERVICES: dict[str, tuple[str, Any, str, tuple[Any, Any, Any, set[str]]]] = {
    "anthropic": ("anthropic", {"data": [CLAUDE], "has_more": False}, "claude-zork-9", ("Claude Zork 9", 1000000, 128000, {"image"})),
    "gemini": ("gemini", {"models": [GEMINI]}, "zork-pro", ("Zork Pro", 1048576, 65536, set())),
    "openrouter": ("openai-chat", {"data": [OPENROUTER]}, "vendor/zork-large", ("Vendor: Zork Large", 262144, 32768, {"image", "file"})),
    "vllm": ("openai-chat", {"object": "list", "data": [VLLM]}, "org/zork-7b", ("org/zork-7b", 32768, None, set())),
    "llama.cpp": ("openai-chat", {"models": [LLAMA_CPP_BESIDE], "object": "list", "data": [LLAMA_CPP]}, "zork-8b.gguf", ("zork-8b.gguf", 16384, None, {"image"})),
    "llama.cpp while it loads": ("openai-chat", {"data": [{**LLAMA_CPP, "meta": None, "architecture": None}]}, "zork-8b.gguf", ("zork-8b.gguf", None, None, set())),
    "lm studio": ("openai-chat", {"object": "list", "data": [LM_STUDIO]}, "zork-vl-7b", ("zork-vl-7b", 8192, None, {"image"})),
    "groq": ("openai-responses", {"object": "list", "data": [GROQ]}, "zork-70b-versatile", ("zork-70b-versatile", 131072, 32768, set())),
    "mistral": ("openai-chat", {"object": "list", "data": [MISTRAL]}, "zork-medium-2508", ("zork-medium-2508", 131072, None, {"image"})),
    "together": ("openai-chat", [TOGETHER], "org/Zork-70B-Turbo", ("Zork 70B Turbo", 131072, None, set())),
    "ollama": ("openai-chat", {"object": "list", "data": [OLLAMA]}, "zork:latest", ("zork:latest", None, None, set())),
}  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_each_services_own_words(service: str) -> None:
    form, body, name, expected = SERVICES[service]
    with upstream([http(200, body)]) as up, proxy(behind(up, form)) as served:
        assert told(served, name) == expected


def test_openrouter_says_what_its_best_provider_takes() -> None:
    """The window that requests really have is that of the provider behind it, where it is smaller."""
    entry = {**OPENROUTER, "context_length": None}
    with upstream([http(200, {"data": [entry]})]) as up, proxy(behind(up, "openai-chat")) as served:
        assert told(served, "vendor/zork-large")[1] == 131072


# ---------------------------------------------------------------- which says more


def test_the_configuration_counts_more_than_a_list_and_a_list_more_than_a_table() -> None:
    name = "qwen3-coder-plus"
    table = known_model(name)
    assert table.context_tokens and table.output_tokens
    said = {"id": name, "context_length": 50000}
    to = f"up/{name}"
    with upstream([http(200, {"data": [said, {"id": "qwen3-coder-flash"}]})]) as up:
        config = behind(up, "openai-chat")
        config["models"] = {
            "plain": to,
            "window": {"to": to, "context_tokens": 40000},
            "all": {"to": to, "context_tokens": 40000, "output_tokens": 4000, "name": "All of it"},
            "flash": "up/qwen3-coder-flash",
            "unknown": "up/nobody-knows-me",
        }
        with proxy(config) as served:
            assert told(served, name)[:3] == (name, 50000, table.output_tokens)
            assert told(served, "plain")[:3] == ("plain", 50000, table.output_tokens)
            assert told(served, "window")[:3] == ("window", 40000, table.output_tokens)
            assert told(served, "all")[:3] == ("All of it", 40000, 4000)
            assert told(served, "flash")[1] == known_model("qwen3-coder-flash").context_tokens
            assert told(served, "unknown") == ("unknown", None, None, set())


def test_names_that_a_glob_catches_tell_the_targets_window() -> None:
    with upstream([http(200, {"data": [{"id": "small", "context_length": 8192}]})]) as up:
        config = behind(up, "openai-chat")
        config["upstreams"]["claude"] = {
            **config["upstreams"]["up"],
            "format": "anthropic",
            "models": ["claude-opus-5"],
        }
        config["models"] = {
            "claude-*": {"to": "up/small", "name": "Small", "output_tokens": 1000},
            "mine": "up/small",
        }
        with proxy(config) as served:
            assert told(served, "claude-opus-5")[:3] == ("Small", 8192, 1000)
            assert told(served, "mine")[1] == 8192


def test_the_window_of_several_targets() -> None:
    """Failover targets do not count; one for large requests does."""
    sizes = {"small": 8192, "big": 65536, "huge": 262144}
    with upstream([http(200, {"data": [{"id": name, "context_length": size} for name, size in sizes.items()]})]) as up:
        config = behind(up, "openai-chat")
        config["models"] = {
            "failover": ["up/big", "up/small"],
            "other-way": ["up/small", "up/big"],
            "grows": [{"to": "up/huge", "when": {"tokens_over": 60000}}, "up/big"],
            "sees": [{"to": "up/small", "when": {"has": "image"}}, "up/big"],
            "shrinks": [{"to": "up/small", "when": {"tokens_under": 8000}}, "up/big"],
            "thinks": [{"to": "up/small", "when": {"tokens_under": 8000}}, "up/big(high)"],
        }
        with proxy(config) as served:
            found = {name: told(served, name)[1] for name in config["models"]}
    assert found == {
        "failover": 65536,
        "other-way": 8192,
        "grows": 262144,
        "sees": 65536,
        "shrinks": 65536,
        "thinks": 65536,
    }


def test_the_limit_of_answers_is_that_of_who_gets_ordinary_requests() -> None:
    sizes = {"a": 4096, "b": 32000, "c": 64000}
    models = [{"id": name, "context_length": 1000000, "max_completion_tokens": size} for name, size in sizes.items()]
    with upstream([http(200, {"data": models})]) as up:
        config = behind(up, "openai-chat")
        config["models"] = {
            "sees": [{"to": "up/b", "when": {"has": "image"}}, "up/a"],
            "grows": [{"to": "up/c", "when": {"tokens_over": 60000}}, "up/b"],
            "shrinks": [{"to": "up/b", "when": {"tokens_over": 60000}}, "up/c"],
            "only": [{"to": "up/b", "when": {"has": "image"}}],
        }
        with proxy(config) as served:
            found = {name: told(served, name)[2] for name in config["models"]}
    assert found == {"sees": 4096, "grows": 32000, "shrinks": 32000, "only": 32000}


def test_a_glob_that_keeps_the_name_keeps_what_users_are_shown() -> None:
    with upstream([http(200, {"data": [{"id": "x-1", "display_name": "The X"}]})]) as up:
        with proxy({**behind(up, "anthropic"), "models": {"x-*": "up/*", "alias": "up/x-1"}}) as served:
            assert told(served, "x-1")[0] == "The X"
            assert told(served, "alias")[0] == "alias"


def test_what_a_target_is_called_twice() -> None:
    """The same target with and without a condition: what the first one says is not lost."""
    with upstream([http(200, {"data": []})]) as up:
        config = behind(up, "openai-chat")
        one = {"to": "up/x", "when": {"has": "image"}, "name": "The One", "context_tokens": 5000}
        config["models"] = {"m": [one, "up/x"]}
        with proxy(config) as served:
            assert told(served, "m")[0] == "The One"


def test_an_alias_with_an_effort_or_a_suffix_in_its_target_has_its_window() -> None:
    with upstream([http(200, {"data": [{"id": "big", "context_length": 65536}]})]) as up:
        config = behind(up, "openai-chat")
        config["models"] = {"a": "up/big(high)", "b": {"to": "up/big(low)", "name": "B"}, "c*d": "up/big"}
        with proxy(config) as served:
            assert told(served, "a")[:2] == ("a", 65536)
            assert told(served, "b")[:2] == ("B", 65536)
            assert "c*d" not in listed(served)


@pytest.mark.parametrize("name", ["fast", "vendor/deep/model", "up/big"])
def test_one_model(name: str) -> None:
    with upstream([http(200, {"data": [{"id": "vendor/deep/model", "context_length": 9000}]})]) as up:
        config = behind(up, "openai-chat")
        config["models"] = {
            "fast": {"to": "up/vendor/deep/model", "name": "Fast"},
            "up/big": {"to": "up/x", "name": "Big"},
        }
        with proxy(config) as served:
            for path, headers, field in (
                (f"/v1/models/{name}", {}, "id"),
                (f"/v1/models/{name}", ANTHROPIC, "id"),
                (f"/v1beta/models/{name}", {}, "name"),
            ):
                answer = ask(served.port, path, method="GET", **headers)
                assert answer.status == 200, answer
                assert answer.json == listed(served, path[: -len(name) - 1], **headers)[answer.json[field]]


# ---------------------------------------------------------------- hostile lists

ODD_VALUES: list[Any] = [
    None, "", "many", "-5", "1e5", -1, 0, 0.5, 1e300, 10**40, True, False, [], {}, [1], {"a": 1}, "9" * 400, "\u0663\u0664",
]  # fmt: skip
FIELDS: dict[str, list[str]] = {
    "openai-chat": ["name", "display_name", "context_length", "max_model_len", "context_window", "max_completion_tokens",
                    "top_provider", "meta", "architecture", "capabilities", "input_modalities", "limits"],
    "anthropic": ["display_name", "max_input_tokens", "max_tokens", "capabilities", "created_at", "type"],
    "gemini": ["displayName", "inputTokenLimit", "outputTokenLimit", "supportedGenerationMethods", "version"],
}  # fmt: skip


@pytest.mark.parametrize("form", FIELDS)
def test_odd_values_never_break_a_list(form: str) -> None:
    key, name = ("name", "models/m{}") if form == "gemini" else ("id", "m{}")
    odd = [{field: value} for field in FIELDS[form] for value in ODD_VALUES]
    odd += [{outer: {inner: value}} for outer in ("top_provider", "meta", "architecture", "capabilities")
            for inner in ("context_length", "n_ctx", "input_modalities", "vision", "image_input")
            for value in ODD_VALUES]  # fmt: skip
    entries: list[Any] = [{key: name.format(number), **more} for number, more in enumerate(odd)]
    entries += [None, 1, "m", [], {}, {key: None}, {key: 5}, {key: ""}, {key: ["m"]}]
    body = {"models" if form == "gemini" else "data": entries, "has_more": "yes", "first_id": 3}
    with upstream([http(200, body)]) as up, proxy(behind(up, form)) as served:
        chat, messages, gemini = all_lists(served)
        assert len(chat) == len(messages) == len(gemini) == len(odd)
        for entry in messages.values():
            assert isinstance(entry["display_name"], str) and entry["display_name"]
        for entries_ in (chat, messages, gemini):
            for entry in entries_.values():
                assert None not in entry.values(), entry
                sizes = [value for name, value in entry.items() if "oken" in name or name == "context_length"]
                assert all(type(value) is int and value > 0 for value in sizes), entry


@pytest.mark.parametrize("form", FIELDS)
def test_a_window_that_cannot_be_is_not_told(form: str) -> None:
    """Clients keep these numbers in 32 or 64 bits, and reckon with them."""
    key = {"openai-chat": "context_length", "anthropic": "max_input_tokens", "gemini": "inputTokenLimit"}[form]
    entry = {"name" if form == "gemini" else "id": "m", key: 10**40}
    body = {"models" if form == "gemini" else "data": [entry]}
    with upstream([http(200, body)]) as up, proxy(behind(up, form)) as served:
        window = listed(served)["m"].get("context_length")
        assert window is None or window < 1 << 63


BODIES: list[Any] = [
    None,
    1,
    "x",
    {},
    {"data": None},
    {"data": {}},
    {"data": "m"},
    {"models": 5},
    {"data": [[]]},
    [[]],
    [None],
]


@pytest.mark.parametrize("form", ["openai-chat", "anthropic", "gemini"])
@pytest.mark.parametrize("body", BODIES)
def test_what_is_no_list_is_an_empty_one(form: str, body: Any) -> None:
    with upstream([http(200, body)]) as up, proxy({**behind(up, form), "models": {"a": "up/a"}}) as served:
        for found, name in zip(all_lists(served), ("a", "a", "models/a"), strict=True):
            assert list(found) == [name]


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"[" * 5000, b'{"data": [{"id": "m", "context_length": NaN}]}',
                                 b'{"data": [{"id": "m", "context_length": ' + b"9" * 5000 + b"}]}"])  # fmt: skip
def test_what_is_no_json_is_an_empty_list(raw: bytes) -> None:
    with upstream([http(200, raw)]) as up, proxy(behind(up, "openai-chat")) as served:
        assert all_lists(served) == ({}, {}, {})


def test_names_that_are_hard_to_write() -> None:
    names = ["ü/模型", 'quo"te', "back\\slash", "a b", "\ud83d", "x" * 5000, "<script>"]
    body = json.dumps({"data": [{"id": name, "name": name * 2} for name in names]}).encode()
    with upstream([http(200, body)]) as up, proxy(behind(up, "openai-chat")) as served:
        for found in all_lists(served):
            assert len(found) == len(names)


def test_a_list_takes_time_by_its_length_alone() -> None:
    """Sixteen times as many models take about sixteen times as long; the proxy does nothing else in the meantime."""
    took = []
    for count in (250, 4000):
        body = {"data": [{"id": f"vendor/model-{number}"} for number in range(count)]}
        with upstream([http(200, body)]) as up, proxy(behind(up, "openai-chat")) as served:
            assert len(listed(served)) == count
            times = []
            for _ in range(3):
                began = time.process_time()
                listed(served)
                times.append(time.process_time() - began)
            took.append(min(times))
    assert took[1] < 48 * took[0], took


# ---------------------------------------------------------------- the makers' own SDKs


def test_official_sdks_read_the_list() -> None:
    body = {"data": [OPENROUTER, {"id": "plain"}]}
    with upstream([http(200, body)]) as up, proxy(behind(up, "openai-chat")) as served:
        with anthropic.Anthropic(base_url=served.url, api_key="x") as theirs:
            first, second = theirs.models.list().data
            assert (first.id, first.display_name) == ("vendor/zork-large", "Vendor: Zork Large")
            assert (first.max_input_tokens, first.max_tokens) == (262144, 32768)
            assert first.capabilities is not None and first.capabilities.image_input.supported
            assert (second.display_name, second.max_input_tokens) == ("plain", None)
            assert theirs.models.retrieve("plain").created_at.year >= 2020
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x") as client:
            assert [model.id for model in client.models.list()] == ["vendor/zork-large", "plain"]
            assert client.models.retrieve("plain").owned_by
        google = genai.Client(api_key="x", http_options=HttpOptions(base_url=served.url))
        model = next(iter(google.models.list()))
        assert (model.name, model.display_name) == ("models/vendor/zork-large", "Vendor: Zork Large")
        assert (model.input_token_limit, model.output_token_limit) == (262144, 32768)
        assert google.models.get(model="plain").display_name == "plain"


def test_the_sdks_types_are_complete() -> None:
    with upstream([http(200, {"data": [OPENROUTER, {"id": "plain"}]})]) as up:
        with proxy(behind(up, "openai-chat")) as served:
            chat, messages, _ = all_lists(served)
    for entry in chat.values():
        OpenAIModel.model_validate(entry)
    for entry in messages.values():
        known = entry.pop("capabilities", None) or {}  # the SDK wants all of them, of which nobody knows the rest
        AnthropicModel.model_validate({**entry, "capabilities": None})
        assert all(CapabilitySupport.model_validate(value) for value in known.values())


def test_what_is_written_is_read_again_by_the_same_format() -> None:
    with upstream([http(200, {"data": [OPENROUTER]})]) as up, proxy(behind(up, "openai-chat")) as served:
        for form, headers, path in (
            ("openai-chat", {}, "/v1/models"), ("openai-responses", {}, "/v1/models"),
            ("anthropic", ANTHROPIC, "/v1/models"), ("gemini", {}, "/v1beta/models"),
        ):  # fmt: skip
            info = FORMATS[form].read_models(ask(served.port, path, method="GET", **headers).json)[0]
            assert (info.id, info.name) == ("vendor/zork-large", "Vendor: Zork Large")
            assert (info.context_tokens, info.output_tokens) == (262144, 32768)
            assert form == "gemini" or "image" in info.inputs


def test_that_a_model_takes_text_only_is_told() -> None:
    entries = [{"id": "text", "architecture": {"input_modalities": ["text"]}}, {"id": "unknown"}]
    with upstream([http(200, {"data": entries})]) as up, proxy(behind(up, "openai-chat")) as served:
        chat, messages, _ = all_lists(served)
    assert chat["text"]["architecture"]["input_modalities"] == ["text"] and "architecture" not in chat["unknown"]
    assert messages["text"]["capabilities"]["image_input"] == {"supported": False}
    assert "capabilities" not in messages["unknown"]


def test_a_target_for_pictures_takes_no_files_for_the_others() -> None:
    models = {"pick": [{"to": "up/gemini-3.5-flash", "when": {"has": "image"}}, "up/qwen3-coder"]}
    with upstream([http(200, {"data": []})]) as up, proxy({**behind(up, "openai-chat"), "models": models}) as served:
        chat, *_ = all_lists(served)
    assert chat["pick"]["architecture"]["input_modalities"] == ["text", "image"]


@pytest.mark.parametrize(
    "name", ["claude-opus-5-5", "any/claude-x", "fast(high)", "fast-high", "fast[1m]", "up/listed"]
)
def test_a_name_that_is_answered_can_be_retrieved(name: str) -> None:
    models = {"claude-*": "up/listed", "*/claude-*": "up/listed", "fast": "up/listed"}
    with upstream([http(200, {"data": [{"id": "listed", "max_model_len": 9000}]})]) as up:
        with proxy({**behind(up, "openai-chat"), "models": models}) as served:
            found = ask(served.port, f"/v1/models/{quote(name, safe='')}", method="GET").json
            assert (found["id"], found["context_length"]) == (name, 9000)
            for unknown in ("nothing", "up/nothing", "other/listed"):
                assert ask(served.port, f"/v1/models/{unknown}", method="GET").status == 404


def test_the_two_tables_of_claudes_models_agree() -> None:
    """What an answer may be limited to, and what clients are told of it."""
    for family, versions in {
        "opus": "4 4-1 4-5 4-6 4-7 4-8 4-10 5 5-5 10",
        "sonnet": "4 4-5 4-6 5 5-5",
        "haiku": "4-5 5",
    }.items():
        for version in versions.split():
            for date in ("", "-20251101"):
                name = f"claude-{family}-{version}{date}"
                assert known_model(name).output_tokens == claude_max_tokens(name), name
