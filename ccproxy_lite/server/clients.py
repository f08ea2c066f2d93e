"""How each client finds a proxy: what it reads from variables, flags and files, and what would lead it around. Pure.

Measured with the versions that the end-to-end tests run, and with Qwen Code 0.24, opencode 1.18, aider 0.86, llm 0.36.

>>> variables("claude", "http://127.0.0.1:8317", "KEY")["ANTHROPIC_BASE_URL"]
'http://127.0.0.1:8317'
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ccproxy_lite.config.secrets import NO_KEY, ONE_TIME

__all__ = ["CLIENTS", "NO_KEY", "ONE_TIME"]


class File(NamedTuple):
    """A settings file, laid over the user's, for a client in which files take precedence over variables.

    ``variable`` names it, or, with ``at``, the folder in which it stands beside the user's other files. ``usual`` is
    where that is without the variable, from HOME; without content, the file is left out.
    """

    variable: str
    content: str = ""
    at: str = ""
    usual: str = ""


class Place(NamedTuple):
    """Where a client's own settings stand: a file in the folder that a variable names, or else in one below HOME."""

    variable: str
    folder: str
    name: str


class Catalogue(NamedTuple):
    """A list of models that a client reads from a file.

    ``printed_by`` are the words by which the program prints its own list, without asking any service; ``setting`` names
    the file, and ``window_setting`` a window without a file, up to ``largest_window``.
    """

    printed_by: tuple[str, ...]
    setting: str
    window_setting: str
    largest_window: int


class Model(NamedTuple):
    """The model that answers a client, as far as the client must be told.

    ``asked`` is the name by which it will be asked for, if all names lead to it. ``is_converted``: its service speaks
    another format than the client; ``is_foreign``: it is none of the models that the client knows. The numbers are
    those of the context window and of an answer, in tokens; 0 if unknown. ``unsized`` is a target whose window nobody
    knows.
    """

    asked: str = ""
    context_tokens: int = 0
    output_tokens: int = 0
    is_converted: bool = False
    is_foreign: bool = False
    unsized: str = ""


class Client(NamedTuple):
    """What a client is, and what it reads; ``{url}`` and ``{key}`` stand for the proxy's.

    ``redirected_by``: variables that would lead it elsewhere. ``private``: what only a child of ours gets.
    ``speaks`` is its format. ``asks_for``: models that it asks for by itself, which it also calls by the words in
    ``usual_models``. A user names another one behind one of ``model_options``, as a setting behind one of
    ``setting_options``, in ``model_variable``, or in ``settings``. ``of_models``, ``of_windows``, ``converted``: the
    variables for the model's name (``{model}``), its numbers (``{context}``, ``{output}``), and where a conversion
    follows; ``catalogue`` is the other way to tell numbers.
    """

    about: str
    variables: Mapping[str, str]
    redirected_by: tuple[str, ...] = ()
    flags: Mapping[str, str] = {}
    file: File | None = None
    private: Mapping[str, str] = {}
    speaks: str = ""
    asks_for: tuple[str, ...] = ()
    usual_models: tuple[str, ...] = ()
    model_options: tuple[str, ...] = ()
    setting_options: tuple[str, ...] = ()
    model_variable: str = ""
    settings: Place | None = None
    of_models: Mapping[str, str] = {}
    of_windows: Mapping[str, str] = {}
    converted: Mapping[str, str] = {}
    catalogue: Catalogue | None = None


_ANTHROPIC = {"ANTHROPIC_BASE_URL": "{url}", "ANTHROPIC_AUTH_TOKEN": "{key}"}
_OPENAI = {"OPENAI_BASE_URL": "{url}/v1", "OPENAI_API_KEY": "{key}"}
_GOOGLE = {"GOOGLE_GEMINI_BASE_URL": "{url}", "GEMINI_API_KEY": "{key}"}
_GENERAL = {**_ANTHROPIC, **_OPENAI, "OPENAI_API_BASE": "{url}/v1", **_GOOGLE}
_NOT_ANTHROPIC = ("ANTHROPIC_API_KEY", "ANTHROPIC_UNIX_SOCKET", "ANTHROPIC_CUSTOM_HEADERS")
_NOT_CLAUDE = (
    "CLAUDE_CODE_USE_BEDROCK CLAUDE_CODE_USE_VERTEX CLAUDE_CODE_USE_FOUNDRY CLAUDE_CODE_USE_ANTHROPIC_AWS "
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD CLAUDE_CODE_USE_MANTLE CLAUDE_CODE_USE_GATEWAY CLAUDE_CODE_OAUTH_TOKEN"
).split()
_NOT_OPENAI = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS")
_NOT_GOOGLE = ("GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA", "GEMINI_CLI_CUSTOM_HEADERS")
_NOT_QWEN = ("QWEN_OAUTH", "GOOGLE_MODEL")
_NOT_AIDER = (
    "AIDER_SET_ENV AIDER_API_KEY AIDER_OPENAI_API_KEY AIDER_OPENAI_API_BASE AIDER_ANTHROPIC_API_KEY OPENROUTER_API_KEY"
).split()

