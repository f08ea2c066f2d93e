"""Anthropic Messages: how a request asks for reasoning, and what stands against it. Pure.

Newer models think as they see fit (``adaptive``, at one of five efforts), older ones within a budget (``enabled``). It
counts towards the token limit, and is rejected beside a forced tool, a prefill, or a tool loop whose reasoning is
missing. Source: extended and adaptive thinking at platform.claude.com.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.formats import fields
from ccproxy_lite.formats.anthropic import models
from ccproxy_lite.formats.anthropic.blocks import NAME
from ccproxy_lite.formats.format import Target
from ccproxy_lite.formats.neutral import thinking
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import Effort, Reasoning, Request, ToolChoice


def max_tokens(request: Request, target: Target, losses: Losses) -> int:
    """The limit of the answer; what another service allows may be more than this model does."""
    # Anthropic requires a limit, and rejects one above the model's own.
    most = models.claude_max_tokens(target.model)
    if request.max_tokens is not None and request.max_tokens > most:
        losses.lose("max_tokens")
        return most
    return request.max_tokens if request.max_tokens is not None else min(target.default_max_tokens, most)


_ADAPTIVE = {"minimal": "low", "auto": None}


def write_thinking(body: dict[str, Any], request: Request, target: Target, losses: Losses) -> None:
    reasoning = request.reasoning
    if reasoning is None:
        return
    effort = thinking.effort_of(reasoning)
    version = models.claude_version(target.model) or (0, 0)
    mode = models.claude_thinking(target.model, target.quirks)
    if mode == "none":
        if effort != "none":
            losses.lose("reasoning", reasoning.at)
    elif effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif mode == "manual":
        _write_manual_thinking(body, request, target, losses)
    else:
        body["thinking"] = {"type": "adaptive"}
        visible = reasoning.visible
        if visible is None and version >= (4, 7):  # these hide their reasoning by default
            visible = True
        if visible is not None:
            body["thinking"]["display"] = "summarized" if visible else "omitted"
        # Adaptive models choose the budget themselves, between five levels.
        level = _ADAPTIVE.get(effort, effort)
        if level == "xhigh" and version < (4, 7):
            level = "high"
        if level:
            body.setdefault("output_config", {})["effort"] = level


def _write_manual_thinking(body: dict[str, Any], request: Request, target: Target, losses: Losses) -> None:
    """A budget of at least 1024 tokens that leaves room for the answer, and nothing that forbids thinking beside it."""
    budget = max(thinking.budget_of(request.reasoning or Reasoning(), target.budgets), 1024)
    if request.max_tokens is None:
        body["max_tokens"] = min(budget + target.default_max_tokens, models.claude_max_tokens(target.model))
        budget = min(budget, body["max_tokens"] - 1024)
    else:
        # The budget counts towards max_tokens: a quarter of it is left for the answer.
        budget = min(budget, body["max_tokens"] - max(1024, body["max_tokens"] // 4))
    # Rejected beside manual thinking: a forced tool, a prefill, a tool loop without its reasoning.
    forced = request.tool_choice is not None and request.tool_choice.mode == "required" and "tools" in body
    if budget < 1024 or forced or _prefills_or_hides_thoughts(body["messages"]):
        losses.lose("reasoning.conflict", request.reasoning.at if request.reasoning else "")
        body["max_tokens"] = max_tokens(request, target, losses)
    else:
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _prefills_or_hides_thoughts(messages: list[dict[str, Any]]) -> bool:
    """Whether the conversation ends in a prefill, or in a tool loop whose reasoning is missing."""
    if not messages:
        return False
    if fields.lenient(messages[-1], "role") == "assistant":
        return True
    return hides_thoughts(messages)


_SAMPLING = ("temperature", "top_p", "top_k")


def with_effort(body: Mapping[str, Any], effort: Effort, target: Target) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A client's own body with another effort; how much of the reasoning it wants to see stays.

    What the model rejects beside thinking is left out, and named.
    """
    shown = fields.lenient(body.get("thinking"), "display")
    config = {key: value for key, value in _member(body, "output_config").items() if key != "effort"}
    changed = {key: value for key, value in body.items() if key not in ("thinking", "output_config")}
    limit = body.get("max_tokens")
    request = Request(
        target.model,
        tool_choice=ToolChoice("required") if _is_forced(body) else None,
        max_tokens=limit if type(limit) is int else None,
        reasoning=Reasoning(effort, visible=shown != "omitted" if shown else None, at="effort"),
    )
    losses = Losses(NAME, NAME)
    written = {
        **changed,
        "messages": fields.lenient_list(body, "messages"),
        **({"output_config": config} if config else {}),
    }
    write_thinking(written, request, target, losses)
    if not shown:  # what the client has not asked for is the service's own choice
        written.get("thinking", {}).pop("display", None)
    settings = ("thinking", "output_config", "max_tokens") if "thinking" in written else ("output_config",)
    changed |= {key: written[key] for key in settings if key in written}
    dropped = list(losses.dropped)
    if fields.lenient(changed.get("thinking"), "type") in ("enabled", "adaptive"):
        rejected = [name for name in _SAMPLING if name in changed and (name, changed[name]) != ("temperature", 1)]
        dropped += rejected
        changed = {key: value for key, value in changed.items() if key not in rejected}
    return changed, tuple(dropped)


def _is_forced(body: Mapping[str, Any]) -> bool:
    return fields.lenient(body.get("tool_choice"), "type") in ("any", "tool")


def _member(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def hides_thoughts(messages: list[Any]) -> bool:
    """Whether a conversation ends in a tool loop in which there is no reasoning: manual thinking rejects it.

    The whole loop is one turn, back to what the user has said last. Many models think at its beginning only.
    """
    called = False
    if "tool_result" not in _block_types(messages[-1:]):
        return False
    for message in reversed(messages):
        types = _block_types([message])
        if fields.lenient(message, "role") == "assistant":
            if not types.isdisjoint(("thinking", "redacted_thinking")):
                return False
            called = called or "tool_use" in types
        elif "tool_result" not in types:
            break
    return called


def _block_types(messages: list[Any]) -> set[str]:
    return {fields.lenient(block, "type") for one in messages for block in fields.lenient_list(one, "content")}
