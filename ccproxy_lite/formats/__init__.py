"""The wire formats. Pure: no clock, no randomness, no input or output, and no format knows another.

A format's converters are imported when it is asked for the first time: most proxies use two of the four.

>>> sorted(FORMATS), PROFILES["gemini"].key_variables
(['anthropic', 'gemini', 'openai-chat', 'openai-responses'], ('GEMINI_API_KEY', 'GOOGLE_API_KEY'))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import NamedTuple

from ccproxy_lite.formats.format import Format

__all__ = ["FORMATS", "PROFILES", "Format", "asked_for"]


class Profile(NamedTuple):
    """What is known of a format before its converters are; ``stem`` is part of all its paths that ask for something."""

    default_base_url: str
    key_variables: tuple[str, ...]
    stem: str


PROFILES = {
    "anthropic": Profile("https://api.anthropic.com", ("ANTHROPIC_API_KEY",), "/messages"),
    "openai-responses": Profile("https://api.openai.com/v1", ("OPENAI_API_KEY",), "/responses"),
    "openai-chat": Profile("https://api.openai.com/v1", ("OPENAI_API_KEY",), "/chat/completions"),
    "gemini": Profile("https://generativelanguage.googleapis.com", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "/models/"),
}


class _Formats(Mapping[str, Format]):
    """The formats by name, loaded one by one."""

    def __init__(self) -> None:
        self._loaded: dict[str, Format] = {}

    def __getitem__(self, name: str) -> Format:
        if name not in self._loaded:
            if name not in PROFILES:
                raise KeyError(name)
            module = import_module(f"ccproxy_lite.formats.{name.replace('-', '_')}")
            self._loaded[name] = module.FORMAT
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in PROFILES

    def __iter__(self) -> Iterator[str]:
        return iter(PROFILES)

    def __len__(self) -> int:
        return len(PROFILES)


FORMATS = _Formats()


def asked_for(path: str) -> Iterator[Format]:
    """The formats that a path may belong to."""
    return (FORMATS[name] for name, profile in PROFILES.items() if profile.stem in path)
