"""JSON, stricter than the standard library."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.jsontext import dumps, dumps_text, loads, members, quote

REFUSED = {
    "nothing": b"",
    "white space": b"  ",
    "deep nesting": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "NaN": b"[NaN]",
    "Infinity": b"[Infinity]",
    "-Infinity": b"[-Infinity]",
    "a number out of range": b"[1e999]",
    "a number of 5000 digits": b"[" + b"9" * 5000 + b"]",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "invalid UTF-8": b'["\xff"]',
    "a surrogate as UTF-8": b'["\xed\xa0\x80"]',
    "trailing text": b"{} x",
    "a control character": b'["a\nb"]',
    "single quotes": b"['a']",
    "a trailing comma": b"[1,]",
    "a comment": b"[1] // no",
}
ACCEPTED = {
    "a byte order mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "a lone surrogate": (b'["\\ud800"]', ["\ud800"]),
    "repeated keys": (b'{"a": 1, "a": 2}', {"a": 2}),
    "a line separator": ('["\u2028"]'.encode(), ["\u2028"]),
    "white space around": (b" \r\n\t[1] ", [1]),
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in REFUSED.items()])
def test_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        loads(body)


@pytest.mark.parametrize(("body", "value"), [pytest.param(*case, id=name) for name, case in ACCEPTED.items()])
def test_accepted(body: bytes, value: object) -> None:
    assert loads(body) == value


def test_errors_say_where() -> None:
    with pytest.raises(ValueError, match="line 2 column 6"):
        loads(b'{\n "a" 1}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.sampled_from([None, 1, "\t"]))
def test_members_are_where_they_say(value: dict[str, object], indent: int | str | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    found = members(text)
    assert {member.key: member.value for member in found} == value
    for member in found:
        assert json.loads(text[member.start : member.end]) == member.value


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "{", '{"a"}', '{"a":1', '{"a":1,}', '{"a":1} x', "{1:2}", '{"a" 1}', '{"a":[}']
)
def test_members_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        members(text)


@given(JSON)
def test_what_is_written_is_read(value: object) -> None:
    assert loads(dumps(value)) == loads(dumps_text(value)) == value
    assert dumps(value).isascii()


@given(st.text())
def test_quote(text: str) -> None:
    assert loads(quote(text)) == text
