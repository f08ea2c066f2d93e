"""The command line: arguments to one function per command, and exit codes.

0 success, 1 failure at run time, 2 usage or configuration error, 130 interrupted. What a command needs is imported
when it runs, so that ``--version`` and ``--help`` are instant.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ccproxy_lite import __version__

COMMANDS = ("serve", "run", "check", "models", "convert", "status", "demo")

_EXAMPLES = {
    "": "examples:\n  ccproxy-lite\n  ccproxy-lite run -- claude\n  ccproxy-lite demo",
    "serve": "example:\n  ccproxy-lite serve --config proxy.json --listen 127.0.0.1:9000",
    "run": "example:\n  ccproxy-lite run --model qwen/qwen3-coder-flash -- claude -p 'hello'",
    "check": "example:\n  ccproxy-lite check --config proxy.json --live",
    "models": "example:\n  ccproxy-lite models --json",
    "convert": "example:\n  ccproxy-lite convert --from anthropic --to openai-chat < request.json",
    "status": "example:\n  ccproxy-lite status --reset work",
    "demo": "example:\n  ccproxy-lite demo",
}


class _Parser(argparse.ArgumentParser):
    """argparse, with a guess at what was meant."""

    def error(self, message: str) -> NoReturn:
        words = message.rpartition("arguments: ")[2].split()
        known = sorted(_options(self))
        close = difflib.get_close_matches(words[0], known, 1) if words and words[0].startswith("-") else []
        hint = f' (did you mean "{close[0]}"?)' if close and close[0] != words[0] else ""
        print(f"ccproxy-lite: {message}{hint}", file=sys.stderr)
        print(f"try: {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a parser and of its commands."""
    known = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            known.update(*(_options(inner) for inner in action.choices.values()))
    return known


def _parser() -> _Parser:
    formatter = argparse.RawDescriptionHelpFormatter
    common = _Parser(add_help=False)
    common.add_argument("--config", metavar="FILE", help="the configuration (else $CCPROXY_CONFIG, then ~/.config)")
    logging = _Parser(add_help=False)
    logging.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="least level of log lines")
    logging.add_argument("--log-format", choices=("auto", "text", "json"), help="log lines for people or machines")
    listening = _Parser(add_help=False)
    listening.add_argument("--listen", metavar="ADDRESS", help="host:port, [::1]:port or unix:/path")

    parser = _Parser(
        prog="ccproxy-lite",
        description="A small local proxy between AI clients and AI services. Without a command it serves.",
        epilog=_EXAMPLES[""] + "\n\nexit codes: 0 success, 1 failure, 2 usage or configuration error, 130 interrupted",
        formatter_class=formatter,
    )
    parser.add_argument("--version", action="version", version=f"ccproxy-lite {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def add(name: str, about: str, *parents: _Parser) -> _Parser:
        return commands.add_parser(
            name, help=about, description=about, epilog=_EXAMPLES[name], parents=parents, formatter_class=formatter
        )

    add("serve", "serve until interrupted (the default)", common, listening, logging)
    run = add("run", "run a command with a private proxy of its own", common, logging)
    run.add_argument("--model", metavar="M", help="map every model that the command asks for to M")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the command and its arguments")
    check = add("check", "validate the configuration and show the routes, keys masked", common)
    check.add_argument("--live", action="store_true", help="ask each upstream for its models, with each key")
    models = add("models", "what a client can ask for, and where it goes", common)
    models.add_argument("--json", action="store_true", help="as JSON")
    convert = add("convert", "convert one message between wire formats: standard input to standard output")
    _add_convert(convert)
    status = add("status", "keys, rests, sessions and counters of the proxy that runs", common, listening)
    status.add_argument(
        "--reset", metavar="KEY", help="end rests: of upstream/label, label, last four, upstream, or all"
    )
    status.add_argument("--json", action="store_true", help="as JSON")
    add("demo", "every format through every format, offline, in one table")
    return parser


def _add_convert(convert: argparse.ArgumentParser) -> None:
    convert.add_argument("--from", dest="source", required=True, metavar="FORMAT", help="the format of the input")
    convert.add_argument("--to", dest="target", required=True, metavar="FORMAT", help="the format of the output")
    what = convert.add_mutually_exclusive_group()
    what.add_argument("--request", dest="what", action="store_const", const="request", help="a request (the default)")
    what.add_argument("--response", dest="what", action="store_const", const="response", help="a whole answer")
    what.add_argument("--stream", dest="what", action="store_const", const="stream", help="server-sent events")
    convert.add_argument("--strict", action="store_true", help="refuse what the target cannot express")
    convert.add_argument("--model", metavar="NAME", default="", help="the model at the service, where its name matters")
    convert.add_argument("--quirk", metavar="NAME", action="append", default=[], help="a quirk of the service")
    convert.set_defaults(what="request")


def _with_default(argv: list[str]) -> list[str]:
    """``serve`` where no command is named."""
    if argv and (argv[0] in ("-h", "--help", "--version") or not argv[0].startswith("-")):
        return argv
    if any(word in COMMANDS for word in argv) and "--" not in argv:  # options before the command
        at = next(i for i, word in enumerate(argv) if word in COMMANDS)
        return [argv[at], *argv[:at], *argv[at + 1 :]]
    return ["serve", *argv]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser().parse_args(_with_default(words))
        return _run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: argparse.Namespace) -> int:
    from importlib import import_module

    from ccproxy_lite.errors import CcproxyError, ConfigError

    command = import_module(f"ccproxy_lite.commands.{arguments.command}")
    try:
        code: int = command.main(arguments)
        sys.stdout.flush()
        return code
    except Exception as error:
        inner = _single(error)
        if isinstance(inner, ConfigError):
            for line in inner.problems:
                print(line, file=sys.stderr)
            return 2
        if isinstance(inner, CcproxyError):
            print(f"ccproxy-lite: {inner}", file=sys.stderr)
            return 1
        if isinstance(inner, OSError) and not isinstance(inner, BrokenPipeError):
            print(f"ccproxy-lite: {inner.strerror or inner}", file=sys.stderr)
            return 1
        raise inner from None


def _single(error: BaseException) -> BaseException:
    """The one exception in a task group's wrapping."""
    inner: Sequence[BaseException] = getattr(error, "exceptions", ())
    return _single(inner[0]) if len(inner) == 1 else error
