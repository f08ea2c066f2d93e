"""What one client asks, read only as far as somebody needs it: most of it, where nothing is converted, never."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import Format
from ccproxy_lite.formats.format import PathInfo, ReplyInfo
from ccproxy_lite.jsontext import Member, decode, dumps, loads, members
from ccproxy_lite.net.heads import RequestHead

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import Request

_SESSION_HEADERS = ("x-claude-code-session-id", "session-id", "session_id", "x-session-id", "x-session-affinity")
_LONGEST_SESSION = 256
_LONGEST_MODEL = 1000


@dataclass
class Call:
    """What one client asks: its format, its bytes, and what the path and the headers say."""

    form: Format
    head: RequestHead
    raw: bytes
    pinned: str = ""
    named_session: str = ""
    client_key: str = ""
    own_secret: str = ""
    id: str = ""
    created: int = 0
    strict: bool = False
    path: PathInfo = field(default_factory=PathInfo)

    @cached_property
    def text(self) -> str:
        try:
            return decode(self.raw)
        except ValueError as error:
            raise ClientError(400, f"the body is not JSON: {error}") from None

    @cached_property
    def members(self) -> list[Member]:
        try:
            return members(self.text)
        except ValueError as error:
            known = "must be" in str(error) and self.text.strip()
            raise ClientError(400, str(error) if known else f"the body is not JSON: {error}") from None

    @cached_property
    def body(self) -> dict[str, Any]:
        return {member.key: member.value for member in self.members}

    @cached_property
    def model(self) -> str:
        model = self.path.model or self.body.get("model")
        if not isinstance(model, str) or not model.strip():
            raise ClientError(400, "model: a string is required", param="model")
        if len(model) > _LONGEST_MODEL:
            raise ClientError(400, f"model: a name is at most {_LONGEST_MODEL} characters long", param="model")
        if not model.isprintable():
            raise ClientError(400, "model: control characters are not allowed", param="model")
        return model

    @cached_property
    def wants_stream(self) -> bool:
        return self.body.get("stream") is True if self.path.streams is None else self.path.streams

    @cached_property
    def request(self) -> Request:
        return self.form.read_request(self.body, self.path)

    @cached_property
    def reply(self) -> ReplyInfo:
        """What writers need; where nothing is converted, the request is not even read."""
        return ReplyInfo(self.request, self.id, self.created)

    @cached_property
    def cleaned(self) -> dict[str, Any] | None:
        """The body without what this format's services would refuse; None if all is well."""
        return self.form.without_foreign(self.body)

    @cached_property
    def session(self) -> str:
        """What the client calls its conversation, or the empty string: by path, header or body, in this order."""
        named = (self.named_session, *(self.head.get(name) for name in _SESSION_HEADERS))
        return next((known for text in named if (known := _session(text))), "") or session_in(self.body)

    def with_model(self, model: str) -> bytes:
        """The client's bytes, with another model name and without thoughts that only other providers understand."""
        if self.cleaned is not None:
            return dumps(self.cleaned if self.path.model else {**self.cleaned, "model": model}).encode()
        places = [member for member in self.members if member.key == "model" and not self.path.model]
        if not places or places[-1].value == model:
            return self.raw.removeprefix(b"\xef\xbb\xbf")
        last = places[-1]
        return (self.text[: last.start] + dumps(model) + self.text[last.end :]).encode()


def session_in(body: dict[str, Any]) -> str:
    """The session that a body names.

    >>> session_in({"metadata": {"user_id": "user_1_account__session_2f"}, "user": "me"})
    '2f'
    """
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    conversation = body.get("conversation")
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    named = (
        body.get("prompt_cache_key"),
        conversation,
        _session_of_user(metadata.get("user_id")),
        metadata.get("session_id"),
        body.get("user"),
    )
    return next((known for value in named if (known := _session(value))), "")


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


def _session(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return text if text.isprintable() and len(text) <= _LONGEST_SESSION else ""
