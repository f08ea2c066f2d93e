"""Settings for all tests, and which of them are slow."""

from __future__ import annotations

import functools
import tempfile
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run: what they find must not depend on luck. ``--hypothesis-profile=wide`` looks further.
settings.register_profile(
    "steady", max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("wide", settings.get_profile("steady"), max_examples=3000, derandomize=False)
settings.load_profile("steady")


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that every user may read: pytest closes its own ones to others whenever another run begins."""
    with tempfile.TemporaryDirectory(prefix="ccproxy-lite-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts a process is slow, by whatever helper it does so; other slow tests carry the marker themselves."""
    starts_process = functools.cache(lambda function: _starts_process(function, set()))  # once, not for each case
    for item in items:
        with_programs = item.get_closest_marker("clients") or item.get_closest_marker("bench")
        if with_programs or (isinstance(item, pytest.Function) and starts_process(item.function)):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))


def _starts_process(function: Any, seen: set[Any]) -> bool:
    """Whether a function of the tests, or one that it calls, uses ``subprocess`` or forks."""
    function = getattr(function, "__wrapped__", function)  # of a context manager or a cache
    if not isinstance(function, types.FunctionType) or function in seen or not function.__module__.startswith("tests"):
        return False
    seen.add(function)
    names = set(_names(function.__code__))
    if names & {"subprocess", "Popen", "fork"}:
        return True
    return any(_starts_process(function.__globals__.get(name), seen) for name in names)


def _names(code: types.CodeType) -> Iterable[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
