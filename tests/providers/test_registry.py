"""Every word that may stand in an upstream's ``format`` leads to one provider."""

from __future__ import annotations

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.providers import KINDS


def test_every_word_for_a_format_has_one_provider() -> None:
    assert set(KINDS) == {*FORMATS, "echo", "claude-cli"}
