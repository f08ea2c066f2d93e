"""``ccproxy-lite replay``: runs a captured exchange again, offline, and shows what differs."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio

from ccproxy_lite.errors import CcproxyError, ConfigError
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.formats.sse import Parser
from ccproxy_lite.jsontext import loads
from ccproxy_lite.relay import replay
from ccproxy_lite.relay.capture import as_bytes, without_secrets
from ccproxy_lite.relay.upstreams import wire_format
from ccproxy_lite.server.paths import match

Document = Mapping[str, Any]


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0 if all is as it was, 1 if something differs, 2 for what is no capture."""
    path = arguments.file
    document = replay.read(_text_of(path), path)
    try:
        if arguments.case:
            found = list(cases(document))
            _print(json.dumps(found, indent=1, ensure_ascii=False))
            if not found:
                print("no case: nothing was converted", file=sys.stderr)
            return 0
        results = list(comparisons(document, _run_again(document)))
    except CcproxyError:
        raise
    except Exception as error:  # written by another version, or by hand
        what = f"{type(error).__name__}: {error}"
        raise ConfigError([f"ccproxy-lite: {path} is damaged, or was written by another version ({what})"]) from None
    if document["is_cut"]:
        print(f"{path} is larger than what is recorded: what is missing differs", file=sys.stderr)
    differs = False
    for title, before, now in results:
        lines = list(difflib.unified_diff(before, now, "captured", "now", lineterm="", n=2))
        differs = differs or bool(lines)
        _print(f"{title}: {'differs' if lines else 'the same'}")
        for line in lines:
            _print(f"  {line}")
    return int(differs)


def _text_of(path: str) -> str:
    """The text of a file. Raises ConfigError if there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError([f"ccproxy-lite: {path}: {error.strerror}"]) from None


def _run_again(document: Document) -> replay.Outcome:
    head = replay.head_of(document)
    endpoint = match(head.path, head.raw_path, head.query).endpoint
    return anyio.run(replay.run, document, endpoint.path_info if endpoint is not None else PathInfo())


def _print(text: str) -> None:
    """Also half a pair of surrogates, as JSON spells it."""
    print(text.encode("utf-8", "backslashreplace").decode())


def comparisons(document: Document, outcome: replay.Outcome) -> Iterator[tuple[str, list[str], list[str]]]:
    """What is compared: a title, the lines of the capture, and those of now."""
    for number, attempt in enumerate(document["attempts"]):
        target = f"{attempt['upstream']}/{attempt['model']}"
        sent: list[str] = []
        if number < len(outcome.sent):
            name, outbound = outcome.sent[number]
            line = f"{outbound.method} {without_secrets(outbound.target)}"
            sent = [f"to {name}: {line}", *lines_of(outbound.body)]
        request = attempt["request"]
        before = [f"to {attempt['upstream']}: {request['request']}", *lines_of(as_bytes(request["body"]))]
        yield f"request {number + 1} to {target}", before, sent
    for name, outbound in outcome.sent[len(document["attempts"]) :]:
        yield f"another request to {name}", [], lines_of(outbound.body)
    answer = document["answer"]
    if answer is not None:
        was = b"".join(as_bytes(piece) for _, piece in answer["pieces"])
        now = outcome.body if answer["complete"] else outcome.body[: len(was)]
        before = [f"status {answer['status']}", *lines_of(was)]
        yield "answer to the client", before, [f"status {outcome.status}", *lines_of(now)]
    dropped = document["outcome"].get("dropped", "")
    yield "dropped", [dropped], [", ".join(outcome.dropped)]


def lines_of(body: bytes) -> list[str]:
    """A body as lines: JSON with a member on each, anything else (events) as it is."""
    text = body.decode("utf-8", "replace")
    try:
        return json.dumps(loads(text), indent=1, ensure_ascii=False).split("\n")
    except ValueError:
        return text.split("\n")


# ---------------------------------------------------------------- cases for the tests


def cases(document: Document) -> Iterator[dict[str, Any]]:
    """The first conversion of the request, and that of the last answer, as the tests write them (tests/cases)."""
    name, client = f"captured {document['request_id']}", document["client"]["format"]
    session = document["outcome"].get("session", "")
    upstreams = replay.upstreams_of(document)
    for attempt in document["attempts"]:
        upstream = upstreams[attempt["upstream"]]
        target = wire_format(upstream, client).name
        if target != client:
            expected = {
                "model": attempt["model"],
                **({"quirks": sorted(upstream.quirks)} if upstream.quirks else {}),
                **({"caching": True} if upstream.prompt_cache != "off" else {}),
                **({"session": session} if session else {}),
                "expect": loads(attempt["request"]["body"]),
                **({"dropped": attempt["dropped"]} if attempt["dropped"] else {}),
            }
            request = loads(document["client"]["body"])
            yield {"name": name, "from": client, "request": request, "to": {target: expected}}
            break
    if not document["attempts"]:
        return
    last = document["attempts"][-1]
    origin, response = wire_format(upstreams[last["upstream"]], client).name, last["response"]
    if response is not None and response["status"] == 200 and origin != client:
        body = b"".join(as_bytes(piece) for _, piece in response["pieces"])
        yield {"name": f"{name}, the answer", "from": origin, **_answer(body), "to": {client: {}}}


def _answer(body: bytes) -> dict[str, Any]:
    try:
        return {"response": loads(body)}
    except ValueError:
        parser = Parser()
        events = parser.feed(body)
        return {"stream": [loads(event.data) if event.data.startswith("{") else event.data for event in events]}
