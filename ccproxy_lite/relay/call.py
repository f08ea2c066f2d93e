"""One request of a client: its content, where its response goes, and what is recorded about it.

It is parsed lazily: without a conversion, most of it never is.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from random import getrandbits
from typing import TYPE_CHECKING, Any, NamedTuple

from ccproxy_lite.cached import cached_property
from ccproxy_lite.config.model import Upstream
from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import Format
from ccproxy_lite.formats.format import PathInfo, ReplyInfo, Writer
from ccproxy_lite.formats.session import SESSION_HEADERS, session_in, session_name
from ccproxy_lite.jsontext import Member, decode, dumps, members
from ccproxy_lite.net.bodies import IncomingBody
from ccproxy_lite.net.connection import Connection
from ccproxy_lite.net.heads import AnswerHead, OutHeaders, RequestHead
from ccproxy_lite.relay.headers import MESSAGES, Withheld, for_client, presented_keys, sends_bearer
from ccproxy_lite.relay.record import Record
from ccproxy_lite.relay.tape import Tape
from ccproxy_lite.relay.vault import Vault

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import Request

LARGE_BYTES = 262_144
CAN_FORK = hasattr(os, "fork") and os.path.isdir("/dev/fd")
_MAX_MODEL_CHARS = 1000
_OWN_ID = re.compile(r"([0-9a-f]{16})([0-9a-f]{8})\Z")


def is_large(body: bytes) -> bool:
    """Whether a body is read, and written, in a copy of the process (see ``offload``)."""
    return len(body) > LARGE_BYTES and CAN_FORK


def new_id() -> str:
    """An id that is known as ours for ever: the last third of it is a checksum of the rest."""
    unique = f"{getrandbits(64):016x}"  # not a secret, so no system call is made for it
    return f"{unique}{zlib.crc32(unique.encode()):08x}"


def is_own_id(text: str) -> bool:
    """Whether an id ends with one that was made here, by this process or an earlier one.

    >>> is_own_id(f"resp_{new_id()}"), is_own_id("resp_0123456789abcdef01234567")
    (True, False)
    """
    found = _OWN_ID.search(text)
    return found is not None and f"{zlib.crc32(found[1].encode()):08x}" == found[2]


class Digest(NamedTuple):
    """What is small of a large body: members, the request without its messages, and what conditions may ask for."""

    body: dict[str, Any]
    request: Request | None
    facts: tuple[Collection[str], int, str] | None


@dataclass
class Call:
    """One request: its format, its bytes, and what the path and the headers say.

    :ivar path_info: what the path says of the request: Gemini's has the model and whether to stream
    :ivar client: the connection that gets the response
    :ivar record: what the log will say about it
    :ivar pinned_upstream: the upstream that the path names
    :ivar incoming: the body of a request that is passed on while it arrives; then ``raw_body`` is empty
    :ivar raw_path: the path as it was sent, behind the upstream and the session that it names
    :ivar previous: the response that it continues; ``asked`` is the body as it came, and ``is_kept`` says whether the
        response may be kept, which ``keep`` does; it also wants the reference of the key that was used
    :ivar conversation: the id of the first response of those that it continues, and ``first_key`` the reference of the
        key with which that was made: the conversation stays on it
    :ivar digest: of a large body, which is read in a copy of the process, all that is known here
    :ivar refused: by upstream and model, the fields for a prompt cache that have been rejected during this call
    :ivar tape: records it for a capture
    :ivar passed_secret: the client's key, if it is the one that is sent to the upstream
    """

    form: Format
    head: RequestHead
    raw_body: bytes
    client: Connection
    record: Record
    vault: Vault
    path_info: PathInfo = field(default_factory=PathInfo)
    pinned_upstream: str = ""
    named_session: str = ""
    passed_secret: str = ""
    incoming: IncomingBody | None = None
    raw_path: str = ""
    tape: Tape | None = None
    previous: str = ""
    conversation: str = ""
    first_key: str = ""
    asked: dict[str, Any] = field(default_factory=dict)
    is_kept: bool = False
    keep: Callable[[Call, Writer, str], None] | None = None
    digest: Digest | None = None
    refused: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """The seed of ids that an upstream does not provide."""
        return new_id()

    @cached_property
    def created(self) -> int:
        """Seconds since 1970."""
        return int(time.time())

    @cached_property
    def text(self) -> str:
        try:
            return decode(self.raw_body)
        except ValueError as error:
            raise ClientError(400, f"the body is not JSON: {error}") from None

    @cached_property
    def members(self) -> list[Member]:
        try:
            return members(self.text)
        except ValueError as error:
            is_ours = "must be" in str(error) and self.text.strip()
            raise ClientError(400, str(error) if is_ours else f"the body is not JSON: {error}") from None

    @cached_property
    def body(self) -> dict[str, Any]:
        return {member.key: member.value for member in self.members}

    @cached_property
    def model(self) -> str:
        model = self.path_info.model or self.body.get("model")
        if model is not None and not isinstance(model, str):
            raise ClientError(400, "model must be a string", param="model")
        if not model or not model.strip():
            raise ClientError(400, "model is required", param="model")
        if len(model) > _MAX_MODEL_CHARS:
            raise ClientError(400, f"model must be at most {_MAX_MODEL_CHARS} characters long", param="model")
        if not model.isprintable():
            raise ClientError(400, "model must not contain control characters", param="model")
        return model

    @cached_property
    def wants_stream(self) -> bool:
        return self.body.get("stream") is True if self.path_info.streams is None else self.path_info.streams

    @cached_property
    def request(self) -> Request:
        if self.digest is not None:
            return self.digest.request or self.unread().request
        return self.form.read_request(self.body, self.path_info)

    @cached_property
    def reply(self) -> ReplyInfo:
        """What writers need to know; this parses the request."""
        return ReplyInfo(self.request, self.id, self.created, self.previous, self.is_kept)

    def use_digest(self, digest: Digest) -> None:
        """Go on with what is small of the body."""
        self.digest = digest
        self.__dict__["body"] = digest.body

    def unread(self) -> Call:
        """The same call, of whose body nothing has been read yet."""
        return replace(self, digest=None)

    def read_all(self) -> None:
        """Read a large body here after all."""
        self.digest = None
        for name in ("body", "request", "reply"):
            self.__dict__.pop(name, None)

    def use_body(self, body: dict[str, Any]) -> None:
        """Go on as if the client had sent another body. It is written only where it is needed: it may be large."""
        for name in ("text", "members", "request", "reply"):
            self.__dict__.pop(name, None)
        self.__dict__ |= {"body": body, "cleaned": self.form.without_foreign(body) or body}
        if self.tape is not None:
            self.raw_body = dumps(body).encode()

    @cached_property
    def cleaned(self) -> dict[str, Any] | None:
        """The body without reasoning that this format's upstreams would reject; None if there is none."""
        return self.form.without_foreign(self.body)

    @cached_property
    def session(self) -> str:
        """The client's id of the conversation, or the empty string: from path, header or body, in this order."""
        named = (self.named_session, *map(self.head.get, SESSION_HEADERS))
        in_head = next((name for text in named if text and (name := session_name(text))), "")
        return in_head or ("" if self.incoming is not None else session_in(self.body))

    @property
    def is_strict(self) -> bool:
        """Whether a field that a conversion would drop is an error."""
        return self.head.get("x-ccproxy-strict") == "1"

    @property
    def client_key(self) -> str:
        """The key that the client sends, or the empty string."""
        return next(filter(None, presented_keys(self.head)), "")

    def auth_at(self, upstream: Upstream, form: Format) -> str:
        """How a key is sent to an upstream of a format: the client's own as a client of that format has sent it."""
        if not upstream.from_client:
            return ""
        return "bearer" if form is self.form and sends_bearer(self.head) else "default"

    def redact(self, text: str) -> str:
        """A text without any secret, the client's key included where it is sent on."""
        return self.vault.redact(text, self.passed_secret)

    def redact_bytes(self, data: bytes) -> bytes:
        """The same for bytes."""
        return self.vault.redact_bytes(data, self.passed_secret)

    def mask_bytes(self, data: bytes) -> bytes:
        """The same, with as many bytes as before."""
        return self.vault.mask_bytes(data, self.passed_secret)

    def headers_for_client(self, answer: AnswerHead, upstream: Upstream, withheld: Withheld = MESSAGES) -> OutHeaders:
        """The upstream's headers for a client of the same format, without any secret."""
        headers = for_client(answer.headers, upstream, withheld)
        return [(name, self.redact(value)) for name, value in headers]

    def renamed(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:
        """A body with another model name, where it has one."""
        if self.path_info.model and "model" not in body:
            return dict(body)
        return {**body, "model": self._name_in_body(body.get("model"), model)}

    def _name_in_body(self, value: Any, model: str) -> Any:
        """What stands in the body for a model name: where the path has it, some clients repeat it, with a prefix."""
        asked = self.path_info.model
        if not asked:
            return model
        is_repeated = isinstance(value, str) and (value == asked or value.endswith(f"/{asked}"))
        return value[: len(value) - len(asked)] + model if is_repeated else value

    def with_model(self, model: str) -> bytes:
        """The client's bytes with another model name, and without reasoning that was signed by another provider."""
        if self.cleaned is not None:
            return dumps(self.renamed(self.cleaned, model)).encode()
        # The last of several members counts, as JSON parsers have it; its value is replaced in the text.
        places = [member for member in self.members if member.key == "model"]
        wanted = self._name_in_body(places[-1].value, model) if places else model
        if not places or places[-1].value == wanted:
            return self.raw_body.removeprefix(b"\xef\xbb\xbf")
        last = places[-1]
        return (self.text[: last.start] + dumps(wanted) + self.text[last.end :]).encode()
