"""Captures: one JSON file for each exchange, to attach to a bug report; ``replay`` runs its conversions again.

A file is written when its exchange is over, in a thread, so that it is never in the way of a stream. It holds what the
client sent, what each attempt sent and got, and what the client got, piece by piece with times; of secrets nothing:
headers and parameters whose name says that they carry one are blanked, and every secret that the proxy knows is masked
wherever else it stands. Files have mode 0600, and the oldest are removed beyond ``max_files`` and ``max_mb``. A folder
that cannot be written is one warning.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from errno import EACCES
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote_plus

import anyio
import anyio.to_thread

from ccproxy_lite import __version__
from ccproxy_lite.clock import Clock
from ccproxy_lite.config.model import CaptureSettings, Config, Upstream
from ccproxy_lite.config.secrets import SECRET_NAME
from ccproxy_lite.log import log
from ccproxy_lite.net.application import Response
from ccproxy_lite.net.connection import Connection
from ccproxy_lite.net.framing import Headers
from ccproxy_lite.net.heads import AnswerHead, OutHeaders
from ccproxy_lite.providers import FIELDS
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.delivery import Delivery
from ccproxy_lite.relay.tape import AttemptTape, Tape
from ccproxy_lite.routing.routes import Lists

VERSION = 1
"""Of the files' shape."""
REDACTED = "[redacted]"
_WRITTEN = re.compile(r"ccproxy-\d{8}T\d{6}-[0-9a-f]{6}-[\w.-]*\.json")
"""The names of files that are written, and removed, here."""
_UNSAFE = re.compile(r"[^\w.-]+")

Pieces = list[tuple[float, bytes]]


class RecordedClient:
    """A client's connection whose response is noted; everything else goes to the connection itself."""

    def __init__(self, client: Connection, tape: Tape, clock: Clock, keep_alive: bytes) -> None:
        self._client = client
        self._tape = tape
        self._clock = clock
        self._keep_alive = keep_alive

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @property
    def on_blocked(self) -> Callable[[bool], None] | None:
        return self._client.on_blocked

    @on_blocked.setter
    def on_blocked(self, value: Callable[[bool], None] | None) -> None:
        self._client.on_blocked = value

    def respond(self, response: Response) -> None:
        self._tape.answer = (response.status, response.headers)
        self._tape.add(self._tape.pieces, response.body, self._clock.now())
        self._tape.complete = True
        self._client.respond(response)

    def begin(self, status: int, headers: OutHeaders, length: int | None = None) -> None:
        self._tape.answer = (status, headers)
        self._client.begin(status, headers, length)

    def write(self, data: bytes) -> None:
        if data is not self._keep_alive:  # which comes with time, and not out of a conversion
            self._tape.add(self._tape.pieces, data, self._clock.now())
        elif not self._tape.pieces and self._tape.early_s is None:
            self._tape.early_s = self._tape.since(self._clock.now())
        self._client.write(data)

    def finish(self, data: bytes = b"") -> None:
        if data:
            self._tape.add(self._tape.pieces, data, self._clock.now())
        self._tape.complete = True
        self._client.finish(data)


class RecordedDelivery(Delivery):
    """A delivery whose response is noted as it comes."""

    tape: AttemptTape

    def head(self, head: AnswerHead) -> None:
        self.tape.note_head(head, self._clock.now())
        super().head(head)

    def data(self, data: bytes) -> None:
        self.tape.note_data(data, self._clock.now())
        super().data(data)

    def end(self) -> None:
        self.tape.ended = True
        super().end()


class Captures:
    """The folder of captures.

    :ivar problem: why it could not be written, the first time that it could not
    """

    def __init__(self, settings: CaptureSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.problem = ""

    async def prepare(self) -> None:
        """Make the folder, and see whether it can be written."""

        def prepare() -> None:
            folder = self._folder()
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(EACCES, os.strerror(EACCES))

        await self._attempt(prepare)

    def _folder(self) -> Path:
        folder = Path(self._settings.dir).expanduser()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    async def _attempt(self, write: Callable[[], None]) -> None:
        """What fails is one warning."""
        try:
            with anyio.CancelScope(shield=True):  # also when the client has gone away
                await anyio.to_thread.run_sync(write)
        except (OSError, ValueError, RuntimeError) as error:  # the latter two for names that can be none
            if not self.problem:
                reason = getattr(error, "strerror", None) or error
                self.problem = f"captures cannot be written to {self._settings.dir}: {reason}"
                log.warning("%s", self.problem)

    def begin(self, call: Call) -> None:
        """From now on everything that concerns this call is noted."""
        call.tape = Tape(call.record.started_at)
        recorded = RecordedClient(call.client, call.tape, self._clock, call.form.keep_alive)
        call.client = cast(Connection, recorded)

    async def finish(self, call: Call, config: Config, lists: Lists) -> None:
        """The call is over: write its file."""
        when = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._clock.wall()))
        name = f"ccproxy-{when}-{call.id[:6]}-{_UNSAFE.sub('-', call.record.request_id)[:60]}.json"

        def write() -> None:
            folder = self._folder()
            _write_file(folder / name, json.dumps(document(call, config, lists), indent=1, ensure_ascii=False))
            _prune(folder, self._settings)

        await self._attempt(write)


