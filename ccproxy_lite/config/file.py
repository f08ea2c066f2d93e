"""A configuration file: its text to a ``Config``, and every mistake in it with line, column and path. Pure.

ccproxy.json:12:5: upstreams.qwen.base_ur: unknown key (did you mean "base_url"?)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ccproxy_lite.config import secrets
from ccproxy_lite.config.located import Located, Misplaced, locate, position
from ccproxy_lite.config.model import DEFAULT_LISTEN, Config, Key, Limits, Log, Timeouts, Upstream
from ccproxy_lite.errors import ConfigError
from ccproxy_lite.formats.neutral.thinking import BUDGETS
from ccproxy_lite.net import proxies
from ccproxy_lite.net.address import Address
from ccproxy_lite.providers import EMBEDDED, ENDPOINTS, KINDS, QUIRKS, defaults, is_makers, provider_of

Value = TypeVar("Value")


_LATER = {
    "": ("workers", "mounts"),
    "upstream": ("command", "tools", "max_parallel"),
}
"""Keys that this version reads and does not act on; using one is reported as a note."""


class _Notebook:
    """A file's text, and what is wrong with it."""

    def __init__(self, text: str, filename: str, environ: Mapping[str, str], read: secrets.ReadText) -> None:
        self.text = text
        self.filename = filename
        self.environ = environ
        self.read = read
        self.problems: list[tuple[int, str]] = []
        self.notes: list[str] = []

    def wrong(self, offset: int, path: str, message: str) -> None:
        line, column = position(self.text, offset)
        where = f"{path}: " if path else ""
        self.problems.append((offset, f"{self.filename}:{line}:{column}: {where}{message}"))

    def members(self, node: Located, path: str, known: Iterable[str] | None) -> dict[str, Located]:
        """The members of an object; unknown and repeated keys are reported."""
        if not isinstance(node.value, list):
            self.wrong(node.offset, path, "an object is expected")
            return {}
        found: dict[str, Located] = {}
        for key, offset, value in node.value:
            inner = f"{path}.{key}" if path else key
            if key in found:
                self.wrong(offset, inner, "this key stands here twice; leave one of them out")
            elif known is not None and key not in known:
                self.wrong(offset, inner, "unknown key" + _meant(key, known))
            else:
                found[key] = value
        return found

    def items(self, node: Located, path: str) -> list[tuple[Located, str]]:
        if not isinstance(node.value, tuple):
            self.wrong(node.offset, path, "an array is expected")
            return []
        return [(item, f"{path}[{i}]") for i, item in enumerate(node.value)]

    def text_of(self, node: Located, path: str, default: str = "") -> str:
        if isinstance(node.value, str):
            return node.value
        self.wrong(node.offset, path, "a string is expected")
        return default

    def number(self, node: Located, path: str, kind: type, least: float, default: Any) -> Any:
        value = node.value
        good = isinstance(value, int) or (kind is float and isinstance(value, float))
        if not good or isinstance(value, bool):
            self.wrong(node.offset, path, "a number is expected" if kind is float else "a whole number is expected")
        elif value < least:
            self.wrong(node.offset, path, f"must be at least {least:g}")
        else:
            return value
        return default

    def choice(self, node: Located, path: str, choices: Iterable[str], default: str) -> str:
        value = self.text_of(node, path, default)
        if value not in choices:
            self.wrong(node.offset, path, f"must be one of {', '.join(choices)}" + _meant(value, choices))
            return default
        return value

    def secret(self, node: Located, path: str) -> str:
        spec = self.text_of(node, path)
        if isinstance(node.value, str):
            trouble = secrets.problem(spec, self.environ, self.read)
            if trouble:
                self.wrong(node.offset, path, trouble)
        return spec


def _one_of(word: str, known: Iterable[str]) -> str:
    return _meant(word, known) or f"; there are: {', '.join(known)}"


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f' (did you mean "{close[0]}"?)' if close else ""


