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
    secret_reference,
    text,
)
from ccproxy_lite.config.site import checked_url
from ccproxy_lite.config.targets import check_targets, read_models
from ccproxy_lite.config.upstreams import read_upstreams, usual_proxy
from ccproxy_lite.errors import ConfigError
from ccproxy_lite.formats.neutral.thinking import BUDGETS
from ccproxy_lite.net.address import Address
from ccproxy_lite.providers import AUTHS, PLAIN
from ccproxy_lite.providers.credentials import AWS, ReadText


def read(source: str, filename: str, environ: Mapping[str, str], read_text: ReadText) -> Config:
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
            base_url = checked_url(base_url, allow_http).rstrip("/")
        with place:
            proxy, source = usual_proxy(base_url, place)
    service = Upstream(path, "", base_url, keys, proxy=proxy, proxy_source=source, source="the file", provider=PLAIN)
    return Mount(path, service, **given)


def _read_mount_keys(value: Any, place: Place) -> tuple[Key, ...]:
    """The first that is set will be used, so one that is not is no mistake; a note if none is."""
    environ, read_text = place.report.environ, place.report.read_text
    unset: list[str] = []

    def read_key(item: Any, inner: Place) -> Key:
        problem = secrets.why_invalid(text(item, inner), environ, read_text)
        if item.startswith(AWS):
            problem = "requests of mounts are not signed"
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
    "upstreams": read_upstreams,
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
