"""Which upstreams may serve a model name, in which order. Pure.

The first rule that applies decides:

1. the request's path names an upstream (``/api/provider/NAME/...``), or a vendor: then its first upstream, of two
   formats the one of the endpoint
2. the model is ``UPSTREAM/MODEL``
3. ``models`` in the configuration: an exact name before a glob, globs in the order of the file. Of an entry's targets
   those are left out whose condition the request does not fit; an entry without any left is passed over
4. an upstream's ``models`` in the configuration lists it
5. the name's prefix tells the vendor; of its upstreams one of the client's format, for no conversion beats any
6. the first upstream without a list, which may support it

A name may have an effort behind it: ``model(high)`` always, ``model:high`` and ``model-high`` only where no model is
known by the longer name and one is by the shorter. Claude Code's ``[1m]`` is no part of a name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from ccproxy_lite.config.model import EFFORTS, Condition, Config, ModelTarget, Upstream
from ccproxy_lite.config.readers import did_you_mean
from ccproxy_lite.errors import ClientError
from ccproxy_lite.routing.conditions import condition_text

_EFFORT = re.compile(r"(.+)\((\w+)\)")
_SUFFIX = re.compile(rf"[)\]]\Z|[:-](?:{'|'.join(EFFORTS)})\Z")
"""How names end that may have something behind them."""
_ENDED = re.compile(rf"(.+)(?:[:-]({'|'.join(EFFORTS)})|\((\w+)\))")
_WINDOW = "[1m]"
"""What Claude Code writes behind a name to say how large a window it counts on."""
_MOST_NAMES = 20
"""So many models are named in an error."""


Lists = Mapping[str, Collection[str]]
"""By upstream, the models that it is known to have."""


class Facts(Protocol):
    """What is known beside a model's name.

    :ivar lists: the models of upstreams that list them by themselves, as far as they have been asked
    :ivar repeats: whether a target that is there several times is told as often; one request tries it once
    """

    @property
    def repeats(self) -> bool: ...

    @property
    def lists(self) -> Lists: ...

    def fit(self, condition: Condition, effort: str) -> bool:
        """Whether the request fits a target's condition.

        :param effort: the one behind the model's name
        """


class Route(NamedTuple):
    """One target: an upstream, and what the model is called there.

    ``effort`` stands behind the model's name; ``overlay`` is what the target sets in the upstream's body, as JSON text.
    ``rule`` says which rule has chosen it, and ``condition`` for which requests; ``unmet`` has the conditions of
    targets in ``models`` that were passed over before.
    """

    upstream: Upstream
    model: str
    effort: str = ""
    overlay: str = ""
    rule: str = ""
    condition: Condition | None = None
    unmet: str = ""

    def __str__(self) -> str:
        return f"{self.upstream.name}/{self.model}"


class Listed(NamedTuple):
    """The facts where there is no request: what is asked is where one may go, or where it goes if no condition fits."""

    lists: Lists
    fits: bool = True
    repeats: bool = False

    def fit(self, condition: Condition, effort: str) -> bool:
        return self.fits


NO_REQUEST = Listed({})


class Named(NamedTuple):
    """A model's name without what stands behind it."""

    model: str
    effort: str = ""


def family(config: Config, model: str) -> tuple[str, ...]:
    """The formats that a model's vendor speaks, the best first."""
    return next((formats for pattern, formats in config.families if pattern.match(model)), ())


