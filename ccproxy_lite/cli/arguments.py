"""The command line as argparse sees it: commands, options, examples. Completions are made of it, too."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from ccproxy_lite import __version__

COMMANDS = {
    "serve": "start the proxy (the default command)",
    "run": "run a command behind a private, temporary proxy",
    "env": "print shell commands that point clients at a running proxy",
    "init": "create a configuration file from the API keys in your environment, or for one provider",
    "check": "validate the configuration and print upstreams and routes (keys masked)",
    "models": "list the models clients can request and where each is routed; with NAME, which target answers and why",
    "convert": "convert a request or response between formats (stdin to stdout)",
    "replay": "run a captured exchange again, offline, and show what differs",
    "status": "show keys, cooldowns, sessions and counters of a running proxy",
    "health": "exit 0 if the proxy is up (for container health checks)",
    "bundle": "build a single-file executable (.pyz) of ccproxy-lite and its dependencies",
    "completion": "print a shell completion script",
    "demo": "test all 16 format pairs offline against a built-in echo server",
    "help": "explain a command or a topic",
}

_EXAMPLES = {
    "": "examples:\n  ccproxy-lite\n  ccproxy-lite run -- claude\n  ccproxy-lite demo",
    "serve": "example:\n  ccproxy-lite serve --config proxy.json --listen 127.0.0.1:9000",
    "run": "example:\n  ccproxy-lite run --model qwen/qwen3-coder-flash -- claude -p 'hello'",
    "env": 'example:\n  ccproxy-lite env claude\n  eval "$(ccproxy-lite env claude)" && claude',
    "init": "example:\n  ccproxy-lite init && ccproxy-lite check\n  ccproxy-lite init --provider openrouter",
    "check": "example:\n  ccproxy-lite check --config proxy.json --live",
    "models": "example:\n  ccproxy-lite models --json\n  ccproxy-lite models claude-sonnet-5",
    "convert": "example:\n  ccproxy-lite convert --from anthropic --to openai-chat < request.json",
    "replay": "example:\n  ccproxy-lite replay ~/captures/ccproxy-20261130T101500-0f3a9c-req1.json",
    "status": "example:\n  ccproxy-lite status --reset work",
    "health": "example:\n  ccproxy-lite health --listen 127.0.0.1:8317",
    "bundle": "example:\n  ccproxy-lite bundle -o ccproxy-lite.pyz && python3 ccproxy-lite.pyz demo",
    "completion": "example:\n  ccproxy-lite completion bash > ~/.local/share/bash-completion/completions/ccproxy-lite",
    "demo": "example:\n  ccproxy-lite demo",
    "help": "example:\n  ccproxy-lite help routes",
}

TOPICS = {
    "routes": "every path that the proxy answers",
    "losses": "what a conversion leaves out, for every pair of formats",
    "quirks": "the dialect switches of upstreams",
    "providers": "the services that are known by name: formats, base URLs, keys, credentials of clouds",
    "exit-codes": "what the exit codes mean",
}

EXIT_CODES = "exit codes: 0 success, 1 failure, 2 usage or configuration error, 130 interrupted"
SHELLS = ("bash", "zsh", "fish")
_OTHERS_CALL_IT = {"--port": "--listen", "--host": "--listen", "--bind": "--listen", "-p": "--listen"}


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, with errors of two lines; completions are made of what it holds."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"ccproxy-lite: {message}\nsee: {self.prog} --help\n")

    @property
    def options(self) -> list[argparse.Action]:
        return [action for action in self._actions if action.option_strings]

    @property
    def positionals(self) -> list[argparse.Action]:
        """What can be completed behind the options: one of several words, or a file."""
        known = [action for action in self._actions if action.choices or action.metavar == "FILE"]
        return [action for action in known if not action.option_strings]


def general() -> Parser:
    """The command line without a command."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name.ljust(width)}  {about}" for name, about in COMMANDS.items())
    topics = "\n".join(f"  {name.ljust(width)}  {about}" for name, about in TOPICS.items())
    parser = Parser(
        prog="ccproxy-lite",
        usage="ccproxy-lite [COMMAND] [OPTION ...]",
        description="A small local proxy between AI clients and AI services. With no command, it starts the proxy.",
        epilog=f"commands:\n{commands}\n\ntopics (help TOPIC):\n{topics}\n\n{_EXAMPLES['']}\n\n{EXIT_CODES}",
    )
    parser.add_argument("--version", action="version", version=f"ccproxy-lite {__version__}")
    return parser


