"""A configuration file: its text to a ``Config``, and every mistake in it with line, column and path. Pure.

ccproxy.json:12:5: upstreams.qwen.base_ur: unknown key (did you mean "base_url"?)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ccproxy_lite.config import secrets
from ccproxy_lite.config.located import Misplaced, find, parse, position
from ccproxy_lite.config.model import (
    CaptureSettings,
    Config,
    Key,
    Limits,
    Log,
    Mount,
    StoreSettings,
    Timeouts,
    Upstream,
)
from ccproxy_lite.config.readers import (
    Invalid,
    Place,
    Reader,
    Report,
    boolean,
    dict_of,
    dotted,
    integer_at_least,
    list_of,
    members,
    number_at_least,
    object_of,
    one_of,
    readable_file,
    secret_reference,
    text,
)
from ccproxy_lite.config.targets import check_targets, read_models
from ccproxy_lite.errors import ConfigError
from ccproxy_lite.formats.neutral.thinking import BUDGETS
from ccproxy_lite.net import proxies
from ccproxy_lite.net.address import Address
from ccproxy_lite.providers import (
    AUTHS,
    EMBEDDED,
    ENDPOINTS,
    KINDS,
    LOCAL,
    LOCAL_COMMAND,
    LOCAL_PARALLEL,
    PLAIN,
    QUIRKS,
    defaults,
    is_makers,
    provider_of,
)

Keys = tuple[tuple[Key, ...], bool, str]
"""The keys of an upstream, whether they are the client's instead, and where they come from."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def read(source: str, filename: str, environ: Mapping[str, str], read_text: secrets.ReadText) -> Config:
    """The configuration in a file's text. Raises ConfigError with every problem, in the order of their places.

    :param read_text: reads the files that it names, to see whether they can be
    """
    # Editors on Windows write a byte order mark.
    source, report = source.removeprefix("\ufeff"), Report(environ, read_text)

    def line_of(offset: int, path: str, message: str) -> str:
        line, column = position(source, offset)
        return f"{filename}:{line}:{column}: {path}{': ' if path else ''}{message}"

    try:
        document = parse(source)
    except Misplaced as error:
        raise ConfigError([line_of(error.offset, "", error.message)]) from None
    config = None
    with Place(report) as top:
        config = _build_config(document, top)
    # Only now, because looking for a position means to parse the text again up to it.
    if config is None or report.problems:
        problems = [(find(source, path, key=key), dotted(path), message) for path, message, key in report.problems]
        raise ConfigError([line_of(*problem) for problem in sorted(problems)])
    return config


def _build_config(document: Any, top: Place) -> Config:
    given = members(document, top, FIELDS, reserved=("workers",))
    # Missing or empty; a value of another type is reported by its reader.
    if not document.get("upstreams") and document.get("upstreams") in (None, {}):
        top.at("upstreams").error("at least one upstream is required")
    config = Config(**{"upstreams": (), **given}, notes=tuple(top.report.notes))
    if "capture" in given and not config.capture.dir:
        top.report.notes.append("capture: has no effect without dir")
        config = replace(config, notes=tuple(top.report.notes))
    # Where either is invalid, errors about its targets would only follow from that.
    if "models" in given and "upstreams" in given:
        check_targets(document["models"], list(document["upstreams"]), top.at("models"))
    for upstream in config.upstreams:
        if upstream.from_client and config.client_keys:
            place = top.at("upstreams", upstream.name, "keys")
            place.error('client_keys cannot be combined with "from-client" upstreams')
    if not document.get("client_keys") and not Address.parse(config.listen).is_local:
        top.at("listen").error("client_keys is required when listening on a non-loopback address")
    return config


def _read_listen(value: Any, place: Place) -> str:
    try:
        Address.parse(text(value, place))
    except Invalid:
        raise
    except ValueError as error:
        raise Invalid(str(error)) from None
    return str(value)


def _read_origin(value: Any, place: Place) -> str:
    try:
        parts = urlsplit(text(value, place))
        is_origin = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.path.strip("/")
    except Invalid:
        raise
    except ValueError:
        is_origin = False
    if not is_origin:
        raise Invalid("expected an exact origin such as http://localhost:3000")
    return str(value).rstrip("/")


def _read_budgets(value: Any, place: Place) -> Mapping[str, int]:
    levels = {level: integer_at_least(1) for level in BUDGETS if level != "auto"}
    return MappingProxyType({**BUDGETS, **members(value, place, levels)})


