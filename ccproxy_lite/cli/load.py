"""Finding the configuration, for every command that needs one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ccproxy_lite.config.model import Config, from_environment
from ccproxy_lite.errors import ConfigError
from ccproxy_lite.net.address import Address
from ccproxy_lite.providers import key_variables


def find(given: str | None, environ: Mapping[str, str]) -> Path | None:
    """The configuration file: the one that was named, ``$CCPROXY_CONFIG``, or the user's own; never the working
    directory's, because a cloned repository must not be able to redirect keys or run helpers.
    """
    named = given or environ.get("CCPROXY_CONFIG")
    if named:
        return Path(named)
    usual = usual_place(environ)
    return usual if usual is not None and os.path.lexists(usual) else None


def usual_place(environ: Mapping[str, str]) -> Path | None:
    """The user's own configuration file, whether it is there or not; None without a home."""
    home = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
    return Path(home) / "ccproxy-lite" / "config.json" if home else None


def places(environ: Mapping[str, str]) -> list[str]:
    """Where a configuration or a key would have been found."""
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME') or '~'}/.config"
    variables = [f"${name}" for name in key_variables()]
    return ["--config", "$CCPROXY_CONFIG", f"{home}/ccproxy-lite/config.json", *variables]


def load(given: str | None, environ: Mapping[str, str] | None = None) -> tuple[Config, str]:
    """The configuration, and what it came from. Raises ConfigError."""
    environ = os.environ if environ is None else environ
    path = find(given, environ)
    if path is None:
        config, source = from_environment(environ)
        return (
            config,
            "the environment" if source == "environment" else "no configuration file and no API key found",
        )
    from ccproxy_lite.config.file import read

    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at byte {error.start}"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    return read(text, str(path), environ, read_text), str(path)


def read_text(path: str) -> str:
    """What the configuration knows of files. Raises OSError, ValueError."""
    return Path(path).read_text()


def with_options(config: Config, arguments: argparse.Namespace) -> Config:
    """The configuration, with what the command line overrides. Raises ConfigError."""
    given = {name: value for name, value in vars(arguments).items() if value}
    listen = given.get("listen")
    if listen:
        try:
            address = Address.parse(listen)
        except ValueError as error:
            raise ConfigError([f"--listen {listen}: {error}"]) from None
        if not address.is_local and not config.client_keys:
            raise ConfigError([f"--listen {listen}: client_keys is required when listening on a non-loopback address"])
        config = replace(config, listen=listen)
    here = Address.parse(config.listen)
    places = [(f"upstreams.{upstream.name}.base_url", upstream.base_url) for upstream in config.upstreams]
    for place, url in [*places, *((f"mounts.{mount.path}.to", mount.service.base_url) for mount in config.mounts)]:
        if here.answers(url):
            raise ConfigError([f"{place}: {url} points back at this proxy (request loop)"])
    if "capture" in given:
        config = replace(config, capture=config.capture._replace(dir=given["capture"]))
    log = {name: given[f"log_{name}"] for name in ("level", "format", "file") if f"log_{name}" in given}
    return replace(config, log=config.log._replace(**log))
