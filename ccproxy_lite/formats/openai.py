"""What OpenAI's two formats have in common: errors, model lists, efforts, schemas. Source: the API's reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import product
from typing import Any

from ccproxy_lite.errors import Kind
from ccproxy_lite.formats import failures, fields
from ccproxy_lite.formats.format import Target
from ccproxy_lite.formats.neutral import overflow
from ccproxy_lite.formats.neutral.events import Failed, Usage
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.names import short_user
from ccproxy_lite.formats.neutral.request import Effort, Output, Reasoning, Request, ToolChoice
from ccproxy_lite.formats.neutral.schema import as_input_schema, clean, required_names, transform
from ccproxy_lite.formats.neutral.thinking import effort_of

_TYPES: dict[Kind, tuple[str, str | None]] = {
    "bad_request": ("invalid_request_error", None),
    "auth": ("invalid_request_error", "invalid_api_key"),
    "billing": ("insufficient_quota", "insufficient_quota"),
    "permission": ("invalid_request_error", None),
    "not_found": ("invalid_request_error", "model_not_found"),
    "too_large": ("invalid_request_error", None),
    "rate_limit": ("rate_limit_error", "rate_limit_exceeded"),
    "overloaded": ("server_error", "server_is_overloaded"),
    "timeout": ("server_error", None),
    "server": ("server_error", None),
}
PREVIOUS_NOT_FOUND = "previous_response_not_found"
"""The code by which clients know that they must send the whole conversation."""


def is_own_error(status: int, body: Any) -> bool:
    """Whether an error answer is in the format's shape, and a prompt that is too long has OpenAI's code."""
    error = body.get("error") if isinstance(body, dict) else None
    message = fields.lenient(error, "message")
    status_name = fields.lenient(error, "status")
    # Google's errors have a status, Anthropic's an outer type.
    is_foreign = (status_name and not status_name.isdigit()) or fields.lenient(body, "type") == "error"
    if (
        not message
        or failures.is_nested(message)
        or is_foreign
        or not isinstance((error or {}).get("type"), str | None)
    ):
        return False
    is_coded = status == 400 and fields.lenient(error, "code") == overflow.CODE
    return is_coded or failures.read_error(status, body).overflow is None


def write_error(failed: Failed) -> tuple[int, Mapping[str, Any]]:
    """HTTP status and body of a failure; a prompt that is too long gets the code that clients look for."""
    status = 503 if failed.status == 529 else failed.status
    # OpenAI answers a spent quota with 429; its SDKs know no 402.
    if failed.kind == "billing":
        status = 429
    name, code = _TYPES[failed.kind]
    # A missing path is a 404 as well.
    if code == "model_not_found" and "model" not in failed.message + failed.code:  # a path, say
        code = None
    if failed.overflow is not None:
        status, code = 400, overflow.CODE
    if failed.code == PREVIOUS_NOT_FOUND:
        code = failed.code
    error = {"message": failed.message, "type": name, "param": failed.param or None, "code": code}
    return status, {"error": error}


# ---------------------------------------------------------------- answers


def read_usage(usage: Any) -> Usage | None:
    """Tokens, in whatever spelling of an OpenAI format; what was sent includes the cache.

    Services differ in two things, and ``total_tokens`` tells how: whether reasoning is part of the output (not at
    xAI), and whether the cache is part of the prompt. No more is ever read than was sent.

    >>> read_usage({"prompt_tokens": 10, "completion_tokens": 2, "reasoning_tokens": 340, "total_tokens": 352})
    Usage(input=10, output=342, cache_read=0, cache_write=0, reasoning=340)
    """
    if not isinstance(usage, dict):
        return None
    sent = _first_count(usage, ("prompt_tokens", "input_tokens"))
    output = _first_count(usage, ("completion_tokens", "output_tokens"))
    total = fields.count(usage, "total_tokens")
    if usage.keys() <= _SUMS and total <= sent + output:  # neither caches nor reasoning
        return Usage(sent, output)
    into, out_of = _details(usage, _INPUT_DETAILS) or {}, _details(usage, _OUTPUT_DETAILS)
    cached = _first_count(into, _CACHED) or _first_count(usage, _CACHED)
    written = _first_count(into, _WRITTEN) or _first_count(usage, _WRITTEN)
    reasoning = _first_count(out_of or {}, _REASONING) or _first_count(usage, _REASONING)
    if not total or total != sent + output:
        sent, output = _summed(sent, output, (cached, written, reasoning), total)
    cached = min(cached, sent)
    written = min(written, sent - cached)
    is_told = out_of is not None or "reasoning_tokens" in usage
    return Usage(sent - cached - written, output, cached, written, reasoning if is_told else None)


def _summed(sent: int, output: int, parts: tuple[int, int, int], total: int) -> tuple[int, int]:
    """Input and output with those of the parts (read from the cache, written to it, reasoning) that are beside them."""
    if not total:
        return sent, output + (parts[2] if parts[2] > output else 0)
    for beside in product((0, 1), repeat=3):
        cached, written, reasoning = (part * is_beside for part, is_beside in zip(parts, beside, strict=True))
        if sent + cached + written + output + reasoning == total:
            return sent + cached + written, output + reasoning
    # Reasoning that is counted in the total alone.
    return sent, total - sent if not any(parts) and 0 < sent + output < total else output


_SUMS = frozenset(("prompt_tokens", "completion_tokens", "total_tokens"))
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
_CACHED = ("cached_tokens", "num_cached_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens")
_WRITTEN = ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")


_REASONING = ("reasoning_tokens",)


def _details(usage: fields.Object, names: tuple[str, ...]) -> fields.Object | None:
    for name in names:
        if isinstance(value := usage.get(name), dict):
            return value
    return None


def _first_count(holder: fields.Object, names: tuple[str, ...]) -> int:
    for name in names:
        if holder.get(name):
            return fields.count(holder, name)
    return 0


# ---------------------------------------------------------------- requests

_MODES = {
    "auto": ToolChoice("auto"),
    "required": ToolChoice("required"),
    "any": ToolChoice("required"),  # Mistral's word, and Anthropic's
    "none": ToolChoice("none"),
}
TIERS = frozenset("auto default flex scale priority fast".split())
"""The service tiers; a word of another service is rejected."""

FlatName = Callable[[str, str], str]


def read_choice(
    value: Any, named: FlatName = lambda space, name: name, typed: Callable[[str], str] = lambda kind: kind
) -> ToolChoice | None:
    """``tool_choice`` in either format's spelling, which clients mix up, and in some of others. Raises ClientError.

    :param named: what a tool in a namespace is called
    :param typed: what a tool of a type is called that the provider runs

    >>> read_choice({"function": {"name": "f"}}) == read_choice({"type": "tool", "name": "f"})
    True
    """
    if value is None:
        return None
    if isinstance(value, str):
        if value not in _MODES:
            raise fields.wrong("tool_choice", "none, auto, required or an object")
        return _MODES[value]
    choice = fields.as_object(value, "tool_choice")
    kind = fields.optional_text(choice, "type", "tool_choice") or ""
    if kind in _MODES and not choice.keys() & {"name", "function"}:
        return _MODES[kind]
    if kind == "allowed_tools":
        at = "tool_choice.allowed_tools" if "allowed_tools" in choice else "tool_choice"
        allowed = fields.as_object(choice.get("allowed_tools", choice), at)
        called = tuple(_tool_name(tool, where, named, typed) for tool, where in fields.objects(allowed, "tools", at))
        return ToolChoice("required" if allowed.get("mode") in ("required", "any") else "auto", called)
    return ToolChoice("required", (_tool_name(choice, "tool_choice", named, typed),))


def _tool_name(tool: fields.Object, at: str, named: FlatName, typed: Callable[[str], str]) -> str:
    """The name of a tool, beside its type or one level deeper; a tool that the provider runs is named by its type."""
    is_typed = tool.get("type") not in (None, "tool")
    kind = fields.text(tool, "type", at) if is_typed else "function"
    if kind not in ("function", "custom"):
        return typed(kind)
    if "name" in tool or kind not in tool:
        return named(fields.text(tool, "namespace", at, ""), fields.text(tool, "name", at))
    inner = fields.join(at, kind)
    return named("", fields.text(fields.as_object(tool[kind], inner), "name", inner))


def context_size(options: fields.Object, at: str) -> str:
    """``search_context_size``. Raises ClientError."""
    size = fields.optional_text(options, "search_context_size", at) or ""
    if size not in ("", "low", "medium", "high"):
        raise fields.wrong(fields.join(at, "search_context_size"), "low, medium or high")
    return size


_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "auto")


def effort(holder: fields.Object, key: str, at: str = "") -> Effort | None:
    """An effort to think. Raises ClientError for a word that is none."""
    value = fields.optional_text(holder, key, at)
    if value is not None and value not in _EFFORTS:
        raise fields.wrong(fields.join(at, key), f"one of {', '.join(_EFFORTS[:-1])}")
    return value  # type: ignore[return-value]


OUTPUT = frozenset("name schema strict description".split())


def output(form: fields.Object, at: str) -> Output:
    """A JSON Schema that the answer follows."""
    return Output(
        fields.as_object(form.get("schema"), f"{at}.schema"),
        fields.text(form, "name", at, ""),
        fields.optional_bool(form, "strict", at),
        fields.text(form, "description", at, ""),
    )


def write_output(output: Output) -> dict[str, Any]:
    """The same; ``strict`` only where the schema meets the rules for it."""
    written: dict[str, Any] = {"name": output.name or "response", "schema": clean(output.schema or {})}
    if output.description:
        written["description"] = output.description
    if output.strict is not None:
        written["strict"] = output.strict and is_strict(output.schema)
    return written


def accepted(request: Request, target: Target, losses: Losses, tiers: frozenset[str] = TIERS) -> dict[str, Any]:
    """The parameters without those that the model does not take (reasoning models: no sampling); ``user`` is shortened.

    A name of a service tier means the same in OpenAI's two formats only.
    """
    values = {name: value for name, value in request.scalars().items() if name != "cache_key"}  # see ``openai_caching``
    unsupported = ["temperature", "top_p"] if is_openai_reasoning(target.model) else []
    if not losses.is_kin or values.get("service_tier") not in tiers:
        unsupported.append("service_tier")
    for name in unsupported:
        if name in values:
            losses.lose_scalar(name, values.pop(name))
    if "user" in values:
        values["user"] = short_user(values["user"], 64)
    return values


def _with_properties(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "object" and not isinstance(schema.get("properties"), Mapping):
        schema["properties"] = {}
    return schema


def as_parameters(schema: Any) -> dict[str, Any]:
    """A tool schema for OpenAI: an object schema, and ``properties`` in every object schema at any depth."""
    return as_input_schema(schema, _with_properties)


def is_strict(schema: Any) -> bool:
    """Whether a schema meets OpenAI's strict rules: every object is closed and requires all its properties."""
    met = True

    def look(inner: dict[str, Any]) -> dict[str, Any]:
        nonlocal met
        properties = inner.get("properties")
        if inner.get("type") == "object" or isinstance(properties, Mapping):
            names = set(properties) if isinstance(properties, Mapping) else set()
            closed = inner.get("additionalProperties") is False
            met = met and closed and names <= set(required_names(inner))
        return inner

    transform(schema, look)
    return met


