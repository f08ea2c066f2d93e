"""What ``run`` tells before and after a command: whether its model is there, how large it is, and what has failed."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, SubprocessError

import anyio

from ccproxy_lite.errors import ClientError, ConfigError, printable
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.jsontext import loads
from ccproxy_lite.log import log
from ccproxy_lite.relay.catalog import Catalog
from ccproxy_lite.routing.routes import Route, family, suggestion, targets_of
from ccproxy_lite.server import clients
from ccproxy_lite.server.clients import Model
from ccproxy_lite.server.metrics import Metrics

_PATIENCE_S = 5.0
"""How long a list of models, or a program that prints one, may keep the command waiting."""
_SHOWN = 3
_MAX_CHARS = 300
_DISCONNECTED = 499


async def check_listed(catalog: Catalog, model: str) -> None:
    """Look whether the services have the model that was asked for. Raises ConfigError if none of them lists it."""
    missing = []
    for route in catalog.routes(model):
        if route.upstream.from_client or route.upstream.provider.runs:
            return
        with anyio.move_on_after(_PATIENCE_S):
            await catalog.refresh([route.upstream])
        names = catalog.listed_by(route.upstream)
        if not names:
            print(f"ccproxy-lite: {route.upstream.name} lists no models; {route.model} is not checked", file=sys.stderr)
            return
        if _is_among(route.model, names):
            return
        missing.append(f"{route.upstream.name} does not list {route.model}; {suggestion(route.model, names)}")
    remedy = 'name it in "models" of its upstream to use it all the same'
    raise ConfigError([f"--model {model}: {'; '.join(missing)} ({remedy})"])


_VARIANT = re.compile(r"(?::[\w.-]+|@[\w.-]+|-latest|-20\d{6}|-20\d\d-\d\d-\d\d)\Z")
"""What stands behind a name for one state or way of the same model."""


def _is_among(model: str, names: Sequence[str]) -> bool:
    """Whether a list has a model, in whatever variant.

    >>> _is_among("qwen3", ["qwen3:latest"]), _is_among("claude-opus-4-5", ["claude-opus-4-5-20251101"])
    (True, True)
    >>> _is_among("gpt-4", ["gpt-4.1"])
    False
    """
    return _VARIANT.sub("", model) in {_VARIANT.sub("", name) for name in names}


async def tell_model(catalog: Catalog, words: Sequence[str], model: str, *, asks: bool = True) -> Model:
    """What a command must know of the model that will answer it; nothing if it is unknown, or the client is.

    :param asks: whether services may be asked for their lists
    """
    client = clients.CLIENTS.get(clients.program_name(words[0]))
    if client is None or not client.speaks:
        return Model()
    found: list[tuple[Route, ModelInfo]] = []
    for name in [model] if model else asked_models(words):
        try:
            route = catalog.routes(name)[0]
        except ClientError:
            continue
        if asks and not catalog.described(name).context_tokens:
            with anyio.move_on_after(_PATIENCE_S):
                await catalog.refresh([route.upstream])
        found.append((route, catalog.described(name)))
    windows = [info.context_tokens for _, info in found if info.context_tokens]
    outputs = [info.output_tokens for _, info in found if info.output_tokens]
    converted = any(not route.upstream.speaks(client.speaks) for route, _ in found)
    own = all(client.speaks in family(catalog.config, route.model) for route, _ in found)
    window = min(windows, default=0)
    # Under a name that it does not know, the client takes any window.
    if client.of_models and not model and 0 < window < clients.LEAST_WINDOW:
        model = _other_name(catalog, found)
    return Model(model, window, min(outputs, default=0), converted, converted or not own)


def _other_name(catalog: Catalog, found: Sequence[tuple[Route, ModelInfo]]) -> str:
    """The one target of all names, as a name of its own; none where it is one of several, or sets anything."""
    targets = {target for _, info in found for target in targets_of(catalog.config, info.id)}
    is_plain = len(targets) == 1 and all(target.when is None and not target.overlay for target in targets)
    return str(found[0][0]) if is_plain and not found[0][0].effort else ""


def asked_models(words: Sequence[str]) -> list[str]:
    """The models that a command will ask for, by its words, its variable, its settings, or by itself."""
    client, text = clients.CLIENTS.get(clients.program_name(words[0])), ""
    if client is not None and client.settings[2]:
        variable, usual, name = client.settings
        folder = Path(os.environ.get(variable) or Path(os.environ.get("HOME") or "/", usual))
        with suppress(OSError, ValueError):
            text = (folder / name).read_text()
    return clients.asked_models(words, os.environ, text)


async def window_flags(words: Sequence[str], told: Model, folder: Path | None) -> list[str]:
    """The flags that tell the command of the window; a catalogue that one of them names is written.

    A smaller window in the user's own settings still counts beside a catalogue.
    """
    program = clients.program_name(words[0])
    if folder is None or not clients.takes_catalogue(program, told):
        return clients.window_flags(program, told)
    try:
        with anyio.fail_after(_PATIENCE_S):  # ``--bundled``: it asks no service, with whatever login
            printed = await anyio.run_process([words[0], "debug", "models", "--bundled"], stdin=DEVNULL, stderr=DEVNULL)
        slugs = list(dict.fromkeys(filter(None, [*asked_models(words), told.asked])))
        text = clients.catalogue(slugs, told, loads(printed.stdout))
    except (OSError, SubprocessError, ValueError, KeyError, IndexError, TypeError, TimeoutError) as error:
        log.warning("no catalogue of models for %s: %s", program, type(error).__name__)
        return clients.window_flags(program, told)
    path = folder / "models.json"
    path.write_text(text)
    return ["-c", f'model_catalog_json="{path}"', *(["-c", f'model="{told.asked}"'] if told.asked else [])]


def failures(metrics: Metrics, log_file: str) -> Iterator[str]:
    """What has failed of a command's requests, in a few lines; nothing if nothing has."""
    records = [record for _, record in metrics.errors if record.status != _DISCONNECTED]
    if not records:
        return
    total = sum(tally.requests.total() for tally in metrics.tallies.values())
    failed = sum(tally.errors for tally in metrics.tallies.values())
    yield f"{max(failed, len(records)):,} of {max(total, len(records)):,} requests failed; the log is {log_file}"
    kinds = Counter((record.status, record.route or record.model, record.error[:_MAX_CHARS]) for record in records)
    for (status, where, message), count in kinds.most_common(_SHOWN):
        times = f"{count} times " if count > 1 else ""
        yield f"  {times}{status} {where}: {printable(message)}"
