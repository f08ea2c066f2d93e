"""Anthropic Messages: settings between the turns, which hold from their place on. Pure.

System messages in the middle may carry them beside their text, or alone:

    {"role": "system", "output_config": {"effort": "low"}, "clear_at": "next_user_message", "content": [
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Bash"}},
        {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"name": "Read", ...}}}]}

Other formats have one setting for the whole request: the one that holds at the end of the conversation. Source: the
SDK's ``types.beta.beta_system_message_param`` and ``beta_compaction_block_param``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ccproxy_lite.formats import fields

SETTINGS = frozenset(("output_config", "clear_at"))
"""The members of a system message that are read here."""
_CHANGES = ("tool_addition", "tool_removal")
_DIRECTIVES = (*_CHANGES, "compaction")
_BY_NAME = ("tool_reference", "tool_definition")


def is_applied(block: fields.Object) -> bool:
    """Whether a block is a change of the tools that ``offered_tools`` makes; tools of MCP servers have no name here."""
    return block.get("type") in _CHANGES and fields.lenient(block.get("tool"), "type") in _BY_NAME


def any_in(body: fields.Object) -> bool:
    """Whether there is a block that changes the tools, or stands for what was said before: few requests have one."""
    for message in fields.lenient_list(body, "messages"):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            for block in content:
                if isinstance(block, dict) and block.get("type") in _DIRECTIVES:
                    return True
    return False


def last_effort(body: fields.Object) -> str | None:
    """The effort that holds at the end: that of the last message which sets one. Raises ClientError."""
    messages = fields.lenient_list(body, "messages")
    for number in range(len(messages) - 1, -1, -1):
        config = messages[number].get("output_config") if isinstance(messages[number], dict) else None
        if config is not None:
            at = f"messages[{number}].output_config"
            effort = fields.optional_text(fields.as_object(config, at), "effort", at)
            if effort is not None:
                return effort
    return None


def offered_tools(body: fields.Object) -> list[tuple[fields.Object, str]]:
    """The tools that are offered at the end, each with its path: the declared ones, after all changes. Raises
    ClientError."""
    declared = fields.objects(body, "tools", "")
    changes = list(_changes(body))
    if not changes:
        return declared
    known = {_name(tool): (tool, at) for tool, at in declared}
    offered = set(known)
    for change, at in changes:
        where = f"{at}.tool"
        tool = fields.as_object(change.get("tool"), where)
        if tool.get("type") == "tool_definition":
            tool, where = fields.as_object(tool.get("definition"), f"{where}.definition"), f"{where}.definition"
            known[_name(tool)] = tool, where
        name = _name(tool)
        if change["type"] == "tool_removal":
            offered.discard(name)
        elif name in known:
            offered.add(name)
    # In the order of their definitions, which the next turn repeats, whatever has been taken away in between.
    return [entry for name, entry in known.items() if name in offered]


def _changes(body: fields.Object) -> Iterable[tuple[fields.Object, str]]:
    for place, message in enumerate(fields.lenient_list(body, "messages")):
        for number, block in enumerate(fields.lenient_list(message, "content")):
            kind = block.get("type") if isinstance(block, dict) else None
            if kind in _CHANGES and is_applied(block):
                yield block, f"messages[{place}].content[{number}]"
            elif kind == "compaction":
                inner = fields.objects(block, "tool_changes", f"messages[{place}].content[{number}]")
                yield from (change for change in inner if is_applied(change[0]))


def _name(tool: fields.Object) -> str:
    return fields.lenient(tool, "name") or fields.lenient(tool, "type")


def after_compaction(messages: Sequence[tuple[fields.Object, str]]) -> list[tuple[fields.Object, str]]:
    """The messages without what the last compaction stands for: the service ignores all that is before it.

    The summary becomes what the user says: many models want a user's turn first. A block without one has failed, and
    stands for nothing. What changes tools or effort is read elsewhere.
    """
    for number in range(len(messages) - 1, -1, -1):
        message, at = messages[number]
        content = fields.lenient_list(message, "content")
        for place in range(len(content) - 1, -1, -1):
            if fields.lenient(content[place], "type") == "compaction" and fields.lenient(content[place], "content"):
                before: list[Any] = [None] * place
                summary = {**message, "role": "user", "content": [*before, content[place]]}
                rest = {**message, "content": [*before, None, *content[place + 1 :]]}
                return [(summary, at), (rest, at), *messages[number + 1 :]]
    return list(messages)


def is_cleared(messages: Sequence[Any], number: int) -> bool:
    """Whether the text of a system message is no longer shown: it was for the turn before it, and another has begun."""
    if fields.lenient(messages[number], "clear_at") != "next_user_message":
        return False
    return any(fields.lenient(later, "role") == "user" for later in messages[number + 1 :])
