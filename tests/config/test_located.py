"""A document in which the place of every value can be found."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.config.located import KeyPath, Misplaced, Object, find, parse, position
from ccproxy_lite.jsontext import DECODER
from tests.test_jsontext import JSON


def paths(value: object, path: KeyPath = ()) -> list[KeyPath]:
    """The way to every value within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(way for step, one in inner for way in paths(one, (*path, step)))]


def at(value: object, path: KeyPath) -> object:
    for step in path:
        value = value[step]  # type: ignore[index]
    return value


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.sampled_from([None, 1]))
def test_every_value_is_found_where_it_stands(value: dict[str, object], indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert parse(text) == value
    for path in paths(value):
        assert DECODER.raw_decode(text, find(text, path))[0] == at(value, path)
        if path and isinstance(path[-1], str):
            assert DECODER.raw_decode(text, find(text, path, key=True))[0] == path[-1]


def test_what_is_missing_is_found_at_what_lacks_it() -> None:
    text = '{"a": {"b": [1]}}'
    assert [find(text, path) for path in [("x",), ("a", "x"), ("a", "b", 7), ("a", "b", 0, "x")]] == [0, 6, 12, 13]


def test_of_keys_that_stand_there_twice_the_last_one_counts() -> None:
    text = '{"a": 1, "b": 2, "a": 3}'
    value = parse(text)
    assert isinstance(value, Object) and value == {"a": 3, "b": 2} and value.duplicates == ["a"]
    assert (find(text, ("a",)), find(text, ("a",), key=True)) == (22, 17)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ('{\n  "a": 1\n  "b": 2\n}', 3, 3, "Expecting ',' delimiter"),
        ('{"a": 1,}', 1, 8, "no trailing commas"),
        ('{"a": [1, ]}', 1, 9, "no trailing commas"),
        ('{"a": [1 ,\n ]}', 1, 10, "no trailing commas"),
        ('{\n// hi\n"a": 1}', 2, 1, "no comments"),
        ('{"a": // hi\n1}', 1, 7, "no comments"),
        ('{"a": 1 # hi\n}', 1, 9, "no comments"),
        ('{"a": nope}', 1, 7, "Expecting value"),
        ('{"a": "x', 1, 7, "Unterminated string"),
        ('{"a" 1}', 1, 6, "Expecting ':' delimiter"),
        ("{} {}", 1, 4, "nothing may follow"),
        ('{"NaN": NaN}', 1, 9, "NaN is not JSON"),
        ('{"a": "1e999", "b": -1e999}', 1, 21, "number out of range"),
        ('{"a": [1 2]}', 1, 10, "Expecting ',' delimiter"),
        ("retries: 2\n", 1, 1, "not JSON"),
        ("[server]\n", 1, 2, "Expecting value"),
        ("[" * 100_000, 1, 1, "nested too deep"),
    ],
)
def test_syntax_errors_have_a_place(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(Misplaced) as caught:
        parse(text)
    assert message in caught.value.message
    assert position(text, caught.value.offset) == (line, column)
