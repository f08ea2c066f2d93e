"""What each format cannot express, and what then happens: the one table of it. Pure.

ignored
    has no effect on the response; not reported
dropped
    changes the response slightly: named in ``x-ccproxy-dropped`` and in the log; an error in strict mode
rejected
    the response would be wrong, or history would be lost: 400, naming the field

>>> losses = Losses("anthropic", "openai-chat")
>>> losses.lose("top_k"); losses.dropped
['top_k']
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats.neutral import answer_losses
from ccproxy_lite.formats.neutral.events import NOTHING, Extra
from ccproxy_lite.formats.neutral.request import Foreign, Request, ServerTool, Tool, ToolChoice, WebTool

Action = Literal["ignored", "dropped", "rejected"]


class Loss(NamedTuple):
    action: Action
    why: str


def _losses(action: Action, why: str, *names: str) -> dict[str, Loss]:
    return {name: Loss(action, why) for name in names}


_NO_INDEX = "the client allows cached results only, which do not exist here; the quirk live_search permits a search"

_NO_SEARCH = (
    "no such web tool here: a chat service searches only with the quirk web_search; "
    'requests that search can go to another target ("when": {"has": "web_search"})'
)

_EVERYWHERE = {
    **_losses("dropped", "tool calls without a result are rejected", "unanswered_call"),
    **_losses("dropped", "tool results without a call are rejected", "orphan_result"),
    **_losses("dropped", "content type of another provider", "foreign"),
    **_losses("rejected", "content that only another provider can read", "foreign.needed"),
    **_losses("dropped", "tool run by another provider", "server_tool"),
    **_losses("rejected", "tool run by another provider, and the request depends on it", "server_tool.needed"),
    **_losses("dropped", "no such web tool here, or not beside functions", "web_tool"),
    **_losses("rejected", "no such web tool here, and the request depends on it", "web_tool.needed"),
    **_losses("dropped", _NO_INDEX, "web_tool.offline"),
    **_losses("rejected", _NO_INDEX, "web_tool.offline.needed"),
    **_losses("dropped", "results of a search that only its provider can read", "search"),
    **_losses("rejected", "files uploaded to another provider cannot be referenced", "file_id"),
    **_losses("rejected", "only one candidate is supported", "candidates"),
    **_losses("dropped", "reasoning from another provider is rejected", "thinking"),
    **_losses("ignored", "service tiers differ", "service_tier"),
    **_losses("dropped", "not part of converted responses", "logprobs"),
}
"""What holds for every target."""

_NO_DOMAINS = _losses("dropped", "no such filter", "web_tool.allowed_domains", "web_tool.blocked_domains")
_NO_USES = _losses("dropped", "no such limit", "web_tool.max_uses")
_STARTED = _losses("dropped", "assistant prefill not supported", "prefill")
_NO_PICTURES = _losses("dropped", "no media in assistant messages", "assistant.media")
_REASONING_MODELS = "reasoning models accept only the default"

TO: dict[str, dict[str, Loss]] = {
    "anthropic": {
        **_EVERYWHERE,
        **_NO_PICTURES,
        **_losses("dropped", "no such parameter", "seed", "frequency_penalty", "presence_penalty", "verbosity"),
        **_losses("dropped", "only one of allowed and blocked domains is accepted", "web_tool.blocked_domains"),
        **_losses("dropped", "no such setting", "web_tool.context_size"),
        **_losses("dropped", "rejected by current Claude models", "temperature", "top_p", "top_k"),
        **_losses("ignored", "caching needs no key", "cache_key"),
        **_losses("ignored", "no image detail levels", "image.detail"),
        **_losses("rejected", "no audio input", "audio"),
        **_losses("dropped", "whitespace-only stop sequences are rejected", "stop"),
        **_losses("dropped", "above the model's output limit", "max_tokens"),
        **_losses("rejected", "only JPEG, PNG, GIF and WebP", "image.media_type"),
        **_losses("rejected", "only PDF and plain text", "file.media_type"),
        **_losses("dropped", "JSON schema only, no schema-less JSON mode", "json_object"),
        **_losses("dropped", "model does not support reasoning", "reasoning"),
        **_losses("dropped", "no reasoning with a forced tool, or without the previous reasoning",
               "reasoning.conflict"),
    },
    "openai-chat": {
        **_EVERYWHERE,
        **_NO_PICTURES,
        **_STARTED,
        **_NO_DOMAINS,
        **_NO_USES,
        **_losses("rejected", _NO_SEARCH, "web_tool.needed"),
        **_losses("dropped", "no such parameter", "top_k"),
        **_losses("dropped", "reasoning and search models accept only the default", "temperature", "top_p", "stop"),
        **_losses("dropped", "search models accept only the default", "frequency_penalty", "presence_penalty"),
        **_losses("ignored", "only services with the quirk prompt_cache_key know it", "cache_key"),
        **_losses("dropped", "at most 4 stop sequences", "stop.more"),
        **_losses("rejected", "files by URL not supported", "file.url"),
        **_losses("dropped", "no field for reasoning content", "thinking"),
        **_losses("dropped", "model does not support a reasoning effort", "reasoning"),
    },
    "openai-responses": {
        **_EVERYWHERE,
        **_NO_PICTURES,
        **_STARTED,
        **_NO_USES,
        **_losses("dropped", "no such filter", "web_tool.blocked_domains"),
        **_losses("dropped", "no such parameter", "top_k", "stop", "seed", "frequency_penalty", "presence_penalty"),
        **_losses("dropped", _REASONING_MODELS, "temperature", "top_p"),
        **_losses("rejected", "no audio input", "audio", "result.audio"),
        **_losses("dropped", "fewer than 16 tokens are rejected", "max_tokens"),
        **_losses("dropped", "model does not support a reasoning effort", "reasoning"),
        **_losses("dropped", "no file name for files by URL", "file.name"),
    },
    "gemini": {
        **_EVERYWHERE,
        **_STARTED,
        **_NO_DOMAINS,
        **_NO_USES,
        **_losses("dropped", "no such setting", "web_tool.location", "web_tool.context_size"),
        **_losses("dropped", "a search cannot be forced", "tool_choice"),
        **_losses("dropped", "no such parameter", "parallel_tools", "verbosity"),
        **_losses("ignored", "caching needs no key", "cache_key"),
        **_losses("ignored", "no end-user field", "user"),
        **_losses("ignored", "no image detail levels", "image.detail"),
        **_losses("dropped", "at most 5 stop sequences", "stop.more"),
        **_losses("dropped", "no file name field", "file.name"),
        **_losses("dropped", "model does not support reasoning", "reasoning"),
    },
}  # fmt: skip
"""By target: what of the neutral model it cannot express."""

_OPENAI = {
    **_losses(
        "ignored",
        "storage, billing or statistics of the provider",
        "store",
        "metadata",
        "moderation",
        "prompt_cache_options",
        "prompt_cache_retention",
        "prompt_cache_breakpoint",
        "cache_control",
    ),
    **_losses("ignored", "handled by the proxy", "stream_options"),
    **_losses("ignored", "added by the client's library", "index", "parsed_arguments", "parsed", "annotations"),
}

FROM: dict[str, dict[str, Loss]] = {
    "anthropic": {
        **_losses("ignored", "cache marker", "cache_control"),
        **_losses("ignored", "billing, routing or statistics of the provider", "inference_geo", "diagnostics", "speed",
               "fallback_credit_token", "billing_policy", "user_profile_id", "betas", "workspace_id"),
        **_losses("ignored", "the client sends the full history", "context_management", "compaction"),
        **_losses("ignored", "hint for the provider's tool search", "defer_loading", "eager_input_streaming",
               "allowed_callers", "toolset_name", "caller"),
        **_losses("ignored", "options of web tools", "response_inclusion", "search_profile", "use_cache"),
        **_losses("dropped", "no such limit", "max_content_tokens"),
        **_losses("ignored", "the image is sent unchanged", "transformations"),
        **_losses("dropped", "no equivalent field", "input_examples"),
        **_losses("dropped", "no equivalent field", "citations"),
        **_losses("dropped", "no equivalent field", "context"),
        **_losses("dropped", "server-side fallback not supported", "fallbacks"),
        **_losses("ignored", "handled like other server tools", "mcp_servers"),
        **_losses("ignored", "how reasoning is shown", "thinking.display"),
        **_losses("rejected", "state stored at another provider", "container", "thread"),
        **_losses("rejected", "checks that only the provider can run", "safeguards"),
    },
    "openai-chat": {
        **_OPENAI,
        **_losses("dropped", "no such parameter", "logit_bias"),
        **_losses("ignored", "latency optimization", "prediction"),
        **_losses("ignored", "label of the speaker", "name"),
        **_losses("ignored", "added by the client's library", "extra_content", "refusal", "function_call", "reasoning",
               "reasoning_details"),
        **_losses("rejected", "only text output", "modalities", "audio"),
    },
    "openai-responses": {
        **_OPENAI,
        **_losses("rejected", "conversation stored at another provider", "previous_response_id", "conversation"),
        **_losses("rejected", "prompt stored at another provider", "prompt"),
        **_losses("rejected", "only the provider can go on in the background", "background"),
        **_losses("rejected", "only the original provider can compact", "compact"),
        **_losses("ignored", "controls response verbosity only", "include", "reasoning.generate_summary"),
        **_losses("ignored", "the client sends the full history", "context_management", "reasoning.context"),
        **_losses("ignored", "billing, routing or statistics of the provider", "client_metadata", "access_programs",
               "prompt_cache_key", "internal_chat_message_metadata_passthrough"),
        **_losses("ignored", "numbering and state of the provider", "id", "status", "phase", "logprobs", "created_by",
               "end_turn"),
        **_losses("ignored", "hint for the provider's tool search", "defer_loading", "allowed_callers",
               "caller", "output_schema"),
        **_losses("dropped", "elsewhere a conversation that is too long is an error", "truncation"),
        **_losses("dropped", "no equivalent mode", "reasoning.mode", "async"),
        **_losses("dropped", "limits server tools", "max_tool_calls"),
        **_losses("ignored", "which kinds of results a search may have", "search_content_types", "indexed_web_access"),
        **_losses("ignored", "options of server tools", "image", "background_options"),
    },
    "gemini": {
        **_losses("ignored", "filters of the provider", "safetySettings"),
        **_losses("ignored", "storage, billing or statistics of the provider", "store", "labels", "partMetadata"),
        **_losses("rejected", "the content is stored at another provider", "cachedContent"),
        **_losses("rejected", "only text output", "generationConfig.responseModalities",
                  "generationConfig.speechConfig"),
        **_losses("rejected", "continues a response of another provider", "generationConfig.continuationToken"),
        **_losses("dropped", "no equivalent media settings", "generationConfig.imageConfig",
               "generationConfig.mediaResolution", "mediaResolution", "videoMetadata"),
        **_losses("ignored", "redundant", "thought"),
        **_losses("ignored", "for server tools", "toolConfig.includeServerSideToolInvocations"),
        **_losses("dropped", "places are named elsewhere", "toolConfig.retrievalConfig"),
        **_losses("dropped", "no such filter of a search", "timeRangeFilter", "searchTypes", "blockingConfidence"),
        **_losses("ignored", "when to search", "dynamicRetrievalConfig"),
        **_losses("ignored", "describes the result, which the client produces", "response", "responseJsonSchema"),
        **_losses("dropped", "no asynchronous tool calls", "behavior", "willContinue", "scheduling"),
    },
}  # fmt: skip
"""By origin: fields that no other format has. A field that is not listed is dropped, and named."""

NEEDED = frozenset(
    (
        "video video_url container_upload compaction context_compaction item_reference compaction_trigger program "
        "program_output mcp_approval_request mcp_approval_response agent_message compaction_summary encrypted_content"
    ).split()
)
"""Kinds of content without which the answer would be wrong."""

REJECTED_EVEN_EMPTY = frozenset(("safeguards",))
"""Fields whose presence alone asks for something."""

_IS_DEFAULT: Mapping[str, Callable[[float], bool]] = {
    "temperature": lambda value: value == 1,
    "top_p": lambda value: value == 1,
    "frequency_penalty": lambda value: value == 0,
    "presence_penalty": lambda value: value == 0,
    "candidates": lambda value: value < 2,
}
"""The values that change nothing."""


def _is_void(value: Any) -> bool:
    """Whether a value asks for nothing: empty, or an object of such."""
    if isinstance(value, Mapping):
        return all(_is_void(inner) for inner in value.values())
    return not value


class Losses:
    """Collects what one conversion drops.

    Every ``lose...`` ignores a field, notes it as dropped or raises ClientError, as the tables say. In strict mode what
    would be dropped is noted as refused, and ``finish`` raises for all of it.
    """

    def __init__(self, origin: str, target: str, strict: bool = False, paths: Mapping[str, str] = NOTHING) -> None:
        self.dropped: list[str] = []
        self._refused: dict[str, Loss] = {}
        self._origin = origin
        self._target = target
        self._strict = strict
        self._paths = paths

    @classmethod
    def of(cls, request: Request, target: str, strict: bool) -> Losses:
        """The losses of a request on its way to the format ``target``."""
        return cls(request.origin, target, strict, request.paths)

    def is_target(self, origin: str) -> bool:
        """Whether something was made by a service of the target's format."""
        return origin == self._target

    @property
    def is_kin(self) -> bool:
        """Whether both formats are of one maker, so that names like those of service tiers mean the same."""
        return self._origin.partition("-")[0] == self._target.partition("-")[0]

    def lose(self, what: str, at: str = "") -> None:
        """The target cannot express ``what``, which stands at the path ``at`` of the client's body."""
        field = what.partition(".")[0]
        self._record_loss(TO[self._target][what], at or self._paths.get(field, field))

    def lose_scalar(self, name: str, value: Any) -> None:
        """The target has no place for a parameter, or rejects it; a value that changes nothing is no loss."""
        is_default = _IS_DEFAULT.get(name)
        if is_default is None or not is_default(value):
            self.lose(name)

    def rejection(self, what: str, at: str) -> ClientError:
        """The error for what is always rejected."""
        return self._rejection(TO[self._target][what], at)

    def lose_name(self, at: str) -> None:
        """The name of a file, at the file's path."""
        name = self._paths.get("file.name", "name")
        self.lose("file.name", f"{at}.{name}" if at else name)

    def lose_foreign(self, part: Foreign) -> None:
        """A part that only its own format knows."""
        loss = TO[self._target]["foreign.needed" if part.type in NEEDED else "foreign"]
        self._record_loss(loss._replace(why=f"{loss.why} ({part.type})"), part.at)

    def lose_extra(self, extra: Extra, at: str = "") -> None:
        """Fields that only the client's format has; none of them reaches the target."""
        if not extra:
            return
        table = FROM.get(self._origin, {})
        for name, value in extra.items():
            if name.startswith("("):  # the format's own note, no field of the client's
                continue
            loss = table.get(name) or table.get(name.rpartition(".")[2]) or Loss("dropped", "unknown field")
            if loss.action == "rejected" and _is_void(value) and name not in REJECTED_EVEN_EMPTY:
                continue
            self._record_loss(loss, f"{at}.{name}" if at else name)

    def without_server_tools(
        self, request: Request, web: Collection[str] = (), quirks: frozenset[str] = frozenset()
    ) -> Request:
        """The request without tools that only another provider runs, and without a choice of them.

        Such a tool is rejected if the request has no other, or must call this one.

        :param web: the names of the web tools that the target has for this request
        """
        if not request.tools and request.tool_choice is None:
            return request
        choice = request.tool_choice or ToolChoice("auto")
        kept: list[Tool | WebTool | ServerTool] = []
        lost: list[tuple[str, str]] = []
        searching: set[str] = set()
        for tool in request.tools:
            if isinstance(tool, Tool):
                kept.append(tool)
            elif isinstance(tool, ServerTool):
                lost.append(("server_tool", tool.at))
            elif tool.name not in web or tool.name in searching:
                lost.append(("web_tool", tool.at))
            elif not tool.is_live and "live_search" not in quirks:
                lost.append(("web_tool.offline", tool.at))
            else:
                searching.add(tool.name)
                kept.append(tool)
        names = {tool.name for tool in kept}
        left = tuple(name for name in choice.names if name in names)
        needed = (not kept and choice.mode != "none") or (choice.mode == "required" and choice.names and not left)
        for what, at in lost:
            if choice.mode != "none" or what == "server_tool":  # a search that the client forbids is no loss
                self.lose(f"{what}.needed" if needed else what, at)
        if choice.names and not left:
            unknown = next((name for name in choice.names if name not in {tool.name for tool in request.tools}), "")
            if unknown:
                message = f"tool_choice names a tool that is not in tools: {unknown}"
                raise ClientError(400, message, param="tool_choice")
            choice = ToolChoice("none")  # nothing else may be called
        return replace(request, tools=tuple(kept), tool_choice=request.tool_choice and replace(choice, names=left))

    def lose_web_settings(self, tool: WebTool, *fields: str) -> None:
        """Settings of a web tool that the target has no place for, as far as the client has made them."""
        for field in fields:
            if getattr(tool, field) not in (None, "", (), {}):
                template = self._paths.get(f"web_tool.{field}", f"{{at}}.{field}")
                self.lose(f"web_tool.{field}", template.format(at=tool.at))

    def empty(self) -> ClientError:
        """The error for a request that says nothing."""
        field = self._paths.get("messages", "messages")
        return ClientError(400, f"{field} must have at least one message with content", param=field)

    def _record_loss(self, loss: Loss, path: str) -> None:
        if loss.action == "ignored":
            return
        if loss.action == "rejected":
            raise self._rejection(loss, path)
        if self._strict:
            self._refused.setdefault(path, loss)
        elif path not in self.dropped:
            self.dropped.append(path)

    def finish(self) -> tuple[str, ...]:
        """The names of what was dropped. Raises ClientError in strict mode, naming all of it."""
        if len(self._refused) > 1:
            several = ", ".join(f"{path} ({loss.why})" for path, loss in self._refused.items())
            raise ClientError(400, f"not supported by {self._target}: {several}", param=next(iter(self._refused)))
        for path, loss in self._refused.items():
            raise self._rejection(loss, path)
        return tuple(self.dropped)

    def _rejection(self, loss: Loss, path: str) -> ClientError:
        message = f"{path} is not supported by {self._target}: {loss.why}"
        return ClientError(400, message, param=path)


