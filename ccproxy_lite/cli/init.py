"""``ccproxy-lite init``: a starting configuration, by reference to keys; never overwrites.

It is made from the keys in the environment, or for one service of the table of known ones.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ccproxy_lite.cli.load import read_text, usual_place
from ccproxy_lite.config import secrets
from ccproxy_lite.config.model import Config, from_environment
from ccproxy_lite.errors import CcproxyError, ClientError, ConfigError
from ccproxy_lite.providers import FIELDS, HOSTS, Host, clouds, host_named, host_names, key_variables
from ccproxy_lite.providers.credentials import AWS, GOOGLE
from ccproxy_lite.providers.hosts import unknown_part
from ccproxy_lite.routing.routes import resolve

_PLACEHOLDER = "TO-BE-SET"


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0, 1 if there is a file already, no key, or no place to write to, 2 for an unknown service."""
    named = arguments.config or os.environ.get("CCPROXY_CONFIG")
    path = Path(named) if named else usual_place(os.environ)
    if path is None:
        raise CcproxyError("HOME is unset: use --config FILE")
    if arguments.provider is not None:
        document = content_for(_host(arguments.provider), arguments.format, arguments.model, os.environ)
    else:
        document = _from_keys(arguments.model)
    write(path, json.dumps(document, indent=2) + "\n")
    print(f"wrote {path}: {', '.join(document['upstreams'])}")
    for line in dict.fromkeys(still_to_do(document["upstreams"], os.environ)):
        print(line)
    if arguments.provider is not None:
        for line in _remarks(_host(arguments.provider), document):
            print(f"note: {line}")
    print("next: ccproxy-lite check, then ccproxy-lite")
    return 0


def _remarks(host: Host, document: Mapping[str, Any]) -> Iterator[str]:
    """What its user should know of a service."""
    written = {entry["format"] for entry in document["upstreams"].values()}
    others = [kind for kind in host.urls if kind not in written]
    if others:
        yield f"{host.name} also speaks {', '.join(others)} (--format)"
    if host.remark:
        yield host.remark
    if not document["models"]:
        yield 'clients ask for models by their makers\' names; map them to those of the service under "models"'


def _from_keys(model: str | None) -> dict[str, Any]:
    config, source = from_environment(os.environ)
    for note in config.notes:
        print(f"note: {note}", file=sys.stderr)
    if source == "nothing":
        found = next((host.name for host in HOSTS for name in host.variables if os.environ.get(name)), "P")
        remedy = f"or name a service: --provider {found} (see: ccproxy-lite help providers)"
        raise CcproxyError(f"no API key found. Set one of {', '.join(key_variables())} and try again, {remedy}")
    return content(config, model)


def content(config: Config, model: str | None) -> dict[str, Any]:
    """The file's content; keys are named, not copied. Raises ConfigError for an unknown model."""
    upstreams = {
        upstream.name: {"format": upstream.format, "keys": [key.reference for key in upstream.keys]}
        for upstream in config.upstreams
    }
    models = {}
    if model:
        try:
            models["*"] = [str(route) for route in resolve(config, model, "")]
        except ClientError as error:
            raise ConfigError([f"--model {model}: {error.message}"]) from None
    return {"listen": config.listen, "client_keys": [], "upstreams": upstreams, "models": models}


# ---------------------------------------------------------------- for one service


def _host(name: str) -> Host:
    from difflib import get_close_matches

    host = host_named(name)
    if host is None:
        near = get_close_matches(name, host_names(), 1, 0.7)
        hint = f'did you mean "{near[0]}"?' if near else "see: ccproxy-lite help providers"
        raise ConfigError([f'ccproxy-lite: --provider: no known service "{name}"; {hint}'])
    return host


def content_for(host: Host, kind: str | None, model: str | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """The content for one service: an upstream for each of its usual formats; what is not known stands as such.

    Raises ConfigError for a format that it does not speak.
    """
    if kind is not None and kind not in host.urls:
        raise ConfigError(
            [f"ccproxy-lite: --format: {host.name} does not speak {kind}; it speaks {', '.join(host.urls)}"]
        )
    kinds = [kind] if kind is not None else host.starting_formats()
    names = [host.name] if len(kinds) == 1 else [f"{host.name}-{kind}" for kind in kinds]
    upstreams = {name: _upstream(host, kind, environ) for name, kind in zip(names, kinds, strict=True)}
    models = {"*": f"{names[0]}/{model}"} if model else {}
    return {"listen": Config(()).listen, "client_keys": [], "upstreams": upstreams, "models": models}


def _upstream(host: Host, kind: str, environ: Mapping[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"format": kind, "base_url": host.name if host.usable(kind) else host.urls[kind]}
    for name in FIELDS:
        if name != "api_version" and (FIELDS[name].provider == host.provider or name in host.fields(kind)):
            entry[name] = clouds.usual_field(name, kind, environ, read_text) or _PLACEHOLDER
    if "{" in entry["base_url"]:
        url = entry["base_url"].format_map(entry)
        entry = {"format": kind, "base_url": url}
    keys = _keys(host, kind, environ)
    entry = {**entry, "keys": keys} if keys else entry
    return {**entry, "headers": {host.header: _PLACEHOLDER}} if host.header else entry


def _keys(host: Host, kind: str, environ: Mapping[str, str]) -> list[str]:
    """The variable that is set; else the cloud's own credentials, if it has any; else the usual variable."""
    variables = host.variables_for(kind)
    found = next((name for name in variables if not secrets.why_variable_unusable(name, environ)), "")
    if not found and (host.tokens or host.signs):
        return [GOOGLE if host.tokens else AWS]
    return [f"${name}" for name in (found, *variables) if name][:1]


def still_to_do(upstreams: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """What its user has to fill in or to set, a line each."""
    for name, entry in upstreams.items():
        for field, value in entry.items():
            if value == _PLACEHOLDER:
                yield f"to do: upstreams.{name}.{field}: {FIELDS[field].what}"
            elif field == "base_url" and unknown_part(value):
                yield f"to do: upstreams.{name}.base_url: replace {unknown_part(value)} by yours"
        for header, value in entry.get("headers", {}).items():
            if value == _PLACEHOLDER:
                yield f"to do: upstreams.{name}.headers.{header}"
        for key in entry.get("keys", ()):
            variable = secrets.variable(key)
            if variable and not environ.get(variable):
                yield f"to do: set the environment variable {variable}"


def write(path: Path, text: str) -> None:
    """A new file that only its owner can read. Raises CcproxyError if there is one, or if it cannot be written."""
    if path.parent.exists() and not path.parent.is_dir():
        raise CcproxyError(f"{path.parent} is not a directory: use --config FILE")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CcproxyError(f"{path} already exists; not overwritten (use --config FILE to write elsewhere)") from None
    try:
        with os.fdopen(number, "w") as file:
            file.write(text)
    except OSError as error:
        path.unlink()
        raise CcproxyError(f"{path} cannot be written: {error.strerror}") from None
