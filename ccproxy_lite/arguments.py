"""The command line as argparse sees it: commands, options, examples. Completions are made of it, too."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import NoReturn

from ccproxy_lite import __version__

COMMANDS = {
    "serve": "serve until interrupted (the default)",
    "run": "run a command with a private proxy of its own",
    "env": "lines for a shell that lead clients to a proxy that runs",
    "init": "write a configuration from the keys in the environment",
    "check": "validate the configuration and show the routes, keys masked",
    "models": "what a client can ask for, and where it goes",
    "convert": "convert one message between wire formats: standard input to standard output",
    "status": "keys, rests, sessions and counters of the proxy that runs",
    "health": "whether the proxy serves, for health checks of containers",
    "bundle": "write this program and what it needs as one file",
    "completion": "completions for a shell",
    "demo": "every format through every format, offline, in one table",
}

_EXAMPLES = {
    "": "examples:\n  ccproxy-lite\n  ccproxy-lite run -- claude\n  ccproxy-lite demo",
    "serve": "example:\n  ccproxy-lite serve --config proxy.json --listen 127.0.0.1:9000",
    "run": "example:\n  ccproxy-lite run --model qwen/qwen3-coder-flash -- claude -p 'hello'",
    "env": 'example:\n  ccproxy-lite env claude\n  eval "$(ccproxy-lite env claude)" && claude',
    "init": "example:\n  ccproxy-lite init && ccproxy-lite check",
    "check": "example:\n  ccproxy-lite check --config proxy.json --live",
    "models": "example:\n  ccproxy-lite models --json",
    "convert": "example:\n  ccproxy-lite convert --from anthropic --to openai-chat < request.json",
    "status": "example:\n  ccproxy-lite status --reset work",
    "health": "example:\n  ccproxy-lite health --listen 127.0.0.1:8317",
    "bundle": "example:\n  ccproxy-lite bundle -o ccproxy-lite.pyz && python3 ccproxy-lite.pyz demo",
    "completion": "example:\n  ccproxy-lite completion bash > ~/.local/share/bash-completion/completions/ccproxy-lite",
    "demo": "example:\n  ccproxy-lite demo",
}

EXIT_CODES = "exit codes: 0 success, 1 failure, 2 usage or configuration error, 130 interrupted"
SHELLS = ("bash", "zsh", "fish")
_OTHERS_CALL_IT = {"--port": "--listen", "--host": "--listen", "--bind": "--listen", "-p": "--listen"}


class Parser(argparse.ArgumentParser):
    """argparse, with errors of two lines; ``options`` and ``commands`` are what completions are made of."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]
        self.commands: dict[str, Parser] = {}

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"ccproxy-lite: {message}\ntry: {self.prog} --help\n")

    @property
    def options(self) -> list[argparse.Action]:
        return [action for action in self._actions if action.option_strings]

    @property
    def positionals(self) -> list[argparse.Action]:
        return [action for action in self._actions if action.choices and not action.option_strings]


def parser() -> Parser:
    """The whole command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    common, logging, listening, as_json = (Parser(add_help=False) for _ in range(4))
    common.add_argument(
        "-c", "--config", metavar="FILE", help="the configuration (else $CCPROXY_CONFIG, then ~/.config)"
    )
    listening.add_argument("--listen", metavar="ADDRESS", help="host:port, [::1]:port or unix:/path")
    as_json.add_argument("--json", action="store_true", help="as JSON")
    _add_logging(logging)
    top = Parser(
        prog="ccproxy-lite",
        description="A small local proxy between AI clients and AI services. Without a command it serves.",
        epilog=f"{_EXAMPLES['']}\n\n{EXIT_CODES}",
        formatter_class=formatter,
    )
    top.add_argument("--version", action="version", version=f"ccproxy-lite {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def add(name: str, *parents: Parser) -> Parser:
        about = COMMANDS[name]
        top.commands[name] = commands.add_parser(
            name, help=about, description=about, epilog=_EXAMPLES[name], parents=parents, formatter_class=formatter
        )
        return top.commands[name]

    add("serve", common, listening, logging)
    _add_run(add("run", common, logging))
    _add_env(add("env", common, listening, as_json))
    init = add("init", common)
    init.add_argument("--model", metavar="M", help="map every model that a client asks for to M")
    check = add("check", common, as_json)
    check.add_argument("--live", action="store_true", help="ask each upstream for its models, with each key")
    add("models", common, as_json)
    _add_convert(add("convert"))
    status = add("status", common, listening, as_json)
    status.add_argument("--reset", metavar="KEY", help="end rests: upstream/label, label, last four, upstream, or all")
    add("health", common, listening)
    bundle = add("bundle")
    bundle.add_argument("-o", "--output", metavar="FILE", default="ccproxy-lite.pyz", help="where (ccproxy-lite.pyz)")
    add("completion").add_argument("shell", choices=SHELLS, help="the shell")
    add("demo")
    return top


def _add_logging(logging: Parser) -> None:
    levels = ("debug", "info", "warning", "error")
    logging.add_argument("--log-level", choices=levels, help="least level of log lines")
    logging.add_argument("-q", "--quiet", dest="log_level", action="store_const", const="warning", help="like warning")
    logging.add_argument("-v", "--verbose", dest="log_level", action="store_const", const="debug", help="like debug")
    logging.add_argument("--log-format", choices=("auto", "text", "json"), help="log lines for people or machines")
    logging.add_argument("--log-file", metavar="FILE", help="log there; it may be moved away at any time")


def _add_run(run: Parser) -> None:
    run.add_argument("--model", metavar="M", help="map every model that the command asks for to M")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the command and its arguments")
    run.set_defaults(listen="127.0.0.1:0")


def _add_env(env: Parser) -> None:
    from ccproxy_lite.clients import CLIENTS

    env.add_argument("client", nargs="?", choices=tuple(CLIENTS), metavar="CLIENT", help=", ".join(CLIENTS))
    env.add_argument("--shell", choices=("sh", "fish", "powershell"), default="sh", help="whose lines (sh)")


def _add_convert(convert: Parser) -> None:
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


def _meant(word: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, sorted(known), 1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def _with_command(argv: list[str]) -> list[str]:
    """``serve`` where no command is named; options may stand before it."""
    if argv and argv[0] in ("-h", "--help", "--version"):
        return argv
    own = argv[: argv.index("--")] if "--" in argv else argv
    at = next((i for i, word in enumerate(own) if word in COMMANDS), None)
    if at is not None:
        return [argv[at], *argv[:at], *argv[at + 1 :]]
    return ["serve", *argv]


def parsed(words: list[str]) -> argparse.Namespace:
    """What was asked for. Prints what is wrong with it, and exits with code 2."""
    top = parser()
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        top.error(f"there is no command {words[0]}" + _meant(words[0], COMMANDS))
    arguments, unknown = top.parse_known_args(_with_command(words))
    if unknown:
        own = top.commands[arguments.command]
        word = unknown[0].partition("=")[0]
        known = {name for action in own.options for name in action.option_strings}
        alias = _OTHERS_CALL_IT.get(word)
        meant = f' (did you mean "{alias}"?)' if alias in known else _meant(word, known)
        own.error(f"{arguments.command} takes no {word}" + (meant if word.startswith("-") else ""))
    return arguments