_TOP = (
    "listen client_keys allowed_hosts cors_origins upstreams models strict strategy sticky_sessions retries max_wait_s "
    "keepalive_s thinking_budgets default_max_tokens timeouts limits log workers mounts"
).split()
_UPSTREAM = (
    "format base_url keys headers models quirks proxy ca_file client_cert allow_http command tools max_parallel"
).split()


def read(text: str, filename: str, environ: Mapping[str, str], read_text: secrets.ReadText) -> Config:
    """The configuration in a file's text. Raises ConfigError with every problem, in the order of their places.

    :param read_text: reads the files that it names, to see whether they can be
    """
    book = _Notebook(text.removeprefix("\ufeff"), filename, environ, read_text)
    try:
        root = locate(book.text)
    except Misplaced as error:
        book.wrong(error.offset, "", error.message)
        raise ConfigError([line for _, line in book.problems]) from None
    if not isinstance(root.value, list):
        book.wrong(root.offset, "", "an object is expected")
        raise ConfigError([line for _, line in book.problems])
    top = book.members(root, "", _TOP)
    upstreams = _upstreams(book, top.get("upstreams"), root.offset)
    config = _assemble(book, top, upstreams)
    if book.problems:
        raise ConfigError([line for _, line in sorted(book.problems)])
    return config


def _assemble(book: _Notebook, top: dict[str, Located], upstreams: tuple[Upstream, ...]) -> Config:
    def take(key: str, reader: Callable[[Located, str], Value], default: Value) -> Value:
        return reader(top[key], key) if key in top else default

    def strings(node: Located, path: str) -> tuple[str, ...]:
        return tuple(book.text_of(item, inner) for item, inner in book.items(node, path))

    usual: dict[str, Any] = {field.name: field.default for field in fields(Config)}

    def count(key: str, kind: type, least: float) -> Any:
        return take(key, lambda node, path: book.number(node, path, kind, least, usual[key]), usual[key])

    for key in _LATER[""]:
        if key in top:
            book.notes.append(f"{key}: has no effect in this version")
    listen = take("listen", lambda node, path: _listen(book, node, path), DEFAULT_LISTEN)
    no_texts: tuple[str, ...] = ()
    client_keys = take(
        "client_keys", lambda n, p: tuple(book.secret(item, inner) for item, inner in book.items(n, p)), no_texts
    )
    for upstream in upstreams:
        if upstream.from_client and client_keys:
            message = "the key that a client shows would be the proxy's own: client_keys must be empty"
            book.wrong(top["upstreams"].offset, f"upstreams.{upstream.name}.keys", message)
    if not client_keys and not Address.parse(listen).is_local:
        offset = top["listen"].offset if "listen" in top else 0
        book.wrong(offset, "listen", "other machines can reach this address: client_keys must not be empty")
    return Config(
        upstreams=upstreams,
        listen=listen,
        client_keys=client_keys,
        allowed_hosts=take("allowed_hosts", strings, ()),
        cors_origins=take("cors_origins", lambda n, p: _origins(book, n, p), ()),
        models=take("models", lambda n, p: _models(book, n, p, upstreams), ()),
        strict=take("strict", lambda n, p: _flag(book, n, p), False),
        strategy=take("strategy", lambda n, p: book.choice(n, p, ("round-robin", "fill-first"), "round-robin"),
                      "round-robin"),
        sticky_sessions=take("sticky_sessions", lambda n, p: _flag(book, n, p), True),
        retries=count("retries", int, 0),
        max_wait_s=count("max_wait_s", float, 0),
        keepalive_s=count("keepalive_s", float, 0),
        thinking_budgets=take("thinking_budgets", lambda n, p: _budgets(book, n, p), MappingProxyType(BUDGETS)),
        default_max_tokens=count("default_max_tokens", int, 1),
        timeouts=take("timeouts", lambda n, p: _group(book, n, p, Timeouts, float, 0.001), Timeouts()),
        limits=take("limits", lambda n, p: _group(book, n, p, Limits, int, 1), Limits()),
        log=take("log", lambda n, p: _log(book, n, p), Log()),
        notes=tuple(book.notes),
    )  # fmt: skip