_CODEX = {
    "model_provider": '"ccproxy"',
    "model_providers.ccproxy.name": '"ccproxy-lite"',
    "model_providers.ccproxy.base_url": '"{url}/v1"',
    "model_providers.ccproxy.env_key": '"OPENAI_API_KEY"',
    "model_providers.ccproxy.wire_api": '"responses"',
    "model_providers.ccproxy.supports_websockets": "false",  # else it tries first, and reports the refusal as an error
}
_CODEX_CATALOGUE = Catalogue(("debug", "models", "--bundled"), "model_catalog_json", "model_context_window", 272_000)
_CODEX_TEMPLATE = "gpt-5.5"
"""The newest of its models that calls tools one by one, as others do."""
_DISCOVERY = {"CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1"}
"""Claude Code then offers the aliases whose names contain ``claude``."""
_CLAUDE_MODELS = {
    name: "{model}"
    for name in (
        "ANTHROPIC_MODEL",
        "ANTHROPIC_DEFAULT_OPUS_MODEL",
        "ANTHROPIC_DEFAULT_SONNET_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    )
}
_CLAUDE_WINDOW = {
    "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "{context}",  # for names that it does not know
    "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "{context}",  # for names that it knows, from 100,000 tokens on
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "{output}",
}
LEAST_WINDOW = 100_000
"""For names that it knows, Claude Code takes no smaller window; it knows them by a part of the name."""
FAMILIAR = "claude"
"""What names of models that it may know contain."""
UNFAMILIAR_NAME = "proxied-model"
"""A name that no client knows."""
_CLAUDE_OUTPUT_TOKENS = 32_000
"""What Claude Code asks for, for a model that it does not know; it keeps that much of the window free."""
_GEMINI_FILE = '{"security": {"auth": {"selectedType": "gemini-api-key"}}}'
"""Gemini CLI takes a base URL for a login that it then rejects; only settings say which login it is, and of a file that
stands alone only one of root's is trusted."""

_QWEN_FILE = '{"security": {"auth": {"selectedType": "openai"}}, "modelProviders": null}'
"""Without it Qwen Code wants a login, and providers in the user's settings would take precedence."""

_OPENCODE = json.dumps({
    "enabled_providers": ["anthropic", "openai", "google"],  # requests to any other would bypass the proxy
    "provider": {
        name: {"options": {"baseURL": url, "apiKey": "{env:OPENAI_API_KEY}", "fetch": None}}  # a login sets fetch
        for name, url in (("anthropic", "{url}/v1"), ("openai", "{url}/v1"), ("google", "{url}/v1beta"))
    },
})  # fmt: skip

_AIDER = {
    "OPENAI_API_BASE": "{url}/v1",
    "OPENAI_BASE_URL": "{url}/v1",
    "OPENAI_API_KEY": "{key}",
    "ANTHROPIC_API_BASE": "{url}",
    "ANTHROPIC_BASE_URL": "{url}",
    "ANTHROPIC_API_KEY": "{key}",
    "GEMINI_API_BASE": "{url}/v1beta",
    "GEMINI_API_KEY": "{key}",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
_AIDER_OVER_ITS_CONF = {
    "AIDER_OPENAI_API_KEY": "{key}",
    "AIDER_OPENAI_API_BASE": "{url}/v1",
    "AIDER_ANTHROPIC_API_KEY": "{key}",
    "AIDER_API_KEY": "openai={key}",
    "AIDER_SET_ENV": "OPENAI_BASE_URL={url}/v1",
    "OPENROUTER_API_KEY": "",
}
_AIDER_FILE = "".join(f"{name}={value}\n" for name, value in {**_AIDER, **_AIDER_OVER_ITS_CONF}.items())
"""aider reads .env files over its environment; this one it reads last."""

CLIENTS: dict[str, Client] = {
    "claude": Client(
        "Claude Code",
        {**_ANTHROPIC, **_DISCOVERY},
        (*_NOT_ANTHROPIC, *_NOT_CLAUDE),
        private={"CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST": "1"},  # or the user's settings take precedence
        speaks="anthropic",
        asks_for=("claude-opus-5-5", "claude-sonnet-5-5"),
        usual_models=("default", "best", "opus", "sonnet", "haiku", "opusplan"),
        model_options=("--model",),
        model_variable="ANTHROPIC_MODEL",
        settings=Place("CLAUDE_CONFIG_DIR", ".claude", "settings.json"),
        of_models=_CLAUDE_MODELS,
        of_windows=_CLAUDE_WINDOW,
        converted={"CLAUDE_CODE_ATTRIBUTION_HEADER": "0"},  # a text for the maker's own service
    ),
    "codex": Client(
        "Codex",
        {"OPENAI_API_KEY": "{key}"},
        _NOT_OPENAI,
        flags=_CODEX,
        speaks="openai-responses",
        asks_for=("gpt-6.1-sol",),
        model_options=("-m", "--model"),
        setting_options=("-c", "--config"),
        settings=Place("CODEX_HOME", ".codex", "config.toml"),
        catalogue=_CODEX_CATALOGUE,
    ),
    "gemini": Client(
        "Gemini CLI", _GOOGLE, _NOT_GOOGLE, file=File("GEMINI_CLI_HOME", _GEMINI_FILE, at=".gemini/settings.json")
    ),
    "qwen": Client(
        "Qwen Code",
        _OPENAI,
        (*_NOT_OPENAI, *_NOT_QWEN),
        file=File("QWEN_CODE_SYSTEM_SETTINGS_PATH", _QWEN_FILE, usual="/etc/qwen-code/settings.json"),
    ),
    "opencode": Client("opencode", {"OPENAI_API_KEY": "{key}", "OPENCODE_CONFIG_CONTENT": _OPENCODE}, _NOT_OPENAI),
    "aider": Client("aider", _AIDER, tuple(_NOT_AIDER), file=File("AIDER_ENV_FILE", _AIDER_FILE)),
    "llm": Client(
        "llm", _OPENAI, _NOT_OPENAI, file=File("LLM_USER_PATH", at="keys.json", usual=".config/io.datasette.llm")
    ),  # a stored key would be shown instead of ours
    "anthropic": Client("the anthropic SDK", _ANTHROPIC, _NOT_ANTHROPIC),
    "openai": Client("the openai SDK and most tools", {**_OPENAI, "OPENAI_API_BASE": "{url}/v1"}, _NOT_OPENAI),
    "google-genai": Client("the google-genai SDK", _GOOGLE, _NOT_GOOGLE),
}

SDKS = ("anthropic", "openai", "google-genai")
"""Those that are libraries, not programs."""


def variables(client: str | None, url: str, key: str) -> dict[str, str]:
    """What a client (or any) reads from the environment, for a proxy at a base URL and a key that it accepts."""
    wanted = CLIENTS[client].variables if client in CLIENTS else _GENERAL
    return {name: _fill_in(text, url, key) for name, text in wanted.items()}


def asked_models(words: Sequence[str], environ: Mapping[str, str], settings: str = "") -> list[str]:
    """The models that a command will ask for: the one that the user has named, else those of its program.

    Its words count before its variable, and this before its ``settings``, the text of their file.
    """
    client = CLIENTS.get(program_name(words[0]))
    if client is None:
        return []
    named = _named_by(client, words) or environ.get(client.model_variable, "") or _named_in(settings)
    is_usual = named.removesuffix("[1m]") in client.usual_models
    return list(client.asks_for) if not named or is_usual else [named]


def _named_by(client: Client, words: Sequence[str]) -> str:
    """The model that the words of a command name; the last one counts."""
    named = ""
    for option, value in pairwise([*words[1:], ""]):
        name, equals, glued = option.partition("=")
        if option in client.model_options:
            named = value or named
        elif equals and name in client.model_options:
            named = glued
        elif option.startswith("-m") and not option.startswith("--") and "-m" in client.model_options:
            named = option[2:].removeprefix("=")
        for name in client.setting_options:
            setting = (option.removeprefix(name).removeprefix("=") or value) if option.startswith(name) else ""
            named = setting.removeprefix("model=").strip("\"'") if setting.startswith("model=") else named
    return named


_TOML_MODEL = re.compile(r"""^\s*model\s*=\s*["']([^"']+)["']""", re.MULTILINE)
_TOML_TABLE = re.compile(r"^\s*\[", re.MULTILINE)


def _named_in(settings: str) -> str:
    """The model that a settings file names: a member of a JSON object, or a key of TOML's first table.

    >>> _named_in('{"model": "a"}'), _named_in('x = 1\\nmodel = "b"\\n[profiles.c]\\nmodel = "d"')
    ('a', 'b')
    """
    if settings.lstrip().startswith("{"):
        try:
            model = json.loads(settings).get("model")
        except ValueError:
            return ""
        return model if isinstance(model, str) else ""
    found = _TOML_MODEL.search(_TOML_TABLE.split(settings, maxsplit=1)[0])
    return found[1] if found else ""


def about_model(client: str | None, model: Model, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that tell a client of the model that answers it; none that the user has set already."""
    known = CLIENTS.get(client or "")
    if known is None:
        return {}
    told = dict(known.converted) if model.is_converted else {}
    if model.asked:
        told |= known.of_models
    if model.is_foreign:
        told |= {name: text for name, text in known.of_windows.items() if _is_known(model, text)}
    values = {"{model}": model.asked, "{context}": str(model.context_tokens), "{output}": str(_output_of(model))}
    return {name: values.get(text, text) for name, text in told.items() if name not in environ}


def _is_known(model: Model, text: str) -> bool:
    """Whether a number that a variable is for can be told."""
    return bool(model.context_tokens or (text == "{output}" and model.output_tokens))


def _output_of(model: Model) -> int:
    """How long an answer may be: as the model says, but never so long that little is left for the conversation.

    The client compacts when 33,000 tokens of the window are left, so an answer that is longer might not fit.
    """
    longest = min(model.output_tokens or _CLAUDE_OUTPUT_TOKENS, _CLAUDE_OUTPUT_TOKENS)
    return min(longest, max(model.context_tokens // 4, 1)) if model.context_tokens else longest


def catalogue_of(program: str) -> Catalogue | None:
    """The catalogue of models that a program reads, if it reads one."""
    client = CLIENTS.get(program_name(program))
    return client.catalogue if client is not None else None


def window_flags(program: str, model: Model) -> list[str]:
    """The flags that tell a program of a window without a catalogue."""
    form = catalogue_of(program)
    if form is None or not model.is_foreign or not model.context_tokens or needs_catalogue(program, model):
        return []
    return ["-c", f"{form.window_setting}={model.context_tokens}"]


def needs_catalogue(program: str, model: Model) -> bool:
    """Whether only a catalogue can tell a program of the window."""
    form = catalogue_of(program)
    return form is not None and model.is_foreign and model.context_tokens > form.largest_window


def unknown_window(program: str, model: Model, words: Sequence[str], environ: Mapping[str, str]) -> str:
    """What to say of a window that a program would read and nobody knows; empty if there is nothing to say."""
    client = CLIENTS.get(program_name(program))
    if client is None or not model.unsized or not (client.of_windows or client.catalogue):
        return ""
    given = [
        *(name for name in client.of_windows if name in environ),
        *(one for one in words if client.catalogue and client.catalogue.window_setting in one),
    ]
    told = f"the context window of {model.unsized} is unknown, so {program_name(program)} assumes its own default"
    return "" if given else f'{told}; set "context_tokens" of the target in "models"'


def catalogue_flags(form: Catalogue, path: str, model: Model) -> list[str]:
    """The flags that name a catalogue, and the model in it that all names lead to."""
    named = ["-c", f'model="{model.asked}"'] if model.asked else []
    return ["-c", f'{form.setting}="{path}"', *named]


def catalogue(slugs: Sequence[str], model: Model, templates: Any) -> str:
    """A catalogue of models for Codex, which replaces its own: every name that may be asked for has the one window.

    The longest name with which a model's begins describes it, so a hidden entry without a name describes all others.

    :param templates: what ``codex debug models`` prints: instructions and tools of the models that it knows
    """
    known = {entry["slug"]: entry for entry in templates["models"]}
    usual = known.get(_CODEX_TEMPLATE) or templates["models"][0]
    window = {"context_window": model.context_tokens, "max_context_window": model.context_tokens, "upgrade": None}
    shown = {**window, "visibility": "list", "priority": 0}
    listed = [{**known.get(slug, usual), "slug": slug, "display_name": slug, **shown} for slug in slugs]
    others = [{**usual, "slug": "", "display_name": ""}, *(known[slug] for slug in known if slug not in slugs)]
    return json.dumps({"models": listed + [{**entry, **window, "visibility": "hide"} for entry in others]})


def redirecting(client: str | None) -> list[str]:
    """The variables that would lead a client (or any) to another service, with another login or key."""
    affected = [CLIENTS[client]] if client in CLIENTS else list(CLIENTS.values())
    return list(dict.fromkeys(name for one in affected for name in one.redirected_by))


def holding_key(environ: Mapping[str, str], url: str) -> str | None:
    """The variable that holds the key of the proxy at that URL, in a shell that points a client there."""
    for wanted in (client.variables for client in CLIENTS.values()):
        filled = {name: _fill_in(text, url, "") for name, text in wanted.items() if "{url}" in text}
        keys = [name for name, text in wanted.items() if text == "{key}" and environ.get(name)]
        if keys and filled and all(environ.get(name) == text for name, text in filled.items()):
            return keys[0]
    return None


def touched() -> list[str]:
    """The variables that a shell may have lost or changed since it points clients at a proxy."""
    return list(
        dict.fromkeys([*redirecting(None), *(name for one in CLIENTS.values() for name in one.variables), *_GENERAL])
    )


def environment(environ: Mapping[str, str], program: str, url: str, key: str) -> dict[str, str]:
    """A child's environment: every client finds the proxy, and nothing that would lead it elsewhere."""
    client = program_name(program)
    # Of every client, not only of this one: it may start others.
    cleared = {*redirecting(None), *_GENERAL}
    child = {name: text for name, text in environ.items() if name not in cleared}
    wanted = variables(client, url, key).items()
    settings = {name: text for name, text in wanted if name not in _DISCOVERY or name not in environ}
    child |= {
        name: laid_over(child.get(name, ""), text) if _is_object(text) else text for name, text in settings.items()
    }
    child |= CLIENTS[client].private if client in CLIENTS else {}
    # curl and Python prefer the lower-case name.
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if exempt.strip() != "*":  # else a client would ask a company's proxy for this machine
        exempt = ",".join(filter(None, [exempt, "127.0.0.1,localhost"]))
    return {**child, "NO_PROXY": exempt, "no_proxy": exempt}


def flags(client: str, url: str) -> list[str]:
    """The flags that a client needs; Codex takes its provider from them only."""
    settings = CLIENTS[client].flags if client in CLIENTS else {}
    return [word for name, text in settings.items() for word in ("-c", f"{name}={_fill_in(text, url, '')}")]


def with_flags(words: Sequence[str], url: str) -> list[str]:
    """A command with the flags that its program needs."""
    return [words[0], *flags(program_name(words[0]), url), *words[1:]]


def file_of(program: str) -> File | None:
    """The settings file that a program needs."""
    client = CLIENTS.get(program_name(program))
    return client.file if client else None


def content_of(file: File, url: str, key: str, theirs: str) -> str:
    """The content of the settings file: that of the proxy over the user's."""
    settings = _fill_in(file.content, url, key)
    return laid_over(theirs, settings) if _is_object(settings) else f"{theirs}\n{settings}"


def laid_over(theirs: str, ours: str) -> str:
    """One JSON object over another; what cannot be read is not kept.

    >>> laid_over('{"a": {"b": 1, "c": 2}}', '{"a": {"b": 3}}')
    '{"a": {"b": 3, "c": 2}}'
    """

    def over(low: Any, high: Any) -> Any:
        if not isinstance(low, dict) or not isinstance(high, dict):
            return high
        return {**low, **{name: over(low.get(name), value) for name, value in high.items()}}

    try:
        return json.dumps(over(json.loads(theirs), json.loads(ours)))
    except ValueError:
        return ours


def _is_object(text: str) -> bool:
    """Whether a setting is a JSON object; no other begins like one."""
    return text.startswith("{") and not text.startswith(("{url}", "{key}"))


def is_json(text: str) -> bool:
    """Whether a settings file can be merged: it holds a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def instructions(url: str, key: str) -> list[dict[str, str]]:
    """How to connect each client by hand: a line for a shell, or the command that does it."""
    lines = []
    for name, client in CLIENTS.items():
        line = "export " + " ".join(f"{key}={value}" for key, value in variables(name, url, key).items())
        has_file = client.file is not None and bool(client.file.content)
        is_long = client.flags or has_file or any(map(_is_object, client.variables.values()))
        lines.append({"client": client.about, "line": f"ccproxy-lite run -- {name}" if is_long else line})
    return lines


def _fill_in(text: str, url: str, key: str) -> str:
    return text.replace("{url}", url).replace("{key}", key)


def program_name(program: str) -> str:
    """What a program is called, wherever it stands."""
    return program.rpartition("/")[2]
