"""The model behind a command of ``run``, or a client of ``env``: whether it is there, and how much it takes and gives.

Which model that is, the client decides: the user names one, or its program has its usual ones (``asked_models``). Of a
model that the client does not know it is told the numbers, from the configuration, else the service's own list, else a
table. Several models may be asked for, and then the smallest numbers hold for all of them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, SubprocessError

import anyio

from ccproxy_lite.config.model import EFFORTS
from ccproxy_lite.errors import ClientError, ConfigError
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.jsontext import loads
from ccproxy_lite.log import log
from ccproxy_lite.relay.catalog import Catalog
from ccproxy_lite.routing.routes import Route, family, suggestion, targets_of
from ccproxy_lite.server import clients
from ccproxy_lite.server.clients import Model

_PATIENCE_S = 5.0
"""How long a list of models, or a program that prints one, may keep the command waiting."""


async def check_listed(catalog: Catalog, model: str) -> None:
    """Look whether the services have the model that was asked for. Raises ConfigError if none of them lists it."""
    missing, names_there = [], ""
    for route in catalog.routes(model):
        name = route.upstream.name
        if route.upstream.from_client or route.upstream.provider.runs:
            return
        with anyio.move_on_after(_PATIENCE_S):
            await catalog.refresh([route.upstream])
        names = catalog.listed_by(route.upstream)
        if not names:
            why = catalog.problems.get(name) or "it lists none"
            message = f'could not get the models of upstream "{name}": {why}; "{route.model}" is not checked'
            print(f"ccproxy-lite: {message}", file=sys.stderr)
            return
        if is_among(route.model, names):
            return
        missing.append(f'upstream "{name}" does not list "{route.model}"; {hint(route.model, names)}')
        names_there = names_there or name
    remedy = f'to use it anyway, add it to "models" of upstream "{names_there}"'
    raise ConfigError([f"--model {model}: {'; '.join(missing)} ({remedy})"])


def hint(model: str, names: Sequence[str]) -> str:
    """What may be meant; an effort behind a dash or a colon is one only where a list is at hand already.

    >>> hint("m-high", ["m"]), hint("m-hihg", ["m"])
    ('with an effort, write "m(high)"', 'available: m')
    """
    for separator in ":-":
        shorter, _, effort = model.rpartition(separator)
        if effort in EFFORTS and is_among(shorter, names):
            return f'with an effort, write "{shorter}({effort})"'
    return suggestion(model, names)


_VARIANT = re.compile(
    r"(?::latest|-latest|[-@]20\d{6}|-20\d\d-\d\d-\d\d|:(?:free|nitro|floor|online|thinking|extended|exacto))\Z"
)
"""What may stand behind a name for a state of the same model, or a way to run it."""


def is_among(model: str, names: Sequence[str]) -> bool:
    """Whether a list has a model, in whatever variant.

    >>> is_among("qwen3", ["qwen3:latest"]), is_among("claude-opus-4-5-20251101", ["claude-opus-4-5"])
    (True, True)
    >>> is_among("gpt-4", ["gpt-4.1"]), is_among("qwen3:70b", ["qwen3:8b"])
    (False, False)
    """
    latest = model.removesuffix("-latest").removesuffix(":latest")
    return model in names or _VARIANT.sub("", model) in names or latest in {_VARIANT.sub("", name) for name in names}


async def model_facts(
    catalog: Catalog, words: Sequence[str], model: str, told: Mapping[str, ModelInfo] | None = None
) -> Model:
    """What a command must know of the model that will answer it; nothing if it is unknown, or the client is.

    :param model: the one that all names lead to
    :param told: what is known of names before the configuration counts; else services are asked for their lists
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
        if told is None and _is_foreign(catalog, route, client.speaks) and not _is_configured(catalog, name):
            with anyio.move_on_after(_PATIENCE_S):
                await catalog.refresh([route.upstream])
        described = catalog.described(name)
        found.append((route, told[name].completed(described) if told and name in told else described))
    windows = [info.context_tokens for _, info in found if info.context_tokens]
    outputs = [info.output_tokens for _, info in found if info.output_tokens]
    is_converted = any(not route.upstream.speaks(client.speaks) for route, _ in found)
    is_foreign = any(_is_foreign(catalog, route, client.speaks) for route, _ in found)
    window = min(windows, default=0)
    # Under a name that it does not know, the client takes any window.
    if client.of_models and 0 < window < clients.LEAST_WINDOW:
        model = _other_name(catalog, found, model)
    unsized = "" if window else next((str(one) for one, _ in found if _is_unfamiliar(catalog, one, client.speaks)), "")
    return Model(model, window, min(outputs, default=0), is_converted, is_foreign, unsized)


def _is_foreign(catalog: Catalog, route: Route, form: str) -> bool:
    """Whether a model is none of those that clients of a format know, or is spoken to in another one."""
    return not route.upstream.speaks(form) or form not in family(catalog.config, route.model)


def _is_unfamiliar(catalog: Catalog, route: Route, form: str) -> bool:
    """Whether a model is none of those that clients of a format know, nor built in, so that it must be described."""
    return form not in family(catalog.config, route.model) and not route.upstream.provider.embedded


def _is_configured(catalog: Catalog, name: str) -> bool:
    """Whether the configuration says how much the model takes."""
    targets = targets_of(catalog.config, name)
    return bool(targets) and all(target.context_tokens for target in targets)


def _other_name(catalog: Catalog, found: Sequence[tuple[Route, ModelInfo]], model: str) -> str:
    """A name that the client does not know, for what it will ask for: any, if all names lead to one model.

    Else the one target of all names; where that is one of several, or sets anything, there is no such name.
    """
    if model:
        return model if clients.FAMILIAR not in model.lower() else clients.UNFAMILIAR_NAME
    targets = {target for _, info in found for target in targets_of(catalog.config, info.id)}
    is_plain = len(targets) == 1 and all(target.when is None and not target.overlay for target in targets)
    return str(found[0][0]) if is_plain and not found[0][0].effort else ""


def asked_models(words: Sequence[str]) -> list[str]:
    """The models that a command will ask for, by its words, its variable, its settings, or by itself."""
    client, text = clients.CLIENTS.get(clients.program_name(words[0])), ""
    if client is not None and client.settings is not None:
        place = client.settings
        folder = Path(os.environ.get(place.variable) or Path(os.environ.get("HOME") or "/", place.folder))
        with suppress(OSError, ValueError):
            text = (folder / place.name).read_text()
    return clients.asked_models(words, os.environ, text)


async def window_flags(words: Sequence[str], model: Model, folder: Path | None) -> list[str]:
    """The flags that tell the command of the window; a catalogue that one of them names is written to the folder.

    A smaller window in the user's own settings still counts beside a catalogue.
    """
    program = clients.program_name(words[0])
    form = clients.catalogue_of(program)
    if form is None or folder is None or not (model.is_foreign and model.context_tokens):
        return clients.window_flags(program, model)
    try:
        with anyio.fail_after(_PATIENCE_S):
            printed = await anyio.run_process([words[0], *form.printed_by], stdin=DEVNULL, stderr=DEVNULL)
        slugs = list(dict.fromkeys(filter(None, [*asked_models(words), model.asked])))
        text = clients.catalogue(slugs, model, loads(printed.stdout))
    except (OSError, SubprocessError, ValueError, KeyError, IndexError, TypeError, TimeoutError) as error:
        log.warning("could not prepare a model catalogue for %s: %s", program, error or type(error).__name__)
        return clients.window_flags(program, model)
    path = folder / "models.json"
    path.write_text(text)
    return clients.catalogue_flags(form, str(path), model)
