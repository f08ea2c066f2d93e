"""What clients call a conversation: in headers of their own, and in the bodies of each format. Pure.

The order is the same for every format: what names a conversation most exactly comes first.
"""

from __future__ import annotations

from typing import Any

from ccproxy_lite.jsontext import loads

SESSION_HEADERS = ("x-claude-code-session-id", "session-id", "session_id", "x-session-id", "x-session-affinity")


_MAX_SESSION_CHARS = 256


def session_in(body: dict[str, Any]) -> str:
    """The session that a body names.

    >>> session_in({"metadata": {"user_id": "user_1_account__session_2f"}, "user": "me"})
    '2f'
    """
    metadata, conversation = body.get("metadata"), body.get("conversation")
    metadata = metadata if isinstance(metadata, dict) else {}
    named = (
        body.get("prompt_cache_key"),
        conversation.get("id") if isinstance(conversation, dict) else conversation,
        _session_of_user(metadata.get("user_id")),
        metadata.get("session_id"),
        body.get("user"),
    )
    return next((session for value in named if value and (session := session_name(value))), "")


def _session_of_user(user_id: Any) -> Any:
    """Claude Code puts its session into the name of the user: as JSON, or behind ``_session_``."""
    if not isinstance(user_id, str):
        return None
    if user_id.startswith("{"):
        try:
            value = loads(user_id)
        except ValueError:
            return None
        return value.get("session_id") if isinstance(value, dict) else None
    return user_id.rpartition("_session_")[2] if "_session_" in user_id else None


def session_name(value: Any) -> str:
    """A name that a client gave, or the empty string for what can be none."""
    text = value.strip() if isinstance(value, str) else ""
    return text if text.isprintable() and len(text) <= _MAX_SESSION_CHARS else ""
