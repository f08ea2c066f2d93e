"""What hosts refuse of a format that they otherwise speak: beta names, fields of the body, headers. Pure.

A cloud answers 400 to a beta name or a field that it does not know, where the format's maker takes both. One row for
each kind of host says which it takes; a quirk of the row's name says that a service is one (``hosts``, or the
configuration's ``quirks``). A field that needs a beta goes with it, and a beta with its fields. Everything that is left
out is named. The makers' own addresses have no row: there everything passes.

A path leads to a field: ``a.b``; ``a[].b`` in every item of a list, ``a[t].b`` in those of type ``t``; ``a[t]`` is such
an item itself, and ``a=x|y`` a field that may have these values.

>>> without({"tools": [{"name": "t", "strict": True}], "speed": "fast"}, "tools[].strict")
({'tools': [{'name': 't'}], 'speed': 'fast'}, ['tools[0].strict'])

Sources: the clouds' references; what gateways and clients leave out for them; reports of the 400s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ccproxy_lite.formats.format import Format
from ccproxy_lite.providers.provider import Ask, Fitted, Headers, Service

_BETA_HEADER = "anthropic-beta"
_MAX_NAMED = 40

_SCOPES = (
    "system[].cache_control.scope",
    "tools[].cache_control.scope",
    "messages[].content[].cache_control.scope",
    "messages[].content[].content[].cache_control.scope",
)
BETA_FIELDS: Mapping[str, tuple[str, ...]] = {
    "advanced-tool-use": ("tools[].defer_loading", "tools[].input_examples", "tools[].allowed_callers"),
    "cache-diagnosis": ("diagnostics",),
    "code-execution": ("container",),
    "compact": ("context_management", "compaction"),
    "context-management": ("context_management",),
    "fallback-credit": ("fallback_credit_token",),
    "fast-mode": ("speed",),
    "fine-grained-tool-streaming": ("tools[].eager_input_streaming",),
    "mcp-client": ("mcp_servers",),
    "message-threads": ("thread",),
    "prompt-caching-scope": _SCOPES,
    "request-tags": ("tags",),
    "server-side-fallback": ("fallbacks",),
    "skills": ("container",),
    "structured-outputs": ("output_format",),
    "task-budgets": ("output_config.task_budget",),
    "tool-examples": ("tools[].input_examples",),
    "tool-search-tool": ("tools[].defer_loading",),
    "user-profiles": ("user_profile_id",),
}
"""The fields that a beta brings, by the beginning of its name; a date follows."""
_IDLE_BETAS = ("claude-code", "oauth", "token-counting", "prompt-caching")
"""Names that only say who asks, or what has long been the rule."""


class Refusals(NamedTuple):
    """What one kind of host takes of a format.

    :ivar betas: the beta names that it takes; None for all but ``refused``
    :ivar refused: beta names that it refuses, by their beginnings
    :ivar renamed: beta names that are called otherwise there
    :ivar members: the members of the body that it takes; None for all
    :ivar fields: paths that it refuses
    :ivar by_model: paths that it takes for some models only, and a pattern of their names
    :ivar headers: headers that it refuses
    """

    betas: frozenset[str] | None = None
    refused: tuple[str, ...] = ()
    renamed: Mapping[str, str] = {}
    members: frozenset[str] | None = None
    fields: tuple[str, ...] = ()
    by_model: tuple[tuple[str, str], ...] = ()
    headers: tuple[str, ...] = ()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RENAMED = {"advanced-tool-use-2025-11-20": "tool-search-tool-2025-10-19"}
_INVOKE_MEMBERS = _names(
    "model stream anthropic_version anthropic_beta max_tokens messages system stop_sequences temperature top_p top_k "
    "tools tool_choice thinking metadata output_config safeguards context_management compaction user_profile_id"
)
_WITH_FORMAT = r"claude-(?:(?:opus|sonnet)-4-[56]|haiku-4-5)"
_NOT_AT_AWS = ("image_generation", "local_shell", "computer_use_preview", "file_search", "code_interpreter")
_SEARCHES = ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11")

REFUSALS: Mapping[str, Mapping[str, Refusals]] = {
    "bedrock_subset": {
        "anthropic": Refusals(
            betas=_names(
                "compact-2026-01-12 compact-2026-09-04 computer-use-2024-10-22 computer-use-2025-01-24 "
                "computer-use-2025-11-24 context-1m-2025-08-07 context-management-2025-06-27 "
                "dangerous-tool-use-2026-09-03 dev-full-thinking-2025-05-14 effort-2025-11-24 "
                "fine-grained-tool-streaming-2025-05-14 interleaved-thinking-2025-05-14 mcp-client-2025-04-04 "
                "mcp-client-2025-11-20 mid-conversation-output-config-2026-07-01 "
                "mid-conversation-tool-changes-2026-07-01 model-context-window-exceeded-2025-08-26 "
                "output-128k-2025-02-19 pdfs-2024-09-25 search-results-2025-06-09 "
                "thinking-binding-controls-2026-08-01 thinking-display-updates-2026-08-18 token-counting-2024-11-01 "
                "token-efficient-tools-2025-02-19 tool-search-tool-2025-10-19 web-search-2025-03-05"
            ),
            renamed=_RENAMED,
            members=_INVOKE_MEMBERS,
            fields=(
                *_SCOPES,
                "tools[].eager_input_streaming",
                "tools[].custom",
                "context_management.edits[clear_thinking_20251015]",
            ),
            by_model=(("output_config.format", _WITH_FORMAT), ("tools[].strict", _WITH_FORMAT)),
        ),
        "openai-responses": Refusals(
            fields=tuple(f"tools[{one}]" for one in (*_NOT_AT_AWS, *_SEARCHES)),
        ),
    },
    "mantle_subset": {
        "anthropic": Refusals(
            betas=_names(
                "afk-mode-2026-01-31 claude-code-20250219 compact-2026-01-12 computer-use-2025-01-24 "
                "computer-use-2025-11-24 context-1m-2025-08-07 context-management-2025-06-27 "
                "dangerous-tool-use-2026-09-03 effort-2025-11-24 fallback-credit-2026-06-01 "
                "fine-grained-tool-streaming-2025-05-14 interleaved-thinking-2025-05-14 output-128k-2025-02-19 "
                "per-turn-control-2026-07-01 structured-outputs-2025-11-13 structured-outputs-2025-12-15 "
                "thinking-binding-controls-2026-08-01 thinking-display-updates-2026-08-18 "
                "thinking-token-count-2026-05-13 token-efficient-tools-2025-02-19 tool-examples-2025-10-29 "
                "tool-search-tool-2025-10-19 web-search-2025-03-05"
            ),
            renamed=_RENAMED,
            members=_INVOKE_MEMBERS - {"compaction", "anthropic_version", "anthropic_beta"} | {"service_tier"},
            fields=(*_SCOPES, "tools[].eager_input_streaming", "tools[].custom"),
        ),
        "openai-responses": Refusals(
            fields=(
                *(f"tools[{one}]" for one in _NOT_AT_AWS),
                "service_tier=auto|default",
                "reasoning.summary=auto",
            ),
        ),
        "openai-chat": Refusals(fields=("service_tier=auto|default",)),
    },
    "vertex_subset": {
        "anthropic": Refusals(
            betas=_names(
                "afk-mode-2026-01-31 claude-code-20250219 compact-2026-01-12 computer-use-2025-01-24 "
                "computer-use-2025-11-24 context-1m-2025-08-07 context-management-2025-06-27 "
                "dangerous-tool-use-2026-09-03 effort-2025-11-24 fallback-credit-2026-06-01 "
                "fallback-credit-2026-07-01 fine-grained-tool-streaming-2025-05-14 interleaved-thinking-2025-05-14 "
                "mid-conversation-output-config-2026-07-01 mid-conversation-system-clear-at-2026-08-21 "
                "mid-conversation-tool-changes-2026-07-01 model-context-window-exceeded-2025-08-26 "
                "output-128k-2025-02-19 pdfs-2024-09-25 per-turn-control-2026-07-01 server-side-fallback-2026-06-01 "
                "structured-outputs-2025-11-13 structured-outputs-2025-12-15 task-budgets-2026-03-13 "
                "thinking-binding-controls-2026-08-01 thinking-display-updates-2026-08-18 "
                "thinking-token-count-2026-05-13 token-counting-2024-11-01 token-efficient-tools-2025-02-19 "
                "tool-examples-2025-10-29 tool-search-tool-2025-10-19 web-search-2025-03-05"
            ),
            renamed=_RENAMED,
            fields=(
                *_SCOPES,
                "cache_control",
                "tags",
                "workspace_id",
                "output_format",
                "speed",
                "mcp_servers",
                "container",
                "diagnostics",
                "tools[].custom",
            ),
        ),
        "gemini": Refusals(
            fields=(
                "toolConfig.includeServerSideToolInvocations",
                "tool_config.include_server_side_tool_invocations",
                "tools[].fileSearch",
                "tools[].file_search",
                "store",
            ),
        ),
    },
    "foundry_subset": {
        "anthropic": Refusals(
            refused=("advisor-tool", "agent-memory", "dev-full-thinking", "mcp-servers"), fields=_SCOPES
        ),
        "openai-responses": Refusals(
            fields=("context_management", "input[message].status", "input[reasoning].status"),
            headers=("x-openai-internal-codex-responses-lite",),
        ),
    },
    "databricks_subset": {
        "anthropic": Refusals(
            betas=_names(
                "compact-2026-01-12 computer-use-2025-01-24 computer-use-2025-11-24 context-1m-2025-08-07 "
                "context-management-2025-06-27 dangerous-tool-use-2026-09-03 effort-2025-11-24 "
                "fine-grained-tool-streaming-2025-05-14 interleaved-thinking-2025-05-14 output-128k-2025-02-19 "
                "structured-outputs-2025-11-13 thinking-binding-controls-2026-08-01 "
                "thinking-display-updates-2026-08-18 token-efficient-tools-2025-02-19 web-search-2025-03-05"
            ),
            fields=(*_SCOPES, "container", "tools[].defer_loading", "tools[].input_examples"),
        ),
    },
    "snowflake_subset": {
        "anthropic": Refusals(
            betas=_names(
                "context-1m-2025-08-07 interleaved-thinking-2025-05-14 output-128k-2025-02-19 "
                "token-efficient-tools-2025-02-19"
            ),
            fields=(*_SCOPES, "cache_control", "context_management", "container", "mcp_servers"),
        ),
    },
}
"""By the quirk that says so, and by format."""


def fit(service: Service, form: Format, body: Mapping[str, Any], ask: Ask) -> Fitted | None:
    """What is left of a request for a service; None if it takes all of it."""
    row = _row(service.quirks, form.base or form.name)
    if row is None:
        return None
    headers = list(ask.headers)
    kept_headers, lost_betas, left_betas = _betas(row, headers)
    gone = [*lost_betas, *(old for old, new in row.renamed.items() if new in left_betas)]
    fields = [*_refused_members(row, body), *row.fields, *_fields_of(gone, left_betas)]
    fields += [path for path, taken in row.by_model if not re.search(taken, ask.model)]
    fitted: Any = body
    dropped: list[str] = []
    for path in dict.fromkeys(fields):
        fitted, names = without(fitted, path)
        dropped += names
    kept_headers = [one for one in kept_headers if one[0] not in row.headers]
    named = [name for name, _ in headers if name in row.headers]
    betas = [f"{_BETA_HEADER}:{name}" for name in lost_betas]
    idle = tuple(one for one in betas if one.partition(":")[2].startswith(_IDLE_BETAS))
    if fitted is body and kept_headers == headers:
        return None
    losses = (*dropped[:_MAX_NAMED], *(one for one in betas if one not in idle), *named)
    return Fitted(fitted, kept_headers, losses, idle)


def _row(quirks: Iterable[str], form: str) -> Refusals | None:
    for quirk in quirks:
        if quirk in REFUSALS:
            return REFUSALS[quirk].get(form)
    return None


def _refused_members(row: Refusals, body: Mapping[str, Any]) -> list[str]:
    return [] if row.members is None else [name for name in body if name not in row.members]


def _betas(row: Refusals, headers: Headers) -> tuple[Headers, list[str], list[str]]:
    """The headers with the betas that the host takes, those that it does not take, and those that are left."""
    sent = [part.strip() for name, value in headers if name == _BETA_HEADER for part in value.split(",")]
    if not any(sent):
        return headers, [], []
    left: dict[str, None] = {}
    lost: dict[str, None] = {}
    for name in filter(None, sent):
        known = row.renamed.get(name, name)
        is_taken = known in row.betas if row.betas is not None else not known.startswith(row.refused)
        # Without its fields, which the host refuses by whatever beta, a name asks for nothing.
        brought = _fields_of([known], [])
        if is_taken and not (brought and all(path in row.fields for path in brought)):
            left[known] = None
        else:
            lost[name] = None
    value = ",".join(left)
    others = [one for one in headers if one[0] != _BETA_HEADER]
    if value == ",".join(sent):
        return headers, [], list(left)
    return [*others, *([(_BETA_HEADER, value)] if value else [])], list(lost), list(left)


def _fields_of(lost: Iterable[str], left: Iterable[str]) -> list[str]:
    """The fields that nobody brings any more."""
    covered = {path for name in left for path in _brought(name)}
    return [path for name in lost for path in _brought(name) if path not in covered]


def _brought(beta: str) -> Iterator[str]:
    for name, paths in BETA_FIELDS.items():
        if beta.startswith(f"{name}-"):
            yield from paths


# ---------------------------------------------------------------- paths

_STEP = re.compile(r"(\w+)|\[(\w*)\]")


def without(value: Any, path: str) -> tuple[Any, list[str]]:
    """A value without what a path leads to, and where that stood. What is not touched is shared with the old value."""
    way, _, allowed = path.partition("=")
    steps = [match[0] for match in _STEP.finditer(way)]
    return _without(value, steps, "", frozenset(filter(None, allowed.split("|"))))


def _without(value: Any, steps: list[str], place: str, allowed: frozenset[str]) -> tuple[Any, list[str]]:
    step, rest = steps[0], steps[1:]
    if step.startswith("["):
        return _without_in_list(value, steps, place, allowed)
    if not isinstance(value, Mapping) or step not in value:
        return value, []
    here = f"{place}.{step}" if place else step
    if not rest:
        if allowed and value[step] in allowed:
            return value, []
        return {name: inner for name, inner in value.items() if name != step}, [here]
    inner, names = _without(value[step], rest, here, allowed)
    if not names:
        return value, []
    # What has become empty says nothing, and would be refused here and there.
    return {name: inner if name == step else old for name, old in value.items() if name != step or inner}, names


def _without_in_list(value: Any, steps: list[str], place: str, allowed: frozenset[str]) -> tuple[Any, list[str]]:
    kind, rest = steps[0][1:-1], steps[1:]
    if not isinstance(value, list):
        return value, []
    kept, names = [], list[str]()
    for number, item in enumerate(value):
        is_meant = not kind or (isinstance(item, Mapping) and item.get("type") == kind)
        here = f"{place}[{number}]"
        if not is_meant:
            kept.append(item)
        elif rest:
            inner, more = _without(item, rest, here, allowed)
            kept.append(inner)
            names += more
        else:
            names.append(here)
    return (kept, names) if names else (value, [])