def parser_of(command: str) -> Parser:
    """The command line of one command."""
    parser = Parser(
        prog=f"ccproxy-lite {command}", description=COMMANDS[command], epilog=f"{_EXAMPLES[command]}\n\n{EXIT_CODES}"
    )
    for add in _OPTIONS[command]:
        add(parser)
    return parser


def _add_config_option(parser: Parser) -> None:
    about = "configuration file (default: $CCPROXY_CONFIG, then ~/.config/ccproxy-lite/config.json)"
    parser.add_argument("-c", "--config", metavar="FILE", type=_non_empty, help=about)


def _add_listen_option(parser: Parser) -> None:
    parser.add_argument("--listen", metavar="ADDRESS", type=_non_empty, help="host:port, [::1]:port or unix:/path")


def _add_json_option(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def _add_logging_options(parser: Parser) -> None:
    levels = ("debug", "info", "warning", "error")
    parser.add_argument("--log-level", choices=levels, help="minimum log level")
    parser.add_argument(
        "-q", "--quiet", dest="log_level", action="store_const", const="warning", help="same as --log-level warning"
    )
    parser.add_argument(
        "-v", "--verbose", dest="log_level", action="store_const", const="debug", help="same as --log-level debug"
    )
    parser.add_argument(
        "--log-format", choices=("auto", "text", "json"), help="log format (auto: text on a terminal, JSON otherwise)"
    )
    parser.add_argument(
        "--log-file", metavar="FILE", type=_non_empty, help="write the log to FILE (safe to rotate while running)"
    )


def _add_capture_option(parser: Parser) -> None:
    about = "write one file for each exchange to DIR, for bug reports (see replay)"
    parser.add_argument("--capture", metavar="DIR", type=_non_empty, help=about)


def _add_run_options(parser: Parser) -> None:
    parser.add_argument("--model", metavar="M", type=_non_empty, help="answer every model the command requests with M")
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the command and its arguments")
    # Port 0: any free one; the address of the file is left to ``serve``.
    parser.set_defaults(listen="127.0.0.1:0")


def _add_env_options(parser: Parser) -> None:
    from ccproxy_lite.server.clients import CLIENTS

    parser.add_argument("client", nargs="?", choices=tuple(CLIENTS), metavar="CLIENT", help=", ".join(CLIENTS))
    parser.add_argument(
        "--shell", choices=("sh", "fish", "powershell"), default="sh", help="shell syntax to print (default: sh)"
    )


def _add_init_options(parser: Parser) -> None:
    parser.add_argument("--model", metavar="M", help="answer every model that clients request with M")
    parser.add_argument("--provider", metavar="P", help="write it for a service by name (see: help providers)")
    parser.add_argument("--format", metavar="FORMAT", help="with --provider: the format to speak there")


def _add_check_options(parser: Parser) -> None:
    parser.add_argument("--live", action="store_true", help="contact every upstream with every key (lists models)")


def _add_models_options(parser: Parser) -> None:
    parser.add_argument(
        "name",
        nargs="?",
        type=_non_empty,
        metavar="NAME",
        help="show which target answers this model, and by which rule",
    )


def _add_status_options(parser: Parser) -> None:
    parser.add_argument(
        "--reset",
        metavar="KEY",
        help='clear cooldowns for KEY: upstream/label, label, last 4 characters, upstream, or "all"',
    )


def _add_replay_options(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", type=_non_empty, help="a file that --capture has written")
    parser.add_argument("--case", action="store_true", help="print it as cases for the tests instead")


def _add_bundle_options(parser: Parser) -> None:
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="ccproxy-lite.pyz", help="output file (default: ccproxy-lite.pyz)"
    )


def _add_help_options(parser: Parser) -> None:
    choices = (*TOPICS, *(name for name in COMMANDS if name != "help"))
    about = f"a command, or one of {', '.join(TOPICS)}"
    parser.add_argument("topic", nargs="?", choices=choices, metavar="TOPIC", help=about)


def _add_completion_options(parser: Parser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def _add_convert_options(parser: Parser) -> None:
    parser.add_argument("--from", dest="source", required=True, metavar="FORMAT", help="the format of the input")
    parser.add_argument("--to", dest="target", required=True, metavar="FORMAT", help="the format of the output")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--request", dest="what", action="store_const", const="request", help="a request (default)")
    what.add_argument("--response", dest="what", action="store_const", const="response", help="a complete response")
    what.add_argument("--stream", dest="what", action="store_const", const="stream", help="a streamed response (SSE)")
    parser.add_argument(
        "--strict", action="store_true", help="fail instead of dropping fields the target does not support"
    )
    parser.add_argument(
        "--model", metavar="NAME", default="", help="upstream model name (changes the output for some models)"
    )
    parser.add_argument("--quirk", metavar="NAME", action="append", default=[], help="a quirk of the upstream")
    parser.set_defaults(what="request")


_OPTIONS: dict[str, tuple[Callable[[Parser], None], ...]] = {
    "serve": (_add_config_option, _add_listen_option, _add_logging_options, _add_capture_option),
    "run": (_add_config_option, _add_logging_options, _add_capture_option, _add_run_options),
    "env": (_add_config_option, _add_listen_option, _add_json_option, _add_env_options),
    "init": (_add_config_option, _add_init_options),
    "check": (_add_config_option, _add_json_option, _add_check_options),
    "models": (_add_config_option, _add_json_option, _add_models_options),
    "convert": (_add_convert_options,),
    "replay": (_add_replay_options,),
    "status": (_add_config_option, _add_listen_option, _add_json_option, _add_status_options),
    "health": (_add_config_option, _add_listen_option, _add_logging_options),  # so that both can be given the same
    "bundle": (_add_bundle_options,),
    "completion": (_add_completion_options,),
    "demo": (),
    "help": (_add_help_options,),
}


def _did_you_mean(word: str, choices: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, sorted(choices), 1)
    return f' (did you mean "{close[0]}"?)' if close else ""


_TAKE_VALUES = "-c --config --listen --log-level --log-format --log-file --capture".split()


def _place_of_command(words: list[str]) -> int | None:
    """Where the first word stands that is neither an option nor its value."""
    for at, word in enumerate(words):
        is_value = at > 0 and words[at - 1] in _TAKE_VALUES
        if not word.startswith("-") and not is_value:
            return at
    return None


def _non_empty(text: str) -> str:
    """An unset variable of a script is no value."""
    if not text:
        raise argparse.ArgumentTypeError("value is empty")
    return text


def _words_of_help(asked: list[str]) -> list[str]:
    """The command line that says the same as ``help ...``. Prints what is wrong with it, and exits with code 2."""
    if not asked:
        return ["--help"]
    if asked[0].startswith("-"):
        return ["help", "--help"]
    if asked[0] not in COMMANDS:
        hint = _did_you_mean(asked[0], [*COMMANDS, *TOPICS]) or f"; topics: {', '.join(TOPICS)}"
        general().error(f'unknown command or topic "{asked[0]}"{hint}')
    return [asked[0], "--help"]


def parsed(words: list[str]) -> argparse.Namespace:
    """The command and its options; ``serve`` where no command is named. Options may stand before the command.

    Prints what is wrong with it, and exits with code 2.
    """
    if words[:1] == ["help"]:
        if words[1:2] and words[1] in TOPICS:
            return argparse.Namespace(command="help", topic=words[1])
        words = _words_of_help(words[1:])
    before_command = words[: words.index("--")] if "--" in words else words
    if words[:1] in (["-h"], ["--help"], ["--version"]):
        general().parse_args(words[:1])
    at = _place_of_command(before_command)
    if at == 0 and before_command[0] not in COMMANDS:
        general().error(f'unknown command "{before_command[at]}"' + _did_you_mean(before_command[at], COMMANDS))
    at = at if at is not None and before_command[at] in COMMANDS else None
    command = "serve" if at is None else words[at]
    parser = parser_of(command)
    without_command = words if at is None else [*words[:at], *words[at + 1 :]]
    arguments, unknown = parser.parse_known_args(without_command)
    if unknown:
        word = unknown[0].partition("=")[0]
        choices = {name for action in parser.options for name in action.option_strings} - {"-h", "--help"}
        alias = _OTHERS_CALL_IT.get(word)
        meant = f' (did you mean "{alias}"?)' if alias in choices else _did_you_mean(word, choices)
        if word.startswith("-"):
            parser.error(f"unknown option {word} for {command}{meant}")
        remedy = " (use --config FILE)" if "--config" in choices else ""
        parser.error(f'unexpected argument "{word}"{remedy}')
    arguments.command = command
    return arguments