def resolve(
    config: Config, model: str, client_format: str, pinned_upstream: str = "", facts: Facts = NO_REQUEST
) -> list[Route]:
    """The targets of a model name in failover order. Raises ClientError (404; 400 for an effort that does not exist).

    :param pinned_upstream: the upstream that the request's path names
    """
    asked, effort = named(config, model, facts) if _SUFFIX.search(model) else Named(model)
    # rule 1
    if pinned_upstream:
        upstream = pinned(config, pinned_upstream, client_format)
        name_there = asked.removeprefix(f"{pinned_upstream}/")
        return [Route(upstream, name_there, effort, rule="the path names the upstream")]
    # rule 2
    name, slash, name_there = asked.partition("/")
    of_that_name = config.upstream(name) if slash and name_there else None
    if of_that_name is not None:
        return [Route(of_that_name, name_there, effort, rule="the model names the upstream")]
    # rule 3
    passed_over: list[str] = []
    for pattern, targets in _entries(config, asked):
        routes: dict[tuple[str, ...], Route] = {}
        for number, target in enumerate(targets):
            if target.when is None or facts.fit(target.when, effort):
                route = _route_to(config, target, Named(asked, effort), f'models "{pattern}", target {number + 1}')
                place = (str(number),) if facts.repeats else (route.upstream.name, *route[1:4])
                routes.setdefault(place, route)
        if routes:
            return list(routes.values())
        passed_over.append(pattern)
    unmet = "; ".join(dict.fromkeys(_conditions(config, asked))) if passed_over else ""
    # rule 4
    listed = [upstream for upstream in config.upstreams if asked in upstream.models]
    if listed:
        return [
            Route(_preferred(listed, client_format), asked, effort, rule="the upstream lists the model", unmet=unmet)
        ]
    # rule 5
    for wanted in _by_family(config, asked, client_format):
        return [Route(wanted, asked, effort, rule="the name matches a vendor's models", unmet=unmet)]
    # rule 6
    open_ended = [upstream for upstream in config.upstreams if not upstream.models]
    if open_ended:
        rule = 'the first upstream without "models" in the configuration'
        return [Route(open_ended[0], asked, effort, rule=rule, unmet=unmet)]
    if passed_over:
        message = f'no target of "{passed_over[0]}" takes this request (they are for: {unmet})'
        raise ClientError(404, message, param="model")
    raise ClientError(404, f'unknown model "{model}"; {suggestion(asked, model_names(config))}', param="model")


def _conditions(config: Config, model: str) -> Iterator[str]:
    targets = (target for _, targets in _entries(config, model) for target in targets)
    return (condition_text(target.when) for target in targets if target.when is not None)


def _lists(config: Config, facts: Facts) -> Lists:
    """The models that each upstream is known to have."""
    told = facts.lists
    return {upstream.name: upstream.models or told.get(upstream.name, ()) for upstream in config.upstreams}


def named(config: Config, model: str, facts: Facts = NO_REQUEST) -> Named:
    """A model's name as it was asked for, without an effort behind it. Raises ClientError (400).

    >>> named(Config((), models=(("fast", ()),)), "fast-high"), named(Config(()), "m(low)[1m]")
    (Named(model='fast', effort='high'), Named(model='m', effort='low'))
    """
    lists = _lists(config, facts)
    if _is_known(config, model, lists):
        return Named(model)
    asked, model = model, model.removesuffix(_WINDOW)
    if model.rpartition("/")[2] == "":  # nothing in front of it
        return Named(asked)
    if _is_known(config, model, lists):
        return Named(model)
    written = _split(model)
    if written.effort:
        return written
    shorter, effort = _cut(model)
    is_known = _is_known(config, shorter, lists)
    if effort in EFFORTS:
        return Named(shorter, effort) if is_known else written
    hint = did_you_mean(effort.lower(), EFFORTS) if effort else ""
    # A glob takes any name: there, only what looks like an effort is meant as one.
    if effort and (is_known or (hint and any(_entries(config, shorter)))):
        message = f'unknown effort "{effort}" behind "{shorter}"{hint}; known: {", ".join(EFFORTS)}'
        raise ClientError(400, message, param="model")
    return written


def lists_wanted(config: Config, model: str, pinned_upstream: str = "", client_format: str = "") -> list[Upstream]:
    """The upstreams whose own lists tell whether an effort stands behind a name; none where that is plain.

    Raises ClientError (404) for a pin that is not there.

    >>> config = Config((Upstream("up", "echo", ""),), models=(("fast", ()), ("m-low", ())))
    >>> [bool(lists_wanted(config, name)) for name in ("m", "m-low", "fast-low", "m(low)", "other-low", "other(lwo)")]
    [False, False, False, False, True, True]
    """
    name = model.removesuffix(_WINDOW)
    if not _SUFFIX.search(name) or _split(model).effort:
        return []
    lists, (shorter, effort) = _lists(config, NO_REQUEST), _cut(name)
    if not effort or any(_is_known(config, one, lists) for one in (model, name, shorter)):
        return []
    if pinned_upstream:
        return [pinned(config, pinned_upstream, client_format)]
    named_upstream = config.upstream(name.partition("/")[0]) if "/" in name else None
    return list(config.upstreams) if named_upstream is None else [named_upstream]


def _cut(model: str) -> Named:
    """A name, and what may be an effort behind it: a word in parentheses, or an effort behind a dash or a colon.

    >>> _cut("m-high"), _cut("a-b[1m](hgih)"), _cut("m-b")
    (Named(model='m', effort='high'), Named(model='a-b', effort='hgih'), Named(model='m-b', effort=''))
    """
    found = _ENDED.fullmatch(model)
    return Named(found[1].removesuffix(_WINDOW), found[2] or found[3]) if found is not None else Named(model)


