"""What each format cannot express, and what then happens: the one table of it. Pure.

silent
    has no effect on the answer; nobody is told
dropped
    softens the answer: named in ``x-ccproxy-dropped`` and in the log, refused when the client or the file says strict
refused
    the answer would be wrong, or history would be lost: 400, naming the field

>>> losses = Losses("anthropic", "openai-chat")
>>> losses.lose("top_k"); losses.dropped
['top_k']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats.neutral.events import NOTHING, Extra
from ccproxy_lite.formats.neutral.request import Foreign, Request, ServerTool, Tool, ToolChoice

Action = Literal["silent", "dropped", "refused"]


class Loss(NamedTuple):
    action: Action
    why: str


def _all(action: Action, why: str, *names: str) -> dict[str, Loss]:
    return {name: Loss(action, why) for name in names}


_EVERYWHERE = {
    **_all("dropped", "a call without a result is not accepted", "unanswered_call"),
    **_all("dropped", "a result without a call is not accepted", "orphan_result"),
    **_all("dropped", "is another provider's own kind of content", "foreign"),
    **_all("refused", "is content that only another provider can read", "foreign.needed"),
    **_all("dropped", "the provider runs no such tool", "server_tool"),
    **_all("refused", "the provider runs no such tool, and the request depends on it", "server_tool.needed"),
    **_all("refused", "the file is stored at another provider", "file_id"),
    **_all("refused", "one answer only is converted", "candidates"),
    **_all("dropped", "thoughts of another provider are not accepted", "thinking"),
    **_all("silent", "its tiers have other names and prices", "service_tier"),
    **_all("dropped", "answers are converted without them", "logprobs"),
}
"""What holds for every target."""

_STARTED = _all("dropped", "answers cannot be started by the client", "prefill")
_NO_PICTURES = _all("dropped", "assistants have no pictures or files", "assistant.media")
_REASONING_MODELS = "reasoning models accept the default only"

TO: dict[str, dict[str, Loss]] = {
    "anthropic": {
        **_EVERYWHERE,
        **_NO_PICTURES,
        **_all("dropped", "has no such parameter", "seed", "frequency_penalty", "presence_penalty", "verbosity"),
        **_all("dropped", "current Claude models reject sampling parameters", "temperature", "top_p", "top_k"),
        **_all("silent", "its cache needs no key", "cache_key"),
        **_all("silent", "images have no detail levels", "image.detail"),
        **_all("refused", "has no audio", "audio"),
        **_all("dropped", "stop sequences of white space are not accepted", "stop"),
        **_all("dropped", "no Claude model answers at such length", "max_tokens"),
        **_all("refused", "takes jpeg, png, gif and webp only", "image.media_type"),
        **_all("refused", "takes PDF and plain text only", "file.media_type"),
        **_all("dropped", "has JSON schemas, but no free JSON mode", "json_object"),
        **_all("dropped", "the model cannot think", "reasoning"),
        **_all("dropped", "the model cannot think while a tool is forced, or without its earlier thoughts",
               "reasoning.conflict"),
    },
    "openai-chat": {
        **_EVERYWHERE,
        **_NO_PICTURES,
        **_STARTED,
        **_all("dropped", "has no such parameter", "top_k"),
        **_all("dropped", _REASONING_MODELS, "temperature", "top_p", "stop"),
        **_all("dropped", "takes four stop sequences at the most", "stop.more"),
        **_all("refused", "takes files by content only, not by URL", "file.url"),
        **_all("dropped", "has no place for thoughts", "thinking"),
        **_all("dropped", "the service or model takes no effort", "reasoning"),
    },
    "openai-responses": {
        **_EVERYWHERE,
        **_NO_PICTURES,
        **_STARTED,
        **_all("dropped", "has no such parameter", "top_k", "stop", "seed", "frequency_penalty", "presence_penalty"),
        **_all("dropped", _REASONING_MODELS, "temperature", "top_p"),
        **_all("refused", "tool results have no audio", "result.audio"),
        **_all("dropped", "the service or model takes no effort", "reasoning"),
        **_all("dropped", "files by URL have no names", "file.name"),
    },
    "gemini": {
        **_EVERYWHERE,
        **_STARTED,
        **_all("dropped", "has no such parameter", "parallel_tools", "verbosity"),
        **_all("silent", "its cache needs no key", "cache_key"),
        **_all("silent", "knows no end users", "user"),
        **_all("silent", "images have no detail levels", "image.detail"),
        **_all("dropped", "takes five stop sequences at the most", "stop.more"),
        **_all("dropped", "files have no names", "file.name"),
        **_all("dropped", "the model cannot think", "reasoning"),
    },
}  # fmt: skip
"""By target: what of the neutral model it cannot express."""

_OPENAI = {
    **_all(
        "silent",
        "storage, billing or statistics of the service",
        "store",
        "metadata",
        "moderation",
        "prompt_cache_options",
        "prompt_cache_retention",
        "prompt_cache_breakpoint",
        "cache_control",
    ),
    **_all("silent", "handled here", "stream_options"),
    **_all("silent", "written by the client's library", "index", "parsed_arguments", "parsed", "annotations"),
}

FROM: dict[str, dict[str, Loss]] = {
    "anthropic": {
        **_all("silent", "a cache marker", "cache_control"),
        **_all("silent", "billing, routing or statistics of the service", "inference_geo", "diagnostics", "speed",
               "fallback_credit_token", "billing_policy", "user_profile_id", "betas", "workspace_id"),
        **_all("silent", "the client sends the whole history", "context_management", "compaction"),
        **_all("silent", "a hint for the service's own tool search", "defer_loading", "eager_input_streaming",
               "allowed_callers", "toolset_name", "caller"),
        **_all("silent", "the image is sent as it is", "transformations"),
        **_all("dropped", "examples have no place", "input_examples"),
        **_all("dropped", "sources have no place", "citations"),
        **_all("dropped", "the note has no place", "context"),
        **_all("dropped", "another model is not tried by the service", "fallbacks"),
        **_all("silent", "handled like the service's other tools", "mcp_servers"),
        **_all("silent", "how thoughts are shown", "thinking.display"),
        **_all("refused", "the state is stored at another provider", "container", "thread"),
    },
    "openai-chat": {
        **_OPENAI,
        **_all("dropped", "has no such parameter", "logit_bias"),
        **_all("silent", "a speed-up", "prediction"),
        **_all("silent", "a label of the speaker", "name"),
        **_all("silent", "written by the client's library", "extra_content", "refusal", "function_call", "reasoning",
               "reasoning_details"),
        **_all("refused", "answers are text", "modalities", "audio"),
    },
    "openai-responses": {
        **_OPENAI,
        **_all("refused", "the conversation is stored at another provider", "previous_response_id", "conversation",
               "background", "prompt"),
        **_all("refused", "histories are compacted by the service itself", "compact"),
        **_all("silent", "how much of the answer is told", "include", "reasoning.generate_summary"),
        **_all("silent", "the client sends the whole history", "context_management", "reasoning.context"),
        **_all("silent", "billing, routing or statistics of the service", "client_metadata", "access_programs",
               "prompt_cache_key", "internal_chat_message_metadata_passthrough"),
        **_all("silent", "the service's own numbering and state", "id", "status", "phase", "logprobs", "created_by",
               "end_turn"),
        **_all("silent", "a hint for the service's own tool search", "defer_loading", "allowed_callers",
               "caller", "output_schema"),
        **_all("dropped", "too long a conversation is an error elsewhere", "truncation"),
        **_all("dropped", "the mode has no counterpart", "reasoning.mode", "async"),
        **_all("dropped", "limits tools that the service runs", "max_tool_calls"),
        **_all("silent", "options of what the service runs", "image", "background_options"),
    },
    "gemini": {
        **_all("silent", "the service's own filters", "safetySettings"),
        **_all("silent", "storage, billing or statistics of the service", "store", "labels", "partMetadata"),
        **_all("refused", "the content is stored at another provider", "cachedContent"),
        **_all("refused", "answers are text", "generationConfig.responseModalities", "generationConfig.speechConfig"),
        **_all("refused", "goes on with an answer of another provider", "generationConfig.continuationToken"),
        **_all("dropped", "pictures and sound have no such settings", "generationConfig.imageConfig",
               "generationConfig.mediaResolution", "mediaResolution", "videoMetadata"),
        **_all("silent", "the thought itself says so", "thought"),
        **_all("silent", "for tools that the service runs", "toolConfig.retrievalConfig",
               "toolConfig.includeServerSideToolInvocations"),
        **_all("silent", "describes the result, which the client makes", "response", "responseJsonSchema"),
        **_all("dropped", "calls are answered at once", "behavior", "willContinue", "scheduling"),
    },
}  # fmt: skip
"""By origin: fields that no other format has. A field that is not listed is dropped, and named."""

NEEDED = frozenset(
    (
        "video video_url container_upload compaction item_reference compaction_trigger configuration_update program "
        "program_output mcp_approval_request mcp_approval_response"
    ).split()
)
"""Kinds of content without which the answer would be wrong."""

_SAYS_NOTHING: Mapping[str, tuple[float, ...]] = {
    "temperature": (1,), "top_p": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "candidates": (0, 1),
}  # fmt: skip
"""The values that a service takes for no value."""


class Losses:
    """Collects what one conversion leaves out. Raises ClientError for what must not be."""

    def __init__(self, origin: str, target: str, strict: bool = False, paths: Mapping[str, str] = NOTHING) -> None:
        self.dropped: list[str] = []
        self._origin = origin
        self._target = target
        self._strict = strict
        self._paths = paths

    @classmethod
    def of(cls, request: Request, target: str, strict: bool) -> Losses:
        """The losses of a request on its way to the format ``target``."""
        return cls(request.origin, target, strict, request.paths)

    @property
    def is_kin(self) -> bool:
        """Whether both formats are of one maker, so that names like those of service tiers mean the same."""
        return self._origin.partition("-")[0] == self._target.partition("-")[0]

    def lose(self, what: str, at: str = "") -> None:
        """The target cannot express ``what``, which stands at the path ``at`` of the client's body."""
        field = what.partition(".")[0]
        self._note(TO[self._target][what], at or self._paths.get(field, field))

    def lose_scalar(self, name: str, value: Any) -> None:
        """The target has no place for a parameter, or refuses it; a value that says nothing is no loss."""
        if value not in _SAYS_NOTHING.get(name, ()):
            self.lose(name)

    def refusal(self, what: str, at: str) -> ClientError:
        """The error for what is always refused."""
        return self._refusal(TO[self._target][what], at)

    def lose_name(self, at: str) -> None:
        """The name of a file, at the file's path."""
        name = self._paths.get("file.name", "name")
        self.lose("file.name", f"{at}.{name}" if at else name)

    def lose_foreign(self, part: Foreign) -> None:
        """A part that only its own format knows."""
        self.lose("foreign.needed" if part.type in NEEDED else "foreign", part.at)

    def lose_extra(self, extra: Extra, at: str = "") -> None:
        """Fields that only the client's format has; none of them reaches the target."""
        table = FROM.get(self._origin, {})
        for name in extra:
            if name.startswith("("):  # the format's own note, no field of the client's
                continue
            loss = table.get(name) or table.get(name.rpartition(".")[2]) or Loss("dropped", "is unknown here")
            self._note(loss, f"{at}.{name}" if at else name)

    def without_server_tools(self, request: Request) -> Request:
        """The request without tools that only another provider runs, and without a choice of them.

        Such a tool is refused if the request has no other, or must call this one.
        """
        choice = request.tool_choice or ToolChoice("auto")
        tools = tuple(tool for tool in request.tools if isinstance(tool, Tool))
        client_tools = {tool.name for tool in tools}
        left = tuple(name for name in choice.names if name in client_tools)
        needed = (not tools and choice.mode != "none") or (choice.mode == "required" and choice.names and not left)
        for tool in request.tools:
            if isinstance(tool, ServerTool):
                self.lose("server_tool.needed" if needed else "server_tool", tool.at)
        if choice.names and not left:
            raise ClientError(400, f"tool_choice: there is no tool {choice.names[0]}", param="tool_choice")
        return replace(request, tools=tools, tool_choice=request.tool_choice and replace(choice, names=left))

    def empty(self) -> ClientError:
        """The error for a request that says nothing."""
        field = self._paths.get("messages", "messages")
        return ClientError(400, f"{field}: at least one message is required", param=field)

    def _note(self, loss: Loss, path: str) -> None:
        if loss.action == "silent":
            return
        if loss.action == "refused" or self._strict:
            raise self._refusal(loss, path)
        if path not in self.dropped:
            self.dropped.append(path)

    def _refusal(self, loss: Loss, path: str) -> ClientError:
        message = f"{path}: cannot be sent to a service that speaks {self._target}: {loss.why}"
        return ClientError(400, message, param=path)


def rows() -> list[tuple[str, str, str, str]]:
    """The table for people: direction, fields, what happens, why."""
    table_rows: list[tuple[str, str, str, str]] = []
    sections: list[tuple[str, Mapping[str, Loss]]] = [(f"to {target}", table) for target, table in TO.items()]
    sections += [(f"from {origin} to any other", table) for origin, table in FROM.items()]
    for direction, table in sections:
        groups: dict[Loss, list[str]] = {}
        for name, loss in table.items():
            groups.setdefault(loss, []).append(name)
        for loss, names in groups.items():
            table_rows.append((direction, ", ".join(f"`{name}`" for name in names), loss.action, loss.why))
    return table_rows


def markdown() -> str:
    """The table of the README."""
    lines = ["| direction | what | happens | because |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows()]
    return "\n".join(lines)
