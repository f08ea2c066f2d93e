"""The examples in docstrings say what is true."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from tests.test_rooms import MODULES

WITH_EXAMPLES = [name for name, path in MODULES.items() if ">>>" in path.read_text()]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    module = import_module(f"ccproxy_lite.{name}".removesuffix(".__init__"))
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