# ---------------------------------------------------------------- upstreams


def _read_upstreams(value: Any, place: Place) -> tuple[Upstream, ...]:
    return tuple(dict_of(_read_upstream)(value, place).values())


def _read_upstream(value: Any, place: Place) -> Upstream:
    name = str(place.path[-1])
    if not name or not all(char.isalnum() or char in "-_." for char in name):
        place.error("a name has letters, digits, '-', '_' and '.' only")
    given = members(value, place, UPSTREAM_FIELDS)
    if "format" not in value:
        place.error(f'missing "format" (one of {", ".join(KINDS)})')
    # With an invalid format the other fields are still checked, and the upstream is never used.
    kind = given.get("format", EMBEDDED.name)
    base_url = defaults(kind).base_url
    _check_local(value, kind, place)
    is_url_valid = "base_url" not in value
    if "base_url" in given and not provider_of(kind).runs:
        with place.at("base_url"):
            base_url = _checked_base_url(given["base_url"], kind, given.pop("allow_http", False))
            is_url_valid = True
    keys, from_client, source = given.get("keys", ((), False, ""))
    if "keys" not in value:
        keys, from_client, source = _usual_keys(name, kind, base_url, place)
    proxy, proxy_source = given.get("proxy", (None, ""))
    if "proxy" not in value and is_url_valid:
        with place:
            proxy, proxy_source = _usual_proxy(base_url, place)
    provider = provider_of(kind)
    return Upstream(
        name=name,
        format=kind,
        base_url=base_url,
        keys=keys,
        from_client=from_client,
        headers=given.get("headers", ()),
        models=given.get("models", ()),
        quirks=frozenset(given.get("quirks", ())) | provider.quirks_at(base_url),
        ca_file=given.get("ca_file", ""),
        client_cert=given.get("client_cert", ""),
        proxy=proxy,
        proxy_source=proxy_source,
        source=source,
        command=given.get("command", LOCAL_COMMAND if provider.runs else ()),
        tools=given.get("tools", ()),
        env=given.get("env", ()),
        max_parallel=given.get("max_parallel", LOCAL_PARALLEL),
        prompt_cache=given.get("prompt_cache", "auto"),
        provider=provider,
    )


def _check_local(value: Any, kind: str, place: Place) -> None:
    """Note what only a local program has, or only a service."""
    runs = provider_of(kind).runs
    foreign = ("base_url", "headers", "proxy", "ca_file", "client_cert") if runs else LOCAL_FIELDS
    for name in foreign:
        if name in value and "format" in value:
            why = "a local program has none; set its environment in env" if runs else f"only for format {LOCAL.name}"
            place.at(name).error(why, key=True)
    quirks = value.get("quirks")
    if runs and isinstance(quirks, list) and "completions" in quirks:
        place.at("quirks", quirks.index("completions")).error("a local program has no endpoints")
    if runs and value.get("keys") == "from-client":
        place.at("keys").error("a local program is logged in as its user; it does not take its clients' keys")


def _checked_base_url(url: str, kind: str, allow_http: bool) -> str:
    _checked_url(url, allow_http)
    for ending, instead in ENDPOINTS.items():
        if urlsplit(url).path.rstrip("/").endswith(ending):
            raise Invalid(f"must not include the endpoint path; use {url.rstrip('/').removesuffix(ending)}{instead}")
    return provider_of(kind).tidy(url, kind)


