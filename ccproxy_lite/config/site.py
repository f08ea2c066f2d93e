"""The service of an upstream in a configuration file: which it is, and where. Pure.

What the file leaves out is filled in in this order, each step with what the ones before it have given:

    host        the known service that ``base_url`` names or leads to, or that ``provider`` stands for
    format      of the file; else the only one of the host
    fields      ``project``, ``location``, ``region``: of the file, the environment, the host's name
    base URL    of the file, tidied; else the host's, with the fields in it; else the format's
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ccproxy_lite.config import secrets
from ccproxy_lite.config.readers import Invalid, Place
from ccproxy_lite.providers import (
    DIRECT,
    EMBEDDED,
    ENDPOINTS,
    FIELDS,
    KINDS,
    Host,
    Provider,
    cloud,
    clouds,
    defaults,
    formats_of,
    host_at,
    host_for,
    host_named,
    host_names,
    provider_of,
)
from ccproxy_lite.providers.credentials import AWS
from ccproxy_lite.providers.hosts import unknown_part, url_for

_OTHER_WORDS = {
    ("region", FIELDS["location"].provider): "location",
    ("location", FIELDS["region"].provider): "region",
}
"""What a field of one kind of cloud is called at another."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Site(NamedTuple):
    """What is known of an upstream's service by now.

    ``fields`` has what its host wants to know, ``written`` the names that the file has, with whatever value.
    ``is_known`` says that its base URL is valid, so that what depends on it can be checked, ``is_own`` that it is the
    host's own, and ``is_given`` that it stands in the file.
    """

    name: str
    kind: str
    host: Host | None
    provider: str
    fields: Mapping[str, str]
    written: frozenset[str]
    base_url: str = ""
    is_known: bool = False
    is_own: bool = False
    is_given: bool = False

    def provider_at(self, base_url: str) -> Provider:
        """How the format is spoken at a base URL."""
        return cloud(self.provider, self.kind, base_url, self.fields.get("api_version", ""))


def read_site(name: str, value: Any, given: dict[str, Any], place: Place) -> Site:
    host = _host(given, place)
    if host is None and _is_name(given.get("base_url", "/")):  # what else is said would only follow from that
        return Site(name, str(given.get("format", EMBEDDED.name)), None, DIRECT.name, {}, frozenset(value))
    kind = _kind(value, given, host, place)
    provider = _provider_name(host, given, place)
    host = host or host_for(provider, kind)
    site = Site(name, kind, host, provider, {}, frozenset(value))
    if provider_of(kind).runs or provider_of(kind).embedded:
        return site._replace(is_known=True)
    _check_host(site, given, place)
    site = site._replace(fields=_fields(site, given, place))
    with place.at("base_url") if "base_url" in given else place:
        return _with_base_url(site, given, place)
    # With an invalid base URL the other fields are still checked, and the upstream is never used.
    return site


def _host(given: Mapping[str, Any], place: Place) -> Host | None:
    """The known service that is meant."""
    base_url = given.get("base_url", "")
    if "base_url" in given and _is_name(base_url):
        host = host_named(base_url)
        if host is None:
            near = get_close_matches(base_url, host_names(), 1, 0.7)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            place.at("base_url").error(f"neither a URL nor the name of a known service{hint}")
        return host
    return host_at(base_url) if base_url else None


def _is_name(base_url: str) -> bool:
    """Whether it is meant to be the name of a service."""
    return "/" not in base_url and ":" not in base_url


def _kind(value: Any, given: Mapping[str, Any], host: Host | None, place: Place) -> str:
    spoken = formats_of(given.get("provider", "")) or KINDS
    kinds = list(host.urls) if host is not None else list(spoken)
    if "format" not in value and len(kinds) > 1:
        place.error(f'missing "format" (one of {", ".join(kinds)})')
    # With an invalid format the other fields are still checked, and the upstream is never used.
    usual = kinds[0] if len(kinds) == 1 else EMBEDDED.name
    return str(given.get("format", usual))


def _provider_name(host: Host | None, given: Mapping[str, Any], place: Place) -> str:
    usual = host.provider if host is not None else DIRECT.name
    named = str(given.get("provider", usual))
    if host is not None and named not in (usual, DIRECT.name):
        place.at("provider").error(f'{host.name} is of provider "{usual}"')
        return usual
    return named


def _check_host(site: Site, given: Mapping[str, Any], place: Place) -> None:
    """Note a format that a host does not speak: of a cloud's that is certain."""
    host, kind = site.host, site.kind
    spoken = formats_of(site.provider)
    if host is None and spoken and "format" in given and kind not in spoken:
        place.at("format").error(f'provider "{site.provider}" does not speak {kind}; it speaks {", ".join(spoken)}')
    elif host is not None and kind not in host.urls:
        message = f"{host.name} does not speak {kind}; it speaks {', '.join(host.urls)}"
        if host.provider != DIRECT.name or host.signs or host_named(given.get("base_url", "")):
            place.at("format").error(message)
        else:
            place.report.notes.append(f"{place}: {message}, as far as is known")


