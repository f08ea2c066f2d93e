"""A service whose answers are scripted by key, by model and by call; it speaks any of the formats.

Answers have names, so that a table of cases can be read:

    ok                          a whole answer or a stream, as it was asked for
    500                         an error of the format with this status
    429 retry-after=2           with headers
    429 RetryInfo=3.5s          with what the format's error bodies say (see ``_error``)
    reset, close, empty, html, truncated, nonsense
    begins-and-breaks           a stream that begins without content, and ends there
    error-event [KIND]          an error inside a 200, before any content
    content-then-error, content-then-break, content-then-stop
    stall                       nothing, until the proxy gives up
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tests.support import (
    CLOSE,
    LAST,
    PATIENCE_S,
    RESET,
    STALL,
    STREAM_HEAD,
    WIRES,
    Scripted,
    Seen,
    Step,
    anthropic_event,
    chat_delta,
    http,
    response_event,
    sse,
    upstream,
)

from tests.support import ANTHROPIC_START, RESPONSES_START  # isort: skip

_NAMES = {
    "anthropic": {
        401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
        413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 529: "overloaded_error",
    },
    "gemini": {
        400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
    },
}  # fmt: skip
_BEGUN: dict[str, bytes] = {
    "anthropic": ANTHROPIC_START,
    "openai-chat": chat_delta(role="assistant", content=""),
    "openai-responses": RESPONSES_START,
    "gemini": sse({"responseId": "r"}),
}


def _error(form: str, status: int, options: dict[str, str], message: str) -> dict[str, Any]:
    """An error body of a format; options name what it says beside the message."""
    message = message or f"the service says {status}"
    if form == "anthropic":
        kind = _NAMES[form].get(status, "invalid_request_error" if status < 500 else "api_error")
        return {"type": "error", "error": {"type": options.get("type", kind), "message": message}}
    if form == "gemini":
        found: dict[str, Any] = {"code": status, "message": message, "status": _NAMES[form].get(status, "UNKNOWN")}
        details = []
        if "RetryInfo" in options:
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": options["RetryInfo"]})
        if "QuotaFailure" in options:
            violations = [{"quotaId": options["QuotaFailure"]}]
            details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations})
        if "reason" in options:
            details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": options["reason"]})
        return {"error": {**found, "details": details} if details else found}
    found = {"message": message, "type": options.get("type", "error"), "code": options.get("code"), "param": None}
    for name in ("resets_in_seconds", "resets_at"):
        if name in options:
            found[name] = float(options[name])
    return {"error": found}


_IN_BODIES = {"RetryInfo", "QuotaFailure", "reason", "type", "code", "resets_in_seconds", "resets_at"}


def steps_of(form: str, answer: str, stream: bool, heard: Step) -> list[Step]:
    """The script of one named answer; ``heard`` waits until the client has heard the content."""
    message = "".join(re.findall(r'"([^"]*)"', answer))
    name, *words = re.sub(r'"[^"]*"', "", answer).split()
    options = dict(word.split("=", 1) for word in words if "=" in word)
    wire = WIRES[form]
    if name == "ok":
        return wire.stream if stream else [http(200, wire.body)]
    if name.isdigit():
        headers = {
            key.replace("-", "_"): value.replace("_", " ") for key, value in options.items() if key not in _IN_BODIES
        }
        return [http(int(name), _error(form, int(name), options, message), **headers)]
    if name == "error-event":
        return _error_event(form, int(words[0]) if words and words[0].isdigit() else 500, options, message, stream)
    begun = STREAM_HEAD + _BEGUN[form]
    simple: dict[str, list[Step]] = {
        "reset": [RESET],
        "close": [CLOSE],
        "stall": [STALL],
        "nonsense": [b"nonsense\r\n\r\n"],
        "html": [http(200, b"<html><body>Welcome to the hotel</body></html>", "text/html")],
        "empty": [STREAM_HEAD + LAST] if stream else [http(200, b"")],
        "truncated": [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{", CLOSE],
        "begins-and-breaks": [begun, RESET],
        "begins-and-ends": [begun + LAST],
        "content-then-break": [*wire.begun, heard, RESET],
        "content-then-stop": [*wire.begun, heard, LAST],
        "content-then-error": [*wire.begun, heard, _in_band(form, 500, {}, "too late") + LAST],
    }
    return simple[name]


def _in_band(form: str, status: int, options: dict[str, str], message: str) -> bytes:
    body = _error(form, status, options, message)
    if form == "anthropic":
        return anthropic_event("error", error=body["error"])
    if form == "openai-responses":
        code = options.get("code", "rate_limit_exceeded" if status == 429 else "server_error")
        failed = {"id": "resp_1", "status": "failed", "output": [], "error": {**body["error"], "code": code}}
        return response_event("failed", response=failed)
    return sse(body)


def _error_event(form: str, status: int, options: dict[str, str], message: str, stream: bool) -> list[Step]:
    if not stream:
        return [http(200, _error(form, status, {"code": str(status), **options}, message))]
    if form == "openai-chat":
        options = {"code": str(status), **options}
    return [STREAM_HEAD, _BEGUN[form], _in_band(form, status, options, message) + LAST]


class Service:
    """What a service says to which key and model, and who has asked."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.rules: dict[tuple[str, str], list[str]] = {}
        self.calls: list[str] = []
        self.heard = threading.Event()
        self._used: dict[tuple[str, str], int] = defaultdict(int)

    def choose(self, seen: Seen) -> list[Step]:
        """The answer to a request: what the rules say to its key and model, else to its key, else ``ok``."""
        if seen.head.startswith("GET "):  # it lists no models
            return [http(404, {})]
        key, model, stream = self._asked(seen)
        place = next((known for known in ((key, model), (key, ""), ("", "")) if known in self.rules), None)
        answers = self.rules[place] if place else ["ok"]
        number = self._used[place] if place else 0
        if place:
            self._used[place] += 1
        self.calls.append(key or "any")
        return steps_of(
            self.form, answers[min(number, len(answers) - 1)], stream, lambda _: self.heard.wait(PATIENCE_S)
        )

    def say(self, key: str, model: str, answers: list[str]) -> None:
        """From now on, answer so."""
        self.rules[key, model] = answers
        self._used[key, model] = 0

    def _asked(self, seen: Seen) -> tuple[str, str, bool]:
        secret = seen.header("authorization") or seen.header("x-api-key") or seen.header("x-goog-api-key") or ""
        key = secret.removeprefix("Bearer ").removeprefix("key-").partition("-")[0]
        target = seen.head.split(" ", 2)[1]
        if self.form == "gemini":
            match = re.search(r"/models/([^:]+):(\w+)", target)
            assert match is not None, target
            return key, match[1], match[2] == "streamGenerateContent"
        body = json.loads(seen.body)
        return key, body["model"], body.get("stream") is True


@contextlib.contextmanager
def service(form: str) -> Iterator[tuple[Service, Scripted]]:
    """A scripted service on a loopback port."""
    scripted = Service(form)
    with upstream(choose=scripted.choose) as up:
        yield scripted, up


def slowly(scripted: Service, up: Scripted, seconds: float) -> None:
    """From now on the service thinks before its streams, and once more after their first content."""
    gate, choose = threading.Event(), scripted.choose

    def chosen(seen: Seen) -> list[Step]:
        steps = choose(seen)
        think: Step = lambda _: gate.wait(seconds)  # noqa: E731
        return [think, *steps[:2], think, *steps[2:]] if len(steps) > 1 else steps

    up.choose = chosen


def secret(key: str) -> str:
    """The secret behind a key's name."""
    return f"key-{key}-0123456789-{key * 4}"[:40]