def _checked_url(url: str, allow_http: bool) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  a bad port shows only when it is read
    except ValueError as error:
        raise Invalid(f"not a URL: {error}") from None
    # Only this machine may be reached without TLS unless the file says so.
    is_local = parts.hostname in _LOOPBACK or (parts.hostname or "").startswith("127.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid("must start with https:// (or http:// for this machine)")
    if "@" in parts.netloc or parts.query or parts.fragment or "\\" in url or not url.isprintable() or " " in url:
        raise Invalid("must contain only scheme, host, port and path")
    if parts.scheme == "http" and not is_local and not allow_http:
        raise Invalid('keys and conversations would be sent unencrypted; use https://, or set "allow_http": true')
    return url


def _read_proxy(value: Any, place: Place) -> tuple[proxies.Proxy | None, str]:
    """The proxy that the file names: a URL, a variable that holds one, or ``none``."""
    named, environ = text(value, place), place.report.environ
    variable = secrets.variable(named)
    if variable is not None and not environ.get(variable):
        raise Invalid(f"environment variable {variable} is unset")
    named = environ[variable] if variable is not None else named
    try:
        return (None, "the file") if named == "none" else (proxies.Proxy.parse(named), "the file")
    except ValueError as error:
        raise Invalid(str(error)) from None


def _usual_proxy(base_url: str, place: Place) -> tuple[proxies.Proxy | None, str]:
    try:
        return proxies.usual(base_url, place.report.environ)
    except ValueError as error:
        raise Invalid(str(error)) from None


def _read_variable(value: Any, place: Place) -> str:
    """The value of an environment variable: a text, or a reference to a secret."""
    name, content = str(place.path[-1]), text(value, place)
    if not name.isidentifier() or not name.isascii():
        raise Invalid("not the name of an environment variable")
    return content if secrets.is_literal(content) else secret_reference(content, place)


def _read_command(value: Any, place: Place) -> tuple[str, ...]:
    words = list_of(text)(value, place)
    if not words or not words[0]:
        raise Invalid('expected the words of a command, such as ["claude"]')
    return words


def _read_header(value: Any, place: Place) -> str:
    name, content = str(place.path[-1]), text(value, place)
    if not name.isascii() or not all(char.isalnum() or char in "-_" for char in name) or not name:
        raise Invalid("not a header name")
    if not content.isprintable():
        raise Invalid("not a header value")
    if content.startswith("$") and not content.startswith("$header:"):
        raise Invalid("only $header:Name can be referred to here")
    return content


def _read_headers(value: Any, place: Place) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), content) for name, content in dict_of(_read_header)(value, place).items())


# ---------------------------------------------------------------- keys


def _read_keys(value: Any, place: Place) -> Keys:
    if value == "from-client":
        return (), True, "the client's own key"
    keys: list[Key] = []

    def add(item: Any, inner: Place) -> None:
        key = _read_key(item, inner)
        if any(key.reference == other.reference for other in keys):
            raise Invalid('same API key listed twice; use "weight" to change its share')
        # Two keys of one label (the last four characters, say) are told apart by a number.
        same = sum(other.label.partition(" #")[0] == key.label for other in keys)
        keys.append(replace(key, label=f"{key.label} #{same + 1}") if same else key)

    list_of(add)(value, place)
    return tuple(keys), False, "the file"


def _read_key(value: Any, place: Place) -> Key:
    if isinstance(value, str):
        return Key(secret_reference(value, place), secrets.display_name(value))
    given = members(value, place, {"key": secret_reference, "label": _read_label, "weight": integer_at_least(1)})
    if "key" not in value:
        raise Invalid('expected a secret string or {"key": ...}')
    reference = given.get("key", str(value["key"]))
    return Key(reference, given.get("label", secrets.display_name(reference)), given.get("weight", 1))


def _read_label(value: Any, place: Place) -> str:
    if not text(value, place).isprintable() or not value.strip():
        raise Invalid("label must be non-empty printable text")
    return str(value)


def _usual_keys(name: str, kind: str, base_url: str, place: Place) -> Keys:
    """Where keys come from when the file names none: the format's variable, then a file of the upstream's name."""
    environ = place.report.environ
    if provider_of(kind).embedded:
        return (), False, "not required"
    if provider_of(kind).runs:
        return (), False, "its own login"
    # The vendor's key must not go to another host that speaks its format.
    variables = defaults(kind).key_variables if is_makers(kind, base_url) else ()
    for variable in variables:
        if not secrets.why_variable_unusable(variable, environ):
            return (Key(f"${variable}", f"${variable}"),), False, f"environment variable {variable}"
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    reference = f"file:{home}/ccproxy-lite/keys/{name}"
    if not secrets.why_invalid(reference, environ, place.report.read_text):
        return (Key(reference, reference),), False, reference[5:]
    # Local model servers want no key.
    if urlsplit(base_url).hostname in _LOOPBACK:
        return (), False, "none (loopback service)"
    ways = [f"set {' or '.join(variables)}"] if variables else []
    remedies = ", ".join([*ways, 'add "keys"'])
    place.error(f"no API key: {remedies}, or put one in {reference[5:]}")
    return (), False, ""


# ---------------------------------------------------------------- mounts


def _read_mounts(value: Any, place: Place) -> tuple[Mount, ...]:
    """The longest path first, so that the first that fits is the one that counts."""
    mounts = dict_of(_read_mount)(value, place).values()
    return tuple(sorted(mounts, key=lambda mount: len(mount.path), reverse=True))


