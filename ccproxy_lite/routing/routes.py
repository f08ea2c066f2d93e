"""Which upstreams may serve a model name, in which order. Pure.

The first rule that applies decides:

1. the request's path names an upstream (``/api/provider/NAME/...``), or a vendor: then its first upstream, of two
   formats the one of the endpoint
2. the model is ``UPSTREAM/MODEL``
3. ``models`` in the configuration: an exact name before a glob, globs in the order of the file
4. an upstream lists the model
5. the name's prefix tells the vendor; of its upstreams one of the client's format, for no conversion beats any
6. the first upstream without a list, which may support it
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from ccproxy_lite.config.model import Config, Upstream
from ccproxy_lite.errors import ClientError


class Route(NamedTuple):
    """One target: an upstream, and what the model is called there."""

    upstream: Upstream
    model: str

    def __str__(self) -> str:
        return f"{self.upstream.name}/{self.model}"


def family(config: Config, model: str) -> tuple[str, ...]:
    """The formats that a model's vendor speaks, the best first."""
    return next((formats for pattern, formats in config.families if pattern.match(model)), ())


def resolve(config: Config, model: str, client_format: str, pinned_upstream: str = "") -> list[Route]:
    """The targets of a model name in failover order. Raises ClientError (404).

    :param pinned: the upstream that the request's path names
    """
    # rule 1
    if pinned_upstream:
        upstream = pinned(config, pinned_upstream, client_format)
        return [Route(upstream, model.removeprefix(f"{pinned_upstream}/"))]
    # rule 2
    name, slash, name_there = model.partition("/")
    named = config.upstream(name) if slash and name_there else None
    if named is not None:
        return [Route(named, name_there)]
    # rule 3
    targets = _configured_targets(config, model)
    if targets:
        return list(dict.fromkeys(_route_to(config, target, model) for target in targets))
    # rule 4
    listed = [upstream for upstream in config.upstreams if model in upstream.models]
    if listed:
        return [Route(_preferred(listed, client_format), model)]
    # rule 5
    for wanted in _by_family(config, model, client_format):
        return [Route(wanted, model)]
    # rule 6
    open_ended = [upstream for upstream in config.upstreams if not upstream.models]
    if open_ended:
        return [Route(open_ended[0], model)]
    raise ClientError(404, f'unknown model "{model}"; available: {", ".join(model_names(config))}')


def pinned(config: Config, name: str, client_format: str) -> Upstream:
    """The upstream that a path names: by its own name, or as the first of a vendor's. Raises ClientError (404)."""
    upstream = config.upstream(name)
    if upstream is not None:
        return upstream
    theirs = _speaking(config, config.vendors.get(name, ()))
    if not theirs:
        names = ", ".join(upstream.name for upstream in config.upstreams)
        what = f"no upstream speaks {name}'s format" if name in config.vendors else f'unknown upstream "{name}"'
        raise ClientError(404, f"{what}; known: {names}")
    return _preferred(theirs, client_format)


def owner(config: Config, form: str, only: bool) -> Upstream | None:
    """The first upstream to whose API a path belongs: of the vendor of a format, or of that format alone."""
    formats = next((formats for formats in config.vendors.values() if form in formats and not only), (form,))
    return next(iter(_speaking(config, formats)), None)


def _speaking(config: Config, formats: tuple[str, ...]) -> list[Upstream]:
    return [upstream for upstream in config.upstreams if any(upstream.speaks(form) for form in formats)]


def _configured_targets(config: Config, model: str) -> tuple[str, ...]:
    for name, targets in config.models:
        if name == model:
            return targets
    for name, targets in config.models:
        if fnmatchcase(model, name):
            return targets
    return ()


def _route_to(config: Config, target: str, model: str) -> Route:
    name, _, wanted = target.partition("/")
    upstream = config.upstream(name)
    assert upstream is not None, "the configuration was checked"
    return Route(upstream, wanted.replace("*", model))


def _preferred(upstreams: list[Upstream], client_format: str) -> Upstream:
    """The one that needs no conversion, else the first."""
    return next((upstream for upstream in upstreams if upstream.speaks(client_format)), upstreams[0])


def _by_family(config: Config, model: str, client_format: str) -> list[Upstream]:
    formats = family(config, model)
    candidates = [u for kind in formats for u in config.upstreams if u.format == kind and not u.models]
    same = [upstream for upstream in candidates if upstream.format == client_format]
    return same or candidates


def model_names(config: Config) -> list[str]:
    """The model names in the configuration, aliases first."""
    names = [name for name, _ in config.models if not any(char in name for char in "*?[")]
    names += [model for upstream in config.upstreams for model in upstream.models]
    return list(dict.fromkeys(names))