def _write_file(path: Path, text: str) -> None:
    """A file of mode 0600, which appears complete or not at all."""
    number, beside = tempfile.mkstemp(prefix=".ccproxy-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(text.encode("utf-8", "backslashreplace") + b"\n")  # half a pair of surrogates, as JSON spells it
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _prune(folder: Path, settings: CaptureSettings) -> None:
    """Remove the oldest files beyond the limits; only those that were written here."""
    files = []
    for path in folder.iterdir():
        if _WRITTEN.fullmatch(path.name):
            with suppress(FileNotFoundError):  # another exchange has removed it
                stat = path.stat()
                files.append((stat.st_mtime_ns, path.name, stat.st_size, path))
    total = 0
    for number, (_, _, size, path) in enumerate(sorted(files, reverse=True)):
        total += size
        if number and (number >= settings.max_files or total > settings.max_mb * 1_048_576):
            path.unlink(missing_ok=True)


# ---------------------------------------------------------------- the document


def document(call: Call, config: Config, lists: Lists) -> dict[str, Any]:
    """A call and its tape as JSON, without any secret: bodies are masked, so that their bytes keep their places.

    :param lists: the models of upstreams that list them by themselves; errors name them
    """
    tape, record, head = cast(Tape, call.tape), call.record, call.head
    outcome = record.fields(tape.started_at + tape.last_s)
    target = f"{head.raw_path}?{head.query}" if head.query else head.raw_path
    return {
        "capture": VERSION,
        "program": f"ccproxy-lite {__version__}",
        "request_id": record.request_id,
        "client": {
            "format": call.form.name,
            "request": f"{head.method} {without_secrets(target)}",
            "pinned_upstream": call.pinned_upstream,
            "session": call.named_session,
            "previous": call.previous,
            "is_kept": call.is_kept,
            "headers": _headers(
                call, [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
            ),
            "body": as_text(call.mask_bytes(call.raw_body) if tape.has_room(call.raw_body) else b""),
        },
        "settings": {
            "seed": call.id,
            "created": call.created,
            "strict": config.strict,
            "retries": config.retries,
            "max_wait_s": config.max_wait_s,
            "default_max_tokens": config.default_max_tokens,
            "thinking_budgets": dict(config.thinking_budgets),
        },
        "targets": [
            {
                "upstream": _upstream(route.upstream, lists if record.error else {}),
                "model": route.model,
                "effort": route.effort,
                "overlay": route.overlay,
                "unmet": route.unmet,
            }
            for route in tape.routes
        ],
        "attempts": [_attempt(call, one) for one in tape.attempts],
        "answer": None
        if tape.answer is None
        else {
            "status": tape.answer[0],
            "headers": _headers(call, tape.answer[1]),
            "early_s": tape.early_s,
            "pieces": _pieces(call, tape.pieces),
            "complete": tape.complete,
        },
        "outcome": {name: call.redact(value) if isinstance(value, str) else value for name, value in outcome.items()},
        "is_cut": tape.is_cut,
    }


def _upstream(upstream: Upstream, lists: Lists) -> dict[str, Any]:
    return {
        "name": upstream.name,
        "format": upstream.format,
        "base_url": "" if upstream.provider.embedded else upstream.base_url,
        "from_client": upstream.from_client,
        "keys": [key.label for key in upstream.keys],
        "quirks": sorted(upstream.quirks),
        "command": list(upstream.command),
        "prompt_cache": upstream.prompt_cache,
        "provider": upstream.provider.name,
        "auth": list(upstream.auth),
        **{name: value for name in FIELDS if (value := getattr(upstream, name))},
        "models": sorted(upstream.models or lists.get(upstream.name, ())),
    }


def _attempt(call: Call, one: AttemptTape) -> dict[str, Any]:
    response = one.head and {
        "after_s": one.head_s,
        "status": one.head.status,
        "headers": _headers(call, _decoded(one.head.headers)),
        "pieces": _pieces(call, one.pieces),
        "ended": one.ended,
    }
    failed = one.failed and {
        "status": one.failed.status,
        "kind": one.failed.kind,
        "message": call.redact(one.failed.message),
        "code": one.failed.code,
        "retry_after_s": one.failed.retry_after_s,
    }
    return {
        "after_s": one.began_s,
        "upstream": one.attempt.route.upstream.name,
        "model": one.attempt.route.model,
        "target": one.attempt.target_index,
        "key": one.attempt.key.label,
        "request": {
            "request": f"{one.outbound.method} {without_secrets(one.outbound.target)}",
            "headers": _headers(call, one.outbound.headers),
            "body": as_text(call.mask_bytes(one.outbound.body)),
        },
        "dropped": list(one.dropped),
        "response": response,
        "failed": failed,
    }


def without_secrets(target: str) -> str:
    """A path and query without the values of parameters that may hold a secret.

    >>> without_secrets("/v1/models?a=b&%6Bey=c")
    '/v1/models?a=b&%6Bey=[redacted]'
    """
    path, mark, query = target.partition("?")
    parts = [part.partition("=") for part in query.split("&")] if mark else []
    kept = [
        f"{name}={REDACTED}" if equals and SECRET_NAME.search(unquote_plus(name)) else f"{name}{equals}{value}"
        for name, equals, value in parts
    ]
    return path + mark + "&".join(kept)


def _decoded(headers: Headers) -> OutHeaders:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _headers(call: Call, headers: OutHeaders) -> OutHeaders:
    return [(name, REDACTED if SECRET_NAME.search(name) else call.redact(value)) for name, value in headers]


def _pieces(call: Call, pieces: Pieces) -> list[tuple[float, Any]]:
    """Masked as one, for a secret may be cut in two."""
    whole, at, cut = call.mask_bytes(b"".join(data for _, data in pieces)), 0, []
    for after_s, data in pieces:
        cut.append((after_s, as_text(whole[at : at + len(data)])))
        at += len(data)
    return cut


def as_text(data: bytes) -> Any:
    """Bytes as a JSON value: text where they are, else base64."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def as_bytes(value: Any) -> bytes:
    """The reverse. Raises ValueError, TypeError or KeyError for what ``as_text`` has not made."""
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])