def _read_mount(value: Any, place: Place) -> Mount:
    path, fields = str(place.path[-1]), {"to": text, "allow_http": boolean, "keys": _read_mount_keys}
    is_plain = path.startswith("/") and path.isascii() and path.isprintable() and not set("?#%* ") & set(path)
    if not is_plain or {".", ".."} & set(path.split("/")):
        place.error(
            'a mount is a path such as "/api/": it begins with "/", and has no query, no escapes, no "*" and no ".."',
            key=True,
        )
    given = members(value, place, {**fields, **MOUNT_FIELDS})
    if "to" not in value:
        place.error('missing "to" (the base URL of the service)')
    base_url, allow_http, keys = given.pop("to", ""), given.pop("allow_http", False), given.pop("keys", ())
    proxy, source = None, ""
    if base_url:
        with place.at("to"):
            base_url = _checked_url(base_url, allow_http).rstrip("/")
        with place:
            proxy, source = _usual_proxy(base_url, place)
    service = Upstream(path, "", base_url, keys, proxy=proxy, proxy_source=source, source="the file", provider=PLAIN)
    return Mount(path, service, **given)


def _read_mount_keys(value: Any, place: Place) -> tuple[Key, ...]:
    """The first that is set will be used, so one that is not is no mistake; a note if none is."""
    environ, read_text = place.report.environ, place.report.read_text
    unset: list[str] = []

    def read_key(item: Any, inner: Place) -> Key:
        problem = secrets.why_invalid(text(item, inner), environ, read_text)
        if problem and (secrets.variable(item) is not None or item.startswith("file:")):
            unset.append(item)
        elif problem:
            raise Invalid(problem)
        return Key(item, secrets.display_name(item))

    keys = list_of(read_key)(value, place)
    if keys and len(unset) == len(keys):
        place.report.notes.append(f"{place}: none is set ({', '.join(unset)}); requests will get 503")
    return keys


# ---------------------------------------------------------------- the keys of the file, and who reads them

MOUNT_FIELDS: Mapping[str, Reader[Any]] = {
    "auth": one_of(*AUTHS),
    "loopback_only": boolean,
    "strip": boolean,
}
FIELDS: Mapping[str, Reader[Any]] = {
    "listen": _read_listen,
    "client_keys": list_of(secret_reference),
    "allowed_hosts": list_of(text),
    "cors_origins": list_of(_read_origin),
    "upstreams": _read_upstreams,
    "mounts": _read_mounts,
    "models": read_models,
    "strict": boolean,
    "strategy": one_of("round-robin", "fill-first"),
    "sticky_sessions": boolean,
    "retries": integer_at_least(0),
    "max_wait_s": number_at_least(0),
    "keepalive_s": number_at_least(0),
    "thinking_budgets": _read_budgets,
    "default_max_tokens": integer_at_least(1),
    "timeouts": object_of(Timeouts, dict.fromkeys(Timeouts._fields, number_at_least(0.001))),
    "limits": object_of(Limits, dict.fromkeys(Limits._fields, integer_at_least(1))),
    "capture": object_of(
        CaptureSettings, {"dir": text, "max_files": integer_at_least(1), "max_mb": integer_at_least(1)}
    ),
    "responses_store": object_of(StoreSettings, {"max_mb": integer_at_least(0), "ttl_s": number_at_least(1)}),
    "log": object_of(
        Log,
        {
            "level": one_of("debug", "info", "warning", "error"),
            "format": one_of("auto", "text", "json"),
            "file": text,
        },
    ),
}
LOCAL_FIELDS: Mapping[str, Reader[Any]] = {
    "command": _read_command,
    "tools": list_of(text),
    "env": lambda value, place: tuple(dict_of(_read_variable)(value, place).items()),
    "max_parallel": integer_at_least(1),
}
UPSTREAM_FIELDS: Mapping[str, Reader[Any]] = {
    "format": one_of(*KINDS),
    "base_url": text,
    "keys": _read_keys,
    "headers": _read_headers,
    "models": list_of(text),
    "quirks": list_of(one_of(*sorted(QUIRKS))),
    "prompt_cache": one_of("auto", "off"),
    "proxy": _read_proxy,
    "ca_file": readable_file,
    "client_cert": readable_file,
    "allow_http": boolean,
    **LOCAL_FIELDS,
}