def _flag(book: _Notebook, node: Located, path: str) -> bool:
    if not isinstance(node.value, bool):
        book.wrong(node.offset, path, "true or false is expected")
        return False
    return node.value


def _listen(book: _Notebook, node: Located, path: str) -> str:
    value = book.text_of(node, path, DEFAULT_LISTEN)
    try:
        Address.parse(value)
    except ValueError as error:
        book.wrong(node.offset, path, str(error))
        return DEFAULT_LISTEN
    return value


def _origins(book: _Notebook, node: Located, path: str) -> tuple[str, ...]:
    origins = []
    for item, inner in book.items(node, path):
        origin = book.text_of(item, inner)
        if not _is_origin(origin):
            book.wrong(item.offset, inner, "an exact origin such as http://localhost:3000 is expected")
        origins.append(origin.rstrip("/"))
    return tuple(origins)


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.path.strip("/")


def _models(
    book: _Notebook, node: Located, path: str, upstreams: tuple[Upstream, ...]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    entries = []
    names = [upstream.name for upstream in upstreams]
    for name, value in book.members(node, path, None).items():
        inner = f"{path}.{name}"
        several = isinstance(value.value, tuple)
        targets = []
        for item, where in book.items(value, inner) if several else [(value, inner)]:
            target = book.text_of(item, where)
            upstream, slash, model = target.partition("/")
            if isinstance(item.value, str) and (not slash or not model):
                book.wrong(item.offset, where, 'a target is "upstream/model"')
            elif isinstance(item.value, str) and upstream not in names:
                book.wrong(item.offset, where, f'there is no upstream "{upstream}"' + _one_of(upstream, names))
            targets.append(target)
        if several and not targets:
            book.wrong(value.offset, inner, "at least one target is needed")
        entries.append((name, tuple(targets)))
    return tuple(entries)


def _budgets(book: _Notebook, node: Located, path: str) -> Mapping[str, int]:
    levels = [level for level in BUDGETS if level != "auto"]
    given = book.members(node, path, levels)
    own = {level: book.number(value, f"{path}.{level}", int, 1, 1024) for level, value in given.items()}
    return MappingProxyType({**BUDGETS, **own})


def _group(book: _Notebook, node: Located, path: str, kind: type[Value], number: type, least: float) -> Value:
    defaults: Mapping[str, float] = kind._field_defaults  # type: ignore[attr-defined]
    given = book.members(node, path, defaults)
    return kind(**{
        name: book.number(value, f"{path}.{name}", number, least, defaults[name]) for name, value in given.items()
    })  # fmt: skip


def _log(book: _Notebook, node: Located, path: str) -> Log:
    given = book.members(node, path, ("level", "format", "file"))
    levels, forms = ("debug", "info", "warning", "error"), ("auto", "text", "json")
    return Log(
        book.choice(given["level"], f"{path}.level", levels, "info") if "level" in given else "info",
        book.choice(given["format"], f"{path}.format", forms, "auto") if "format" in given else "auto",
        book.text_of(given["file"], f"{path}.file") if "file" in given else "",
    )


# ---------------------------------------------------------------- upstreams


def _upstreams(book: _Notebook, node: Located | None, offset: int) -> tuple[Upstream, ...]:
    if node is None:
        book.wrong(offset, "upstreams", "at least one upstream is needed")
        return ()
    entries = book.members(node, "upstreams", None)
    if isinstance(node.value, list) and not entries:
        book.wrong(node.offset, "upstreams", "at least one upstream is needed")
    found = []
    for name, value in entries.items():
        if not name or not all(char.isalnum() or char in "-_." for char in name):
            book.wrong(value.offset, f"upstreams.{name}", "a name has letters, digits, '-', '_' and '.' only")
        found.append(_upstream(book, name, value))
    return tuple(found)


def _upstream(book: _Notebook, name: str, node: Located) -> Upstream:
    path = f"upstreams.{name}"
    given = book.members(node, path, _UPSTREAM)
    for key in _LATER["upstream"]:
        if key in given:
            book.notes.append(f"{path}.{key}: has no effect in this version")
    kind = EMBEDDED.name
    if "format" in given:
        kind = book.choice(given["format"], f"{path}.format", KINDS, kind)
    elif isinstance(node.value, list):
        book.wrong(node.offset, path, "format is needed: " + ", ".join(KINDS))
    base_url = defaults(kind).base_url
    if "base_url" in given:
        base_url = _base_url(book, given["base_url"], f"{path}.base_url", kind, _allows_http(book, given, path))
    keys, from_client, source = _keys(book, given.get("keys"), name, kind, base_url, node.offset)
    proxy, proxy_source = _proxy(book, given.get("proxy"), path, base_url, node.offset)

    def texts(key: str) -> tuple[str, ...]:
        if key not in given:
            return ()
        return tuple(book.text_of(item, inner) for item, inner in book.items(given[key], f"{path}.{key}"))

    quirks = set()
    for item, inner in book.items(given["quirks"], f"{path}.quirks") if "quirks" in given else ():
        quirks.add(book.choice(item, inner, sorted(QUIRKS), ""))
    quirks |= provider_of(kind).quirks_at(base_url)
    return Upstream(
        name=name,
        format=kind,
        base_url=base_url,
        keys=keys,
        from_client=from_client,
        headers=_headers(book, given["headers"], f"{path}.headers") if "headers" in given else (),
        models=texts("models"),
        quirks=frozenset(quirks - {""}),
        ca_file=_file(book, given, path, "ca_file"),
        client_cert=_file(book, given, path, "client_cert"),
        proxy=proxy,
        proxy_source=proxy_source,
        source=source,
        provider=provider_of(kind),
    )


def _proxy(
    book: _Notebook, node: Located | None, path: str, base_url: str, offset: int
) -> tuple[proxies.Proxy | None, str]:
    """The proxy that the file names (itself, by a variable, or ``none``), else the environment's."""
    try:
        if node is None:
            return proxies.usual(base_url, book.environ)
        offset, path = node.offset, f"{path}.proxy"
        text = book.text_of(node, path, "none")
        name = secrets.variable(text)
        if name is not None and not book.environ.get(name):
            raise ValueError(f"the environment variable {name} is not set")
        text = book.environ[name] if name is not None else text
        return (None, "the file") if text == "none" else (proxies.Proxy.parse(text), "the file")
    except ValueError as error:
        book.wrong(offset, path, str(error))
        return None, ""


def _file(book: _Notebook, given: dict[str, Located], path: str, key: str) -> str:
    if key not in given:
        return ""
    name = book.text_of(given[key], f"{path}.{key}")
    trouble = secrets.unreadable(name, book.read)
    if trouble:
        book.wrong(given[key].offset, f"{path}.{key}", trouble)
    return name


def _allows_http(book: _Notebook, given: dict[str, Located], path: str) -> bool:
    return "allow_http" in given and _flag(book, given["allow_http"], f"{path}.allow_http")


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _base_url(book: _Notebook, node: Located, path: str, kind: str, allow_http: bool) -> str:
    url = book.text_of(node, path)
    if not isinstance(node.value, str):
        return ""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  a bad port shows only when it is read
    except ValueError as error:
        book.wrong(node.offset, path, f"not a URL: {error}")
        return ""
    local = parts.hostname in _LOOPBACK or (parts.hostname or "").startswith("127.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        book.wrong(node.offset, path, "must start with https:// (or http:// for this machine)")
    elif parts.path.rstrip("/").endswith(ENDPOINTS):
        book.wrong(node.offset, path, "is the address of an endpoint: the part before it is wanted")
    elif "@" in parts.netloc or parts.query or parts.fragment or "\\" in url or not url.isprintable() or " " in url:
        book.wrong(node.offset, path, "only scheme, host, port and path may stand here")
    elif parts.scheme == "http" and not local and not allow_http:
        book.wrong(node.offset, path, 'keys would travel in the clear: use https://, or add "allow_http": true')
    return provider_of(kind).tidy(url, kind)


def _headers(book: _Notebook, node: Located, path: str) -> tuple[tuple[str, str], ...]:
    headers = []
    for name, value in book.members(node, path, None).items():
        text = book.text_of(value, f"{path}.{name}")
        if not name.isascii() or not all(char.isalnum() or char in "-_" for char in name) or not name:
            book.wrong(value.offset, f"{path}.{name}", "not a header name")
        elif not text.isprintable():
            book.wrong(value.offset, f"{path}.{name}", "not a header value")
        elif text.startswith("$") and not text.startswith("$header:"):
            book.wrong(value.offset, f"{path}.{name}", "only $header:Name can be referred to here")
        headers.append((name.lower(), text))
    return tuple(headers)


def _keys(
    book: _Notebook, node: Located | None, name: str, kind: str, base_url: str, offset: int
) -> tuple[tuple[Key, ...], bool, str]:
    path = f"upstreams.{name}.keys"
    if node is None:
        return _usual_keys(book, name, kind, base_url, offset)
    if node.value == "from-client":
        return (), True, "the client's own key"
    keys: list[Key] = []
    for item, inner in book.items(node, path):
        key = _key(book, item, inner)
        if key is None:
            continue
        if any(key.secret == known.secret for known in keys):
            book.wrong(item.offset, inner, "this key stands here twice; its share of the requests is its weight")
        same = sum(known.label.partition(" #")[0] == key.label for known in keys)
        keys.append(replace(key, label=f"{key.label} #{same + 1}") if same else key)
    return tuple(keys), False, "the file"


def _key(book: _Notebook, node: Located, path: str) -> Key | None:
    if isinstance(node.value, str):
        spec = book.secret(node, path)
        return Key(spec, secrets.label(spec))
    given = book.members(node, path, ("key", "label", "weight"))
    if "key" not in given:
        book.wrong(node.offset, path, 'a secret string or {"key": ...} is expected')
        return None
    spec = book.secret(given["key"], f"{path}.key")
    text = book.text_of(given["label"], f"{path}.label") if "label" in given else secrets.label(spec)
    if not text.isprintable() or not text.strip():
        book.wrong(given["label"].offset, f"{path}.label", "a label is a word or two")
    weight = book.number(given["weight"], f"{path}.weight", int, 1, 1) if "weight" in given else 1
    return Key(spec, text, weight)


def _usual_keys(book: _Notebook, name: str, kind: str, base_url: str, offset: int) -> tuple[tuple[Key, ...], bool, str]:
    """Where keys come from when the file names none: the format's variable, then a file of the upstream's name."""
    if provider_of(kind).embedded:
        return (), False, "none needed"
    official = is_makers(kind, base_url)
    for variable in defaults(kind).key_variables if official else ():
        if not secrets.problem_of_variable(variable, book.environ):
            return (Key(f"${variable}", f"${variable}"),), False, f"the environment variable {variable}"
    home = book.environ.get("XDG_CONFIG_HOME") or f"{book.environ.get('HOME', '')}/.config"
    spec = f"file:{home}/ccproxy-lite/keys/{name}"
    if not secrets.problem(spec, book.environ, book.read):
        return (Key(spec, spec),), False, spec[5:]
    if urlsplit(base_url).hostname in _LOOPBACK:
        return (), False, "none: this machine"
    variables = " or ".join(defaults(kind).key_variables) if official else ""
    sources = [f"set {variables}"] if variables else []
    remedy = ", ".join([*sources, 'name some in "keys"', f"or write one to {spec[5:]}"])
    book.wrong(offset, f"upstreams.{name}", f"no key was found: {remedy}")
    return (), False, ""
