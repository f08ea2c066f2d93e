"""Which requests a target is for: the conditions under ``when``, and what is known of a request. Pure.

Everything here is known before anything is sent. Most of it stands in the body, which is read only if a condition asks
for it: a ``Content`` looks when it is asked.
"""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Protocol

from ccproxy_lite.config.model import Condition

SYSTEM_CHARS = 2000
"""So much of the instructions is compared."""


class Content(Protocol):
    """What a request has."""

    @property
    def contents(self) -> Collection[str]:
        """In the words of ``config.model.CONTENTS``."""

    @property
    def tokens(self) -> int:
        """An estimate of its input tokens."""

    @property
    def system(self) -> str:
        """Its instructions."""

    def header(self, name: str) -> str | None:
        """The value of a header, by its name in lower case."""


def holds(condition: Condition, content: Content, effort: str = "") -> bool:
    """Whether a request fits: all that the condition names.

    :param effort: the one behind the model's name, which counts more than what the body says of thinking
    """
    for name, pattern in condition.headers:
        value = content.header(name)
        if value is None or not fnmatchcase(value, pattern):
            return False
    if condition.contents and not _has_any(condition.contents, content, effort):
        return False
    if condition.tokens_over is not None and content.tokens <= condition.tokens_over:
        return False
    if condition.tokens_under is not None and content.tokens >= condition.tokens_under:
        return False
    return condition.system is None or fnmatchcase(content.system[:SYSTEM_CHARS], condition.system)


def _has_any(kinds: Collection[str], content: Content, effort: str) -> bool:
    if effort and "thinking" in kinds:
        return effort != "none" or not set(kinds).isdisjoint({*content.contents} - {"thinking"})
    return not set(kinds).isdisjoint(content.contents)


def condition_text(condition: Condition) -> str:
    """A condition for users.

    >>> condition_text(Condition(("image", "file"), tokens_over=1000))
    'has image or file, tokens over 1,000'
    """
    parts = [f"has {' or '.join(condition.contents)}"] if condition.contents else []
    parts += [f"tokens over {condition.tokens_over:,}"] if condition.tokens_over is not None else []
    parts += [f"tokens under {condition.tokens_under:,}"] if condition.tokens_under is not None else []
    parts += [f'header {name} "{pattern}"' for name, pattern in condition.headers]
    parts += [f'system "{condition.system}"'] if condition.system is not None else []
    return ", ".join(parts)
