"""The upstreams in a configuration file: each object to an ``Upstream``, and every mistake in it. Pure.

Which service is meant, and where it is, ``site`` finds out. Keys are those of the file; else of the service's
variables, of a file with the upstream's name, or the cloud's own credentials.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ccproxy_lite.config import secrets
from ccproxy_lite.config.model import Key, Upstream
from ccproxy_lite.config.readers import (
    Invalid,
    Place,
    Reader,
    boolean,
    dict_of,
    integer_at_least,
    list_of,
    members,
    one_of,
    readable_file,
    secret_reference,
    text,
)
from ccproxy_lite.config.site import LOOPBACK, Site, read_site
from ccproxy_lite.net import proxies
from ccproxy_lite.providers import (
    AUTHS,
    FIELDS,
    KINDS,
    LOCAL,
    LOCAL_COMMAND,
    LOCAL_PARALLEL,
    NAMES,
    QUIRKS,
    Field,
    Host,
    clouds,
    defaults,
    provider_of,
)
from ccproxy_lite.providers.credentials import AWS, GOOGLE
from ccproxy_lite.providers.hosts import unknown_part

Keys = tuple[tuple[Key, ...], bool, str]
"""The keys of an upstream, whether they are the client's instead, and where they come from."""


def read_upstreams(value: Any, place: Place) -> tuple[Upstream, ...]:
    return tuple(dict_of(_read_upstream)(value, place).values())


