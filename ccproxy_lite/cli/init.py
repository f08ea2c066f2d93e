"""``ccproxy-lite init``: a starting configuration from the keys in the environment, by reference; never overwrites."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from ccproxy_lite.cli.load import usual_place
from ccproxy_lite.config.model import Config, from_environment
from ccproxy_lite.errors import CcproxyError, ClientError, ConfigError
from ccproxy_lite.providers import key_variables
from ccproxy_lite.routing.routes import resolve


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0, 1 if there is a file already, no key, or no place to write to."""
    named = arguments.config or os.environ.get("CCPROXY_CONFIG")
    path = Path(named) if named else usual_place(os.environ)
    if path is None:
        raise CcproxyError("HOME is unset: use --config FILE")
    config, source = from_environment(os.environ)
    for note in config.notes:
        print(f"note: {note}", file=sys.stderr)
    if source == "nothing":
        raise CcproxyError(f"no API key found. Set one of {', '.join(key_variables())} and try again")
    write(path, json.dumps(content(config, arguments.model), indent=2) + "\n")
    print(f"wrote {path}: {', '.join(upstream.name for upstream in config.upstreams)}")
    print("next: ccproxy-lite check, then ccproxy-lite")
    return 0


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