def _split(model: str) -> Named:
    """A name, and the effort that stands in parentheses behind it; a window in between, before or behind is none of it.

    >>> _split("m(low)"), _split("m[1m](low)[1m]"), _split("m(other)")
    (Named(model='m', effort='low'), Named(model='m', effort='low'), Named(model='m(other)', effort=''))
    """
    model = model.removesuffix(_WINDOW)
    written = _EFFORT.fullmatch(model)
    name = written[1].removesuffix(_WINDOW) if written is not None and written[2] in EFFORTS else ""
    return Named(name, written[2]) if written is not None and name.rpartition("/")[2] else Named(model)


def _is_known(config: Config, model: str, lists: Lists) -> bool:
    """Whether a model is known by exactly this name; that a glob matches it says nothing."""
    upstream, _, name_there = model.partition("/")
    is_listed = any(model in names for names in lists.values()) or name_there in lists.get(upstream, ())
    return is_listed or any(name == model for name, _ in config.models)


def suggestion(model: str, names: Collection[str]) -> str:
    """What to say to who has asked for an unknown model: the names that are like it, else some that exist."""
    import difflib  # only for a mistake

    close = difflib.get_close_matches(model, list(names), 3, 0.5)
    if close:
        *others, last = close
        return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
    if not names:
        return "no models are listed"
    shown = [*names][:_MOST_NAMES]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"available: {', '.join(shown)}{more}"


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


def _entries(config: Config, model: str) -> Iterator[tuple[str, tuple[ModelTarget, ...]]]:
    """The entries of ``models`` that match a name: the one of exactly this name, then globs."""
    yield from (entry for entry in config.models if entry[0] == model)
    yield from (entry for entry in config.models if entry[0] != model and fnmatchcase(model, entry[0]))


def targets_of(config: Config, model: str) -> tuple[ModelTarget, ...]:
    """The targets of the entry of ``models`` that matches a name first; none if no entry does."""
    asked = named(config, model).model
    name, slash, name_there = asked.partition("/")
    if slash and name_there and config.upstream(name) is not None:
        return ()
    return next((targets for _, targets in _entries(config, asked)), ())


def targets_for(config: Config, model: str) -> tuple[ModelTarget, ...]:
    """Targets that lead where a model's name does, whatever name is asked for. Raises ClientError (404)."""
    asked, effort = named(config, model)
    targets = targets_of(config, model)
    if not targets:
        return tuple(ModelTarget(_with_effort(str(route), route.effort)) for route in resolve(config, model, ""))
    return tuple(target._replace(to=_with_effort(target.to.replace("*", asked), effort)) for target in targets)


def _with_effort(target: str, effort: str) -> str:
    """A target with an effort behind it, in place of its own; with its own if there is none."""
    return f"{_split(target).model}({effort})" if effort else target


def route_to(config: Config, target: ModelTarget, model: str) -> Route:
    """Where a target of a model name leads, as far as that depends on no request."""
    return _route_to(config, target, Named(model), "")


def _route_to(config: Config, target: ModelTarget, asked: Named, rule: str) -> Route:
    name, _, wanted = target.to.partition("/")
    upstream = config.upstream(name)
    assert upstream is not None, "the configuration was checked"
    wanted, effort = _split(wanted)
    # What the client has written counts more than what the file says.
    wanted = wanted.replace("*", asked.model)
    return Route(upstream, wanted, asked.effort or effort, target.overlay, rule, target.when)


def _preferred(upstreams: list[Upstream], client_format: str) -> Upstream:
    """The one that needs no conversion, else the first."""
    return next((upstream for upstream in upstreams if upstream.speaks(client_format)), upstreams[0])


def _by_family(config: Config, model: str, client_format: str) -> list[Upstream]:
    formats = family(config, model)
    candidates = [u for kind in formats for u in config.upstreams if u.format == kind and not u.models]
    same = [upstream for upstream in candidates if upstream.format == client_format]
    return same or candidates


def is_glob(name: str) -> bool:
    """Whether the name of an entry stands for many."""
    return any(char in name for char in "*?[")


def model_names(config: Config) -> list[str]:
    """The model names in the configuration, aliases first."""
    names = [name for name, _ in config.models if not is_glob(name)]
    names += [model for upstream in config.upstreams for model in upstream.models]
    return list(dict.fromkeys(names))
