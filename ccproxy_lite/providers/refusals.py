"""What hosts refuse of a format that they otherwise speak: beta names, fields of the body, headers. Pure.

A cloud answers 400 to a beta name or a field that it does not know, where the format's maker takes both. One row for
each kind of host says which it takes; a quirk of the row's name says that a service is one (``hosts``, or the
configuration's ``quirks``). A field that needs a beta goes with it, and a beta with its fields. Everything that is left
out is named. The makers' own addresses have no row: there everything passes.

A path leads to a field: ``a.b``; ``a[].b`` in every item of a list, ``a[t].b`` in those of type ``t``; ``a[t]`` is such
an item itself, ``a[t_]`` one whose type begins so, and ``a=x|y`` a field that may have these values.

>>> without({"tools": [{"name": "t", "strict": True}], "speed": "fast"}, "tools[].strict")
({'tools': [{'name': 't'}], 'speed': 'fast'}, ['tools[0].strict'])

Sources: the clouds' references; what gateways and clients leave out for them; reports of the 400s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats.format import Format
from ccproxy_lite.providers.provider import Ask, Fitted, Service

_BETA_HEADER = "anthropic-beta"
_BETAS_MEMBER = "anthropic_beta"
_OLD_FORMAT = "output_format"
_WITH_TOOLS = ("tools", "tool_choice", "parallel_tool_calls", "toolConfig", "tool_config")
"""Members that say nothing without tools."""
_SERVER_TOOLS = ("tools[mcp_toolset]", "tools[code_execution_]", "tools[web_fetch_]")
"""Tools that the maker runs, and no cloud."""
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
INSTEAD: Mapping[str, str] = {"tools[].eager_input_streaming": "fine-grained-tool-streaming-2025-05-14"}
"""Fields in whose place a beta does the same."""
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
                *_SERVER_TOOLS,
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
            fields=(*_SCOPES, *_SERVER_TOOLS, "tools[].eager_input_streaming", "tools[].custom"),
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
                *_SERVER_TOOLS,
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
            fields=(*_SCOPES, *_SERVER_TOOLS, "container", "tools[].defer_loading", "tools[].input_examples"),
        ),
    },
    "snowflake_subset": {
        "anthropic": Refusals(
            betas=_names(
                "context-1m-2025-08-07 interleaved-thinking-2025-05-14 output-128k-2025-02-19 "
                "token-efficient-tools-2025-02-19"
            ),
            fields=(*_SCOPES, *_SERVER_TOOLS, "cache_control", "context_management", "container", "mcp_servers"),
        ),
    },
}
"""By the quirk that says so, and by format."""


def fit(service: Service, form: Format, body: Mapping[str, Any], ask: Ask) -> Fitted | None:
    """What is left of a request for a service; None if it takes all of it. Raises ClientError for a tool that it needs.

    Of several rows each takes its part.
    """
    fitted, name = Fitted(body, list(ask.headers)), form.base or form.name
    for quirk, rows in REFUSALS.items():
        if quirk in service.quirks and name in rows:
            fitted = _fit(rows[name], fitted, ask.model)
    is_same = fitted.body is body and fitted.headers == list(ask.headers)
    return None if is_same else fitted


def _fit(row: Refusals, before: Fitted, model: str) -> Fitted:
    headers = before.headers
    in_header = [part.strip() for name, value in headers if name == _BETA_HEADER for part in value.split(",")]
    body, in_body = _without_betas(_with_format_inside(before.body, row))
    left, lost, gone = _betas(row, [name for name in dict.fromkeys([*in_header, *in_body]) if name])
    fields = [*_refused_members(row, body), *row.fields, *_fields_of(gone, left)]
    fields += [path for path, taken in row.by_model if not re.search(taken, model)]
    dropped: list[str] = []
    fitted: Any = body
    for path in dict.fromkeys(fields):
        fitted, names = without(fitted, path)
        instead = INSTEAD.get(path, "")
        if names and row.betas is not None and instead in row.betas:
            left = list(dict.fromkeys([*left, instead]))
        else:
            dropped += filter(None, names)
    if fitted is not body:
        fitted = _settled(fitted, body)
    others = [one for one in headers if one[0] not in (_BETA_HEADER, *row.headers)]
    betas = [f"{_BETA_HEADER}:{name}" for name in lost]
    idle = tuple(one for one in betas if one.partition(":")[2].startswith(_IDLE_BETAS))
    named = [name for name, _ in headers if name in row.headers]
    losses = (*dropped[:_MAX_NAMED], *(one for one in betas if one not in idle), *named)
    if left == in_header and not named:  # all stays in its place
        others = headers
    elif left:
        others.append((_BETA_HEADER, ",".join(left)))
    return Fitted(fitted, others, before.dropped + losses, before.idle + idle)


def _with_format_inside(body: Mapping[str, Any], row: Refusals) -> Mapping[str, Any]:
    """A body with the older spelling of an output format in its newer place, which more hosts take."""
    is_refused = _OLD_FORMAT in row.fields or (row.members is not None and _OLD_FORMAT not in row.members)
    if not is_refused or not isinstance(body.get(_OLD_FORMAT), Mapping):
        return body
    settings = body.get("output_config")
    settings = {"format": body[_OLD_FORMAT], **(settings if isinstance(settings, Mapping) else {})}
    return {name: value for name, value in {**body, "output_config": settings}.items() if name != _OLD_FORMAT}


def _without_betas(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """A body without beta names, and these; providers put them where the host wants them."""
    inside = body.get(_BETAS_MEMBER)
    if not isinstance(inside, list):
        return body, []
    rest = {name: value for name, value in body.items() if name != _BETAS_MEMBER}
    return rest, [one for one in inside if isinstance(one, str)]


def _betas(row: Refusals, sent: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Of beta names those that are left, those that are lost, and those that bring nothing any more."""
    left: dict[str, None] = {}
    lost: list[str] = []
    gone: list[str] = []
    for name in sent:
        known = row.renamed.get(name, name)
        is_taken = known in row.betas if row.betas is not None else not known.startswith(row.refused)
        # Without its fields, which the host refuses by whatever beta, a name asks for nothing.
        brought = list(_brought(known))
        is_idle = bool(brought) and all(path in row.fields for path in brought)
        if is_taken and not is_idle:
            left[known] = None
        else:
            lost.append(name)
        if known != name or known not in left:
            gone.append(name)
    return list(left), lost, gone