def _read_upstream(value: Any, place: Place) -> Upstream:
    name = str(place.path[-1])
    if not name or not all(char.isalnum() or char in "-_." for char in name):
        place.error("a name has letters, digits, '-', '_' and '.' only")
    given = members(value, place, UPSTREAM_FIELDS)
    site = read_site(name, value, given, place)
    _check_local(value, site.kind, place)
    provider = site.provider_at(site.base_url)
    keys, from_client, source = given.get("keys", ((), False, ""))
    if "keys" not in value and given.get("auth") == "none":
        source = "not required"
    elif "keys" not in value and site.is_known:
        keys, from_client, source = _usual_keys(site, place)
    elif not keys and not from_client:
        source = "not required"
    proxy, proxy_source = given.get("proxy", (None, ""))
    if "proxy" not in value and site.is_known:
        with place:
            proxy, proxy_source = usual_proxy(site.base_url, place)
    if site.is_known:
        _check_credentials(site, keys, place)
        needed = site.host.header if site.host is not None and site.is_own else ""
        told = dict(given.get("headers", ())).get(needed, "")
        if needed and (not told or unknown_part(told)):
            place.error(f'missing "headers": {{"{needed}": ...}}')
    host = site.host
    return Upstream(
        name=name,
        format=site.kind,
        base_url=site.base_url,
        keys=keys,
        from_client=from_client,
        headers=given.get("headers", ()),
        models=given.get("models", ()),
        quirks=frozenset(given.get("quirks", ())) | frozenset(host.quirks if host is not None else ()),
        auth=_auth(given, site),
        project=site.fields.get("project", ""),
        location=site.fields.get("location", ""),
        region=site.fields.get("region", ""),
        api_version=site.fields.get("api_version", ""),
        lists=not provider.runs and (host is None or host.lists_in(site.kind)),
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


# ---------------------------------------------------------------- credentials


def _auth(given: Mapping[str, Any], site: Site) -> tuple[str, ...]:
    """How the key is sent, if the file or the host says so; with OpenAI's formats hosts have no other way."""
    if "auth" in given:
        return (given["auth"],)
    is_usual = site.kind in KINDS and defaults(site.kind).key_header == "authorization"
    return site.host.auth if site.host is not None and not is_usual else ()


def _check_credentials(site: Site, keys: tuple[Key, ...], place: Place) -> None:
    """What a cloud needs to know for the kind of key that it gets."""
    references = [key.reference for key in keys]
    fields = site.fields
    signs = site.host is not None and bool(site.host.signs)
    in_url = site.host.fields(site.kind) if site.host is not None and not site.is_given else []
    is_needed = {
        "project": site.provider == FIELDS["project"].provider and clouds.needs_project(site.kind, references),
        "region": signs and any(secrets.is_token_source(one) for one in references),
    }
    for name in FIELDS:
        if (name in in_url or is_needed.get(name)) and not fields.get(name) and name not in site.written:
            place.error(f'missing "{name}": {FIELDS[name].remedy}')
    for number, one in enumerate(references):
        if one.startswith(AWS) and not signs:
            place.at("keys", number).error("this host takes no AWS signatures")
        if signs and re.match("(AKIA|ASIA)[A-Z0-9]{8}", one):
            place.at("keys", number).error('an access key id is no key; use "aws:" or "aws:PROFILE"')
        if one.startswith(GOOGLE) and site.host is not None and not site.host.tokens:
            place.at("keys", number).error("this host takes no such tokens")
        if secrets.is_fetched(one):
            with place.at("keys", number):
                _check_fetched(one, place)


def _check_fetched(reference: str, place: Place) -> None:
    """Raises Invalid for credentials that are not there; a note where only asking would tell."""
    environ, read = place.report.environ, place.report.read_text
    try:
        source = clouds.source_of(reference, environ, read)
    except clouds.NoCredentialsError as error:
        raise Invalid(str(error)) from None
    if not clouds.is_evident(source, environ, read):
        place.report.notes.append(f"{place}: {reference} {clouds.doubt(source)}")


def _check_local(value: Any, kind: str, place: Place) -> None:
    """Note what only a local program has, or only a service."""
    runs = provider_of(kind).runs
    of_services = ("base_url", "headers", "proxy", "ca_file", "client_cert", "auth", "provider", *FIELDS)
    for name in of_services if runs else LOCAL_FIELDS:
        if name in value and "format" in value:
            why = "a local program has none; set its environment in env" if runs else f"only for format {LOCAL}"
            place.at(name).error(why, key=True)
    quirks = value.get("quirks")
    if runs and isinstance(quirks, list) and "completions" in quirks:
        place.at("quirks", quirks.index("completions")).error("a local program has no endpoints")
    if runs and value.get("keys") == "from-client":
        place.at("keys").error("a local program is logged in as its user; it does not take its clients' keys")


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


def usual_proxy(base_url: str, place: Place) -> tuple[proxies.Proxy | None, str]:
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


def _key_reference(value: Any, place: Place) -> str:
    is_fetched = isinstance(value, str) and secrets.is_fetched(value)
    return str(value) if is_fetched else secret_reference(value, place)


def _read_key(value: Any, place: Place) -> Key:
    if isinstance(value, str):
        return Key(_key_reference(value, place), secrets.display_name(value))
    given = members(value, place, {"key": _key_reference, "label": _read_label, "weight": integer_at_least(1)})
    if "key" not in value:
        raise Invalid('expected a secret string or {"key": ...}')
    reference = given.get("key", str(value["key"]))
    return Key(reference, given.get("label", secrets.display_name(reference)), given.get("weight", 1))


def _read_label(value: Any, place: Place) -> str:
    if not text(value, place).isprintable() or not value.strip():
        raise Invalid("label must be non-empty printable text")
    return str(value)


def _usual_keys(site: Site, place: Place) -> Keys:
    """Where keys come from when the file names none: a variable, a file of the upstream's name, a cloud's own ways."""
    environ, host = place.report.environ, site.host
    if provider_of(site.kind).embedded:
        return (), False, "not required"
    if provider_of(site.kind).runs:
        return (), False, "its own login"
    # A service's key must not go to another host that speaks its format.
    variables = host.variables_for(site.kind) if host is not None and site.is_own else ()
    for variable in variables:
        if not secrets.why_variable_unusable(variable, environ):
            return (Key(f"${variable}", f"${variable}"),), False, f"environment variable {variable}"
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    reference = f"file:{home}/ccproxy-lite/keys/{site.name}"
    if not secrets.why_invalid(reference, environ, place.report.read_text):
        return (Key(reference, reference),), False, reference[5:]
    fetched, trouble = _fetched(host, place) if site.is_own else ("", "")
    if fetched:
        return (
            (Key(fetched, fetched),),
            False,
            clouds.described(clouds.source_of(fetched, environ, place.report.read_text)),
        )
    # Local model servers want no key.
    if urlsplit(site.base_url).hostname in LOOPBACK:
        return (), False, "none (loopback service)"
    ways = [f"set {' or '.join(variables)}"] if variables else []
    ways.append(host.remedy if host is not None and host.remedy else 'add "keys"')
    why = f" ({trouble})" if trouble else ""
    place.error(f"no API key{why}: {', '.join(ways)}, or put one in {reference[5:]}")
    return (), False, ""


def _fetched(host: Host | None, place: Place) -> tuple[str, str]:
    """The reference to a cloud's own credentials, if there are signs of any; else why they cannot be used."""
    environ, read = place.report.environ, place.report.read_text
    reference = "" if host is None else GOOGLE if host.tokens else AWS if host.signs else ""
    if not reference:
        return "", ""
    try:
        source = clouds.source_of(reference, environ, read)
    except clouds.NoCredentialsError as error:
        return "", str(error)
    return (reference, "") if clouds.is_evident(source, environ, read) else ("", "")


def _shaped(field: Field) -> Reader[str]:
    """A text of a field's shape."""

    def read(value: Any, place: Place) -> str:
        if unknown_part(text(value, place)):
            raise Invalid(f"to be set: {field.what}")
        if not re.fullmatch(field.pattern, text(value, place)):
            raise Invalid(f"not {field.what}")
        return str(value)

    return read


# ---------------------------------------------------------------- the keys of the file, and who reads them

LOCAL_FIELDS: Mapping[str, Reader[Any]] = {
    "command": _read_command,
    "tools": list_of(text),
    "env": lambda value, place: tuple(dict_of(_read_variable)(value, place).items()),
    "max_parallel": integer_at_least(1),
}
UPSTREAM_FIELDS: Mapping[str, Reader[Any]] = {
    "format": one_of(*KINDS),
    "base_url": text,
    "provider": one_of(*NAMES),
    "auth": one_of(*AUTHS),
    **{name: _shaped(field) for name, field in FIELDS.items()},
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
