"""A document of which it is known where everything stands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.config.located import Misplaced, locate, position
from tests.test_jsontext import JSON


def plain(node: object) -> object:
    """A located value without its places."""
    value = getattr(node, "value", node)
    if isinstance(value, list):
        return {key: plain(inner) for key, _, inner in value}
    if isinstance(value, tuple):
        return [plain(inner) for inner in value]
    return value


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_locate_reads_the_same(value: dict[str, object]) -> None:
    assert plain(locate(json.dumps(value, indent=1))) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ('{\n  "a": 1\n  "b": 2\n}', 3, 3, '"," or "}" was expected'),
        ('{"a": 1,}', 1, 8, "no trailing commas"),
        ('{\n// hi\n"a": 1}', 2, 1, "no comments"),
        ('{"a": // hi\n1}', 1, 7, "no comments"),
        ('{"a": nope}', 1, 7, "Expecting value"),
        ('{"a": "x', 1, 7, "Unterminated string"),
        ('{"a" 1}', 1, 6, '":" was expected'),
        ("{} {}", 1, 4, "nothing may follow"),
        ('{"a": NaN}', 1, 7, "NaN is not JSON"),
        ('{"a": [1 2]}', 1, 10, '"," or "]" was expected'),
        ("[" * 300, 1, 202, "nested too deep"),
    ],
)
def test_syntax_errors_have_a_place(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(Misplaced) as caught:
        locate(text)
    assert position(text, caught.value.offset) == (line, column)
    assert message in caught.value.message
