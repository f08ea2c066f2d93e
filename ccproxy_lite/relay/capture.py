"""Captures: one JSON file for each exchange, to attach to a bug report; ``replay`` runs its conversions again.

A file is written when its exchange is over, in a thread, so that it is never in the way of a stream. It holds what the
client sent, what each attempt sent and got, and what the client got, piece by piece with times; of secrets nothing:
headers that carry one are blanked, and every secret that the proxy knows is redacted everywhere else. Files have mode
0600, and the oldest are removed beyond ``max_files`` and ``max_mb``. A folder that cannot be written is one warning.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread

from ccproxy_lite import __version__, providers
from ccproxy_lite.clock import Clock
from ccproxy_lite.config.model import CaptureSettings, Config
from ccproxy_lite.formats import KEY_HEADERS
from ccproxy_lite.log import log
from ccproxy_lite.net.application import Response
from ccproxy_lite.net.connection import Connection
from ccproxy_lite.net.heads import AnswerHead, OutHeaders
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.delivery import Delivery
from ccproxy_lite.relay.tape import AttemptTape, Tape

VERSION = 1
"""Of the files' shape."""
REDACTED = "[redacted]"
_SECRET_HEADERS = frozenset(
    ("authorization", "proxy-authorization", "cookie", "set-cookie", *KEY_HEADERS, *providers.KEY_HEADERS, "api-key")
)
_SECRET_PARAMETER = re.compile(r"(?<![^?&])key=[^&]*")
_NAME = "ccproxy-"
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
        if data != self._keep_alive:  # which comes with time, and not out of a conversion
            self._tape.add(self._tape.pieces, data, self._clock.now())
        self._client.write(data)

    def finish(self) -> None:
        self._tape.complete = True
        self._client.finish()


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
    """The folder of captures."""

    def __init__(self, settings: CaptureSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._has_warned = False

    def begin(self, call: Call) -> None:
        """From now on everything that concerns this call is noted."""
        call.tape = Tape(call.record.started_at)
        recorded = RecordedClient(call.client, call.tape, self._clock, call.form.keep_alive)
        call.client = cast(Connection, recorded)

    async def finish(self, call: Call, config: Config) -> None:
        """The call is over: write its file."""
        name = f"{_NAME}{time.strftime('%Y%m%dT%H%M%S', time.gmtime(self._clock.wall()))}"
        path = f"{name}-{_UNSAFE.sub('-', call.record.request_id)[:60]}.json"

        def write() -> None:
            folder = Path(self._settings.dir).expanduser()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_file(folder / path, call.redact(json.dumps(document(call, config), indent=1, ensure_ascii=False)))
            _prune(folder, self._settings)

        try:
            with anyio.CancelScope(shield=True):  # also when the client has gone away
                await anyio.to_thread.run_sync(write)
        except OSError as error:
            if not self._has_warned:
                log.warning("captures cannot be written to %s: %s", self._settings.dir, error.strerror or error)
            self._has_warned = True


def _write_file(path: Path, text: str) -> None:
    """A file appears complete or not at all."""
    beside = path.with_suffix(".part")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text.encode("utf-8", "backslashreplace"))  # half a pair of surrogates, as JSON spells it
    beside.replace(path)


def _prune(folder: Path, settings: CaptureSettings) -> None:
    """Remove the oldest files beyond the limits; only those that were written here."""
    files = sorted(folder.glob(f"{_NAME}*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    total = 0
    for number, path in enumerate(files):
        total += path.stat().st_size
        if number and (number >= settings.max_files or total > settings.max_mb * 1_048_576):
            path.unlink(missing_ok=True)


# ---------------------------------------------------------------- the document


def document(call: Call, config: Config) -> dict[str, Any]:
    """A call and its tape as JSON."""
    tape, record, head = cast(Tape, call.tape), call.record, call.head
    return {
        "capture": VERSION,
        "program": f"ccproxy-lite {__version__}",
        "request_id": record.request_id,
        "client": {
            "format": call.form.name,
            "request": f"{head.method} {_without_key(head.raw_path, head.query)}",
            "pinned_upstream": call.pinned_upstream,
            "headers": _headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]),
            "body": as_text(call.raw_body),
        },
        "settings": {
            "seed": call.id,
            "created": call.created,
            "strict": config.strict,
            "retries": config.retries,
            "default_max_tokens": config.default_max_tokens,
            "thinking_budgets": dict(config.thinking_budgets),
        },
        "attempts": [_attempt(one) for one in tape.attempts],
        "answer": None
        if tape.answer is None
        else {
            "status": tape.answer[0],
            "headers": _headers(tape.answer[1]),
            "pieces": _pieces(tape.pieces),
            "complete": tape.complete,
        },
        "outcome": record.fields(tape.started_at + tape.last_s),
        "is_cut": tape.is_cut,
    }


def _attempt(one: AttemptTape) -> dict[str, Any]:
    upstream = one.attempt.route.upstream
    response = one.head and {
        "after_s": one.head_s,
        "status": one.head.status,
        "headers": _headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in one.head.headers]),
        "pieces": _pieces(one.pieces),
        "ended": one.ended,
    }
    failed = one.failed and {
        "status": one.failed.status,
        "kind": one.failed.kind,
        "message": one.failed.message,
        "code": one.failed.code,
        "retry_after_s": one.failed.retry_after_s,
    }
    return {
        "after_s": one.began_s,
        "upstream": {
            "name": upstream.name,
            "format": upstream.format,
            "base_url": "" if upstream.provider.embedded else upstream.base_url,
            "quirks": sorted(upstream.quirks),
        },
        "model": one.attempt.route.model,
        "key": one.attempt.key.label,
        "request": {
            "request": f"{one.outbound.method} {_SECRET_PARAMETER.sub(f'key={REDACTED}', one.outbound.target)}",
            "headers": _headers(one.outbound.headers),
            "body": as_text(one.outbound.body),
        },
        "dropped": list(one.dropped),
        "response": response,
        "failed": failed,
    }


def _without_key(path: str, query: str) -> str:
    return f"{path}?{_SECRET_PARAMETER.sub(f'key={REDACTED}', query)}" if query else path


def _headers(headers: OutHeaders) -> OutHeaders:
    return [(name, REDACTED if name.lower() in _SECRET_HEADERS else value) for name, value in headers]


def _pieces(pieces: Pieces) -> list[tuple[float, Any]]:
    return [(after_s, as_text(data)) for after_s, data in pieces]


def as_text(data: bytes) -> Any:
    """Bytes as a JSON value: text where they are, else base64."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def as_bytes(value: Any) -> bytes:
    """The reverse. Raises ValueError, TypeError or KeyError for what ``as_text`` has not made."""
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])
