"""The configuration: frozen values, and the only place that knows their defaults. Pure.

``file.read`` makes one from a file, ``from_environment`` from the usual key variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from ccproxy_lite.config import secrets
from ccproxy_lite.errors import ConfigError
from ccproxy_lite.formats.neutral.thinking import BUDGETS
from ccproxy_lite.net import proxies
from ccproxy_lite.net.proxies import Proxy
from ccproxy_lite.providers import (
    DIRECT,
    EMBEDDED,
    FAMILIES,
    KINDS,
    VENDORS,
    Families,
    Provider,
    defaults,
    provider_of,
    quirks_at,
)

DEFAULT_LISTEN = "127.0.0.1:8317"


@dataclass(frozen=True, slots=True)
class Key:
    """A key: the reference to its secret (see ``secrets``), which identifies it; a name, and its share of requests."""

    reference: str
    label: str = field(compare=False)
    weight: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Upstream:
    """One service. ``source`` says where its keys come from; without keys, none is sent.

    ``format`` is the word of the file: a format's name, or that of a provider which speaks them all. ``provider`` says
    where and how its requests are sent. With ``prompt_cache`` ``off`` nothing is added for its cache. ``command``,
    ``tools``, ``env`` and ``max_parallel`` are of a local program.
    """

    name: str
    format: str
    base_url: str
    keys: tuple[Key, ...] = ()
    from_client: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    models: tuple[str, ...] = ()
    quirks: frozenset[str] = frozenset()
    auth: tuple[str, ...] = ()
    project: str = ""
    location: str = ""
    region: str = ""
    api_version: str = ""
    lists: bool = True
    ca_file: str = ""
    client_cert: str = ""
    proxy: Proxy | None = None
    proxy_source: str = ""
    source: str = ""
    command: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    max_parallel: int = 0
    prompt_cache: str = "auto"
    provider: Provider = field(default=DIRECT, compare=False, repr=False)

    def speaks(self, form: str) -> bool:
        """Whether a client of that format is answered without a conversion."""
        return self.provider.embedded or self.provider.speaks(self.format, form) == form


CONTENTS = ("image", "file", "audio", "tools", "web_search", "thinking")
"""What a request may have, as conditions call it; images in tool results count."""
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The efforts that may stand behind a model's name."""


class Condition(NamedTuple):
    """Which requests a target is for: those that fit all that is given.

    ``contents``: it has any of these. ``tokens_over`` and ``tokens_under`` bound the estimate of its input tokens.
    ``headers``: name in lower case and glob. ``system``: a glob for the beginning of its instructions.
    """

    contents: tuple[str, ...] = ()
    tokens_over: int | None = None
    tokens_under: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    system: str | None = None


class ModelTarget(NamedTuple):
    """Where a model name leads: ``upstream/model``.

    ``overlay`` is laid over the upstream's body, as JSON text. ``name`` and the numbers are what clients are told.
    """

    to: str
    when: Condition | None = None
    overlay: str = ""
    name: str = ""
    context_tokens: int | None = None
    output_tokens: int | None = None


class Mount(NamedTuple):
    """A client's own service behind the proxy: the path prefix (or, without a slash at its end, the exact path).

    ``service`` is where it leads, and its keys, of which the first that is set is sent. ``auth`` says how.
    """

    path: str
    service: Upstream
    auth: str = "bearer"
    loopback_only: bool = True
    strip: bool = False


class Timeouts(NamedTuple):
    """Seconds, all absolute but the idle ones."""

    connect_s: float = 10
    first_byte_s: float = 600
    idle_s: float = 300
    client_head_s: float = 10
    client_body_s: float = 30
    client_idle_s: float = 75
    client_write_s: float = 60
    drain_s: float = 30


class Limits(NamedTuple):
    """Bytes, and a number of connections."""

    max_connections: int = 512
    max_body_bytes: int = 67_108_864
    max_event_bytes: int = 33_554_432
    max_converting_bytes: int = 268_435_456


class Log(NamedTuple):
    """The least level, ``auto``, ``text`` or ``json``, and a file in place of standard error."""

    level: str = "info"
    format: str = "auto"
    file: str = ""


class StoreSettings(NamedTuple):
    """How much of responses is kept in memory, and how long after their last use; 0 MB for none."""

    max_mb: int = 32
    ttl_s: float = 3600


class CaptureSettings(NamedTuple):
    """The folder of captures, empty for none, and how many files and megabytes are kept there."""

    dir: str = ""
    max_files: int = 200
    max_mb: int = 256


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a file or the environment can say."""

    upstreams: tuple[Upstream, ...]
    listen: str = DEFAULT_LISTEN
    client_keys: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    models: tuple[tuple[str, tuple[ModelTarget, ...]], ...] = ()
    strict: bool = False
    strategy: str = "round-robin"
    sticky_sessions: bool = True
    retries: int = 2
    max_wait_s: float = 20
    keepalive_s: float = 10
    thinking_budgets: Mapping[str, int] = field(default_factory=lambda: MappingProxyType(BUDGETS))
    default_max_tokens: int = 8192
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    log: Log = field(default_factory=Log)
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    responses_store: StoreSettings = field(default_factory=StoreSettings)
    mounts: tuple[Mount, ...] = ()
    notes: tuple[str, ...] = ()
    families: Families = FAMILIES
    vendors: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: VENDORS)

    @property
    def is_embedded(self) -> bool:
        """Whether nothing answers but what this program serves itself."""
        return [upstream.provider.embedded for upstream in self.upstreams] == [True]

    def upstream(self, name: str) -> Upstream | None:
        return next((upstream for upstream in self.upstreams if upstream.name == name), None)


# ---------------------------------------------------------------- without a file

Source = Literal["environment", "nothing"]


def from_environment(environ: Mapping[str, str]) -> tuple[Config, Source]:
    """The configuration of the usual key variables; with none of them, the embedded upstream.

    Raises ConfigError for a proxy variable that cannot be used.
    """
    upstreams, notes = [], []
    for kind in KINDS:
        base_url = defaults(kind).base_url
        for variable in defaults(kind).key_variables:
            trouble = secrets.why_variable_unusable(variable, environ)
            if trouble and environ.get(variable) and trouble not in notes:
                notes.append(trouble)
            if not trouble:
                key = Key(f"${variable}", f"${variable}")
                source = f"environment variable {variable}"
                proxy, named = _usual_proxy(base_url, environ)
                upstreams.append(
                    Upstream(
                        kind, kind, base_url, (key,),
                        quirks=quirks_at(base_url), proxy=proxy, proxy_source=named, source=source,
                        provider=provider_of(kind),
                    )
                )  # fmt: skip
                break
    if upstreams:
        return Config(tuple(upstreams), notes=tuple(notes)), "environment"
    embedded = Upstream(EMBEDDED.name, EMBEDDED.name, "", source="not required", provider=EMBEDDED)
    return Config((embedded,), notes=tuple(notes)), "nothing"


def _usual_proxy(url: str, environ: Mapping[str, str]) -> tuple[Proxy | None, str]:
    try:
        return proxies.usual(url, environ)
    except ValueError as error:
        raise ConfigError([str(error)]) from None
