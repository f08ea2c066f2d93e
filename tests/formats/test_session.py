"""What a body calls its conversation, in the order that counts."""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy_lite.formats.session import session_in

UUID = "1f0c2a52-9c39-4b8e-a1de-0c9bdc2f7f10"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ""),
        ({"prompt_cache_key": "k", "conversation": "c", "user": "u"}, "k"),
        ({"conversation": "conv_1", "metadata": {"session_id": "m"}}, "conv_1"),
        ({"conversation": {"id": "conv_2"}}, "conv_2"),
        ({"metadata": {"user_id": f"user_ab_account__session_{UUID}"}}, UUID),
        ({"metadata": {"user_id": f'{{"device_id":"d","account_uuid":"","session_id":"{UUID}"}}'}}, UUID),
        ({"metadata": {"user_id": "somebody", "session_id": "m"}}, "m"),
        ({"metadata": {"user_id": "x_session_first", "session_id": "second"}}, "first"),
        ({"metadata": {"user_id": "somebody"}}, ""),
        ({"metadata": {"user_id": "{broken"}, "user": "u"}, "u"),
        ({"metadata": {"user_id": "[1]"}, "user": "u"}, "u"),
        ({"metadata": {"user_id": {"session_id": 5}}, "user": "u"}, "u"),
        ({"metadata": [], "conversation": [], "prompt_cache_key": 5, "user": "u"}, "u"),
        ({"user": " padded "}, "padded"),
        ({"user": "a\nb"}, ""),
        ({"user": "x" * 257}, ""),
        ({"prompt_cache_key": "", "user": "u"}, "u"),
    ],
)
def test_sessions_in_bodies(body: dict[str, Any], expected: str) -> None:
    assert session_in(body) == expected