# ---------------------------------------------------------------- efforts

_OFFICIAL_REASONING = re.compile(r"(?:.*[/.:])?(?:o[1-9](?:-|\Z)|gpt-(?:[5-9]|[1-9]\d)(?!.*-chat)|codex)")


_OFFICIAL_OTHERS = re.compile(r"(?:.*[/.:])?(?:gpt-[34](?!\d)|chatgpt-|gpt-.*-chat)")


_KNOWS_NONE = re.compile(r"(?:.*[/.:])?gpt-(?:5\.[1-9]|[6-9]|[1-9]\d)")


_KNOWS_XHIGH = re.compile(r"(?:.*[/.:])?gpt-(?:5\.1-codex-max|5\.[2-9]|[6-9]|[1-9]\d)")


@lru_cache(maxsize=256)
def is_openai_reasoning(model: str) -> bool:
    """Whether the name is that of an OpenAI reasoning model, which rejects sampling parameters."""
    return _OFFICIAL_REASONING.match(model) is not None


def takes_no_effort(target: Target) -> bool:
    """Whether an OpenAI-format upstream would reject an effort: its quirk or its name says so."""
    return "no_reasoning_effort" in target.quirks or _OFFICIAL_OTHERS.match(target.model) is not None


def openai_effort(reasoning: Reasoning, model: str) -> str | None:
    """``reasoning_effort`` for a model, or None where nothing should be sent.

    A model of an unknown vendor gets one of the three common levels, and nothing for "none".
    """
    effort = effort_of(reasoning)
    if effort == "auto":
        return None
    if not is_openai_reasoning(model):
        return {"none": None, "minimal": "low", "xhigh": "high", "max": "high"}.get(effort, effort)
    if effort == "none" and not _KNOWS_NONE.match(model):
        return "minimal" if model.rpartition("/")[2].startswith("gpt-5") else "low"
    if effort == "minimal" and not re.match(r"(?:.*[/.:])?gpt-5(?:-|\Z)", model):  # later ones know it no more
        return "low"
    if effort in ("xhigh", "max"):
        return "xhigh" if _KNOWS_XHIGH.match(model) else "high"
    return effort