def _fields(site: Site, given: Mapping[str, Any], place: Place) -> dict[str, str]:
    """What the host wants to know beside the format, from the file, the environment, or the host's own name."""
    host = site.host
    wanted = host.fields(site.kind) if host is not None else []
    found: dict[str, str] = {}
    for name, field in FIELDS.items():
        if name == "api_version" and site.kind == clouds.CLAUDES and name in given:
            place.at(name).error(f"has no effect with format {site.kind}", key=True)
        is_its_own = field.provider == site.provider or name in wanted or (name == "region" and host and host.signs)
        in_name = clouds.named_field(name, given.get("base_url", "")) if is_its_own else ""
        if name in given and not is_its_own:
            other = _OTHER_WORDS.get((name, site.provider), "")
            message = f'{site.provider} calls this "{other}"' if other else f'only for provider "{field.provider}"'
            place.at(name).error(message, key=True)
        elif name in given:
            found[name] = given[name]
            if in_name not in ("", given[name], "global"):
                place.at(name).error(f"the host of base_url is in {in_name}")
        elif in_name:
            found[name] = in_name
        elif is_its_own and not (name == "project" and _is_express(given, place)):
            found[name] = _found_around(name, site, given, place)
    return {name: value for name, value in found.items() if value}


def _found_around(name: str, site: Site, given: Mapping[str, Any], place: Place) -> str:
    """A field from the environment or a profile; one that would change the address is a mistake."""
    profiles = [one.removeprefix(AWS) for one in _references(given) if one.startswith(AWS) and one != AWS]
    environ = {**place.report.environ, **({"AWS_PROFILE": profiles[0]} if profiles else {})}
    value = clouds.usual_field(name, site.kind, environ, place.report.read_text)
    if value and not re.fullmatch(FIELDS[name].pattern, value):
        place.error(f'{name} "{value}", which the environment names, is not {FIELDS[name].what}')
        return ""
    return value


def _references(given: Mapping[str, Any]) -> list[str]:
    return [key.reference for key in given["keys"][0]] if given.get("keys") else []


def _is_express(given: Mapping[str, Any], place: Place) -> bool:
    """Whether API keys are given, which then count more than a project that only the environment names."""
    found = [secrets.peek(one, place.report.environ, place.report.read_text) for one in _references(given)]
    return bool(found) and all(clouds.is_api_key(one) for one in found)


def _with_base_url(site: Site, given: Mapping[str, Any], place: Place) -> Site:
    """Raises Invalid for a base URL that cannot be used."""
    url = given.get("base_url", "")
    if url and not _is_name(url):
        checked_url(url, given.get("allow_http", False))
        base_url = _with_usual_path(_without_endpoint(url, site), site)
        return site._replace(base_url=base_url, is_known=True, is_own=host_at(base_url) is not None, is_given=True)
    if site.host is None or site.kind not in site.host.urls:
        base_url = defaults(site.kind).base_url
        return site._replace(base_url=base_url, host=site.host or host_at(base_url), is_known=not url, is_own=True)
    if not site.host.usable(site.kind):
        raise Invalid(f'{site.host.name} needs its address: "base_url": "{site.host.address(site.kind)}"')
    base_url = url_for(site.host, site.kind, site.fields)
    base_url = site.provider_at(base_url).tidy(base_url, site.kind)
    return site._replace(base_url=base_url, is_known=True, is_own=True)


def _with_usual_path(base_url: str, site: Site) -> str:
    """The base URL of a known host with the path of the format, if it has none at all."""
    host, parts = host_at(base_url), urlsplit(base_url)
    if host is None or parts.path or site.kind not in host.urls or site.fields.get("api_version"):
        return base_url
    path = urlsplit(url_for(host, site.kind, site.fields)).path
    return base_url if unknown_part(path) or "//" in path else base_url + path.rstrip("/")


def _without_endpoint(url: str, site: Site) -> str:
    if unknown_part(url):
        raise Invalid(f"{unknown_part(url)} stands for a name of yours; replace it")
    for ending, instead in ENDPOINTS.items():
        if urlsplit(url).path.rstrip("/").endswith(ending):
            raise Invalid(f"must not include the endpoint path; use {url.rstrip('/').removesuffix(ending)}{instead}")
    try:
        return site.provider_at(url).tidy(url, site.kind)
    except ValueError as error:
        raise Invalid(str(error)) from None


def checked_url(url: str, allow_http: bool) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  a bad port shows only when it is read
    except ValueError as error:
        raise Invalid(f"not a URL: {error}") from None
    # Only this machine may be reached without TLS unless the file says so.
    is_local = parts.hostname in LOOPBACK or (parts.hostname or "").startswith("127.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid("must start with https:// (or http:// for this machine)")
    if "@" in parts.netloc or parts.query or parts.fragment or "\\" in url or not url.isprintable() or " " in url:
        raise Invalid("must contain only scheme, host, port and path")
    if parts.scheme == "http" and not is_local and not allow_http:
        raise Invalid('keys and conversations would be sent unencrypted; use https://, or set "allow_http": true')
    return url