def _settled(body: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A body without what only made sense with tools that are gone. Raises ClientError if one of them was forced."""
    tools, were = body.get("tools") or [], before.get("tools") or []
    if len(tools) == len(were):
        return body
    kept = [tool.get("type") for tool in tools if isinstance(tool, Mapping)]
    removed = {str(tool.get("type")) for tool in were if isinstance(tool, Mapping)} - set(kept)
    choice = body.get("tool_choice")
    named = choice.get("type") if isinstance(choice, Mapping) else choice
    if named in removed or (not tools and named in ("required", "any", "tool", "function")):
        raise ClientError(400, f"tool_choice needs {named}, which this upstream does not support", param="tool_choice")
    stems = tuple(f"{re.sub('(_preview)?(_[0-9_]+)?$', '', kind)}_call." for kind in removed)
    result = {name: value for name, value in body.items() if tools or name not in _WITH_TOOLS}
    include = result.get("include")
    if isinstance(include, list):
        result["include"] = [one for one in include if not str(one).startswith(stems)]
    return result


def _refused_members(row: Refusals, body: Mapping[str, Any]) -> list[str]:
    return [] if row.members is None else [name for name in body if name not in row.members]


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
        old = value[step]
        if allowed and (old is None or (isinstance(old, str) and old in allowed)):
            return value, []
        rest_of = {name: inner for name, inner in value.items() if name != step}
        return rest_of, ["" if old is None or old is False else here]  # nothing is lost with a default
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
        is_meant = not kind or (isinstance(item, Mapping) and _is_of(item, kind))
        here = f"{place}[{number}]"
        if not is_meant:
            kept.append(item)
        elif rest:
            inner, more = _without(item, rest, here, allowed)
            kept += [inner] if inner or not more else []
            names += more
        else:
            names.append(here)
    return (kept, names) if names else (value, [])


def _is_of(item: Mapping[str, Any], kind: str) -> bool:
    """Whether an item is of a type, or of one that begins so if the kind ends in ``_``. A message may go without."""
    found = item.get("type", "message" if "role" in item else "")
    return found == kind or (kind.endswith("_") and isinstance(found, str) and found.startswith(kind))