def rows() -> list[tuple[str, str, str, str]]:
    """The whole table for users: direction, fields, what happens, why."""
    table_rows: list[tuple[str, str, str, str]] = []
    sections: list[tuple[str, Mapping[str, Loss]]] = [(f"to {target}", table) for target, table in TO.items()]
    sections += [(f"from {origin} to any other", table) for origin, table in FROM.items()]
    for direction, table in sections:
        groups: dict[Loss, list[str]] = {}
        for name, loss in table.items():
            groups.setdefault(loss, []).append(name)
        for loss, names in groups.items():
            table_rows.append((direction, ", ".join(f"`{name}`" for name in names), loss.action, loss.why))
    for preposition, answers in (("from", answer_losses.FROM), ("to", answer_losses.TO)):
        for side, reasons in answers.items():
            direction = f"answers {preposition} {side}"
            table_rows += [(direction, f"`answer.{name}`", "dropped", why) for name, why in reasons.items()]
    return table_rows


def markdown() -> str:
    """The README's table: what requests to most formats lose, without what has no effect."""
    targets: dict[tuple[str, str, str], list[str]] = {}
    for direction, what, action, why in rows():
        if direction.startswith("to ") and action != "ignored":
            targets.setdefault((what, action, why), []).append(direction.removeprefix("to "))
    lines = ["| to | what | happens | because |", "|---|---|---|---|"]
    for (what, action, why), names in targets.items():
        if len(names) > len(TO) // 2:
            lines.append(f"| {'any' if len(names) == len(TO) else ', '.join(names)} | {what} | {action} | {why} |")
    return "\n".join(lines)
