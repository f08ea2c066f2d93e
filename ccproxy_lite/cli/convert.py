"""``ccproxy-lite convert``: the pure converters on standard input; what is dropped goes to standard error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ccproxy_lite.errors import CcproxyError, ClientError, ConfigError
from ccproxy_lite.formats import FORMATS, Format
from ccproxy_lite.formats.format import PathInfo, ReplyInfo, Target
from ccproxy_lite.formats.neutral.answer_losses import AnswerLosses
from ccproxy_lite.formats.neutral.events import Event, Failed
from ccproxy_lite.formats.neutral.request import Request
from ccproxy_lite.formats.sse import Parser
from ccproxy_lite.jsontext import dumps, loads


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0, 1 for input that cannot be converted, 2 for a format that does not exist."""
    source, target = _format_named(arguments.source), _format_named(arguments.target)
    if source is target:
        raise ConfigError([f"ccproxy-lite: --from and --to are both {source.name}: nothing to convert"])
    raw = sys.stdin.buffer.read()
    try:
        losses = AnswerLosses(target.name)
        if arguments.what == "stream":
            events = losses.without_lost(_read_events(raw, source))
            _print_dropped(losses.dropped)
            writer = target.writer(_fixed_reply(arguments.model))
            sys.stdout.buffer.write(b"".join(writer.write(event) for event in events))
            return int(not events or isinstance(events[-1], Failed))
        body = loads(raw)
        if not isinstance(body, dict):
            raise CcproxyError("the input is not a JSON object")
        if arguments.what == "request":
            return _convert_request(body, source, target, arguments)
        events = losses.without_lost(source.read_body(body, "id"))
        _print_dropped(losses.dropped)
        if events and isinstance(events[-1], Failed):
            print(dumps(target.write_error(events[-1])[1]))
        else:
            print(dumps(target.write_body(events, _fixed_reply(arguments.model))))
    except ValueError as error:
        raise CcproxyError(f"the input is not JSON: {error}") from None
    except ClientError as error:
        raise CcproxyError(error.message) from None
    return 0


def _format_named(name: str) -> Format:
    if name not in FORMATS:
        raise ConfigError([f'ccproxy-lite: unknown format "{name}"; known: {", ".join(FORMATS)}'])
    return FORMATS[name]


def _convert_request(body: dict[str, object], source: Format, target: Format, arguments: argparse.Namespace) -> int:
    request = source.read_request(body, PathInfo(model=str(body.get("model") or "model")))
    quirks = frozenset(arguments.quirk)
    outgoing = target.write_request(request, Target(arguments.model or request.model, quirks, strict=arguments.strict))
    print(dumps(outgoing.body))
    _print_dropped(outgoing.dropped)
    return 0


def _print_dropped(names: Sequence[str]) -> None:
    if names:
        print(f"dropped: {', '.join(names)}", file=sys.stderr)


def _read_events(raw: bytes, source: Format) -> list[Event]:
    reader, parser = source.reader("id"), Parser()
    return [event for part in parser.feed(raw) for event in reader.feed(part)] + reader.close()


def _fixed_reply(model: str) -> ReplyInfo:
    """Identity and time come from outside in the proxy; here they are always the same."""
    extra = {"stream_options": {"include_usage": True}}
    return ReplyInfo(Request(model or "model", stream=True, extra=extra), "0", 0)
