"""What model lists say of a model, in whatever words. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

INPUTS = ("image", "audio", "video", "file")
"""Kinds of content beside text."""
_MOST = 1 << 40
"""A number of tokens beyond it is none."""


def limit(value: int) -> int | None:
    """A number of tokens in an upstream's list; None where it says nothing, or cannot be."""
    return value if 0 < value < _MOST else None


_VENDORS = re.compile(r"(?:[a-z-]+\.)+(?=[a-z])|databricks-")


def bare_name(model: str) -> str:
    """The maker's own name in a model's id, without vendor, region or folder, as gateways and clouds put before it.

    >>> [bare_name(one) for one in ("us.anthropic.claude-opus-5", "openai/gpt-5.1", "system.ai.claude-sonnet-5")]
    ['claude-opus-5', 'gpt-5.1', 'claude-sonnet-5']
    """
    name = model.rpartition("/")[2]
    match = _VENDORS.match(name)
    return name[match.end() :] if match is not None else name


class ModelInfo(NamedTuple):
    """A model: its name, what users are shown for it, and how much it takes and gives, as far as that is known.

    ``context_tokens`` is the whole window, ``output_tokens`` the most of an answer. ``inputs`` are the kinds of content
    that it takes beside text: ``image``, ``audio``, ``video``, ``file``; None if that is unknown.
    """

    id: str
    name: str = ""
    context_tokens: int | None = None
    output_tokens: int | None = None
    inputs: tuple[str, ...] | None = None

    def completed(self, other: ModelInfo) -> ModelInfo:
        """The same, with what only the other says.

        >>> ModelInfo("a", context_tokens=9).completed(ModelInfo("b", "B", 8, 4))
        ModelInfo(id='a', name='B', context_tokens=9, output_tokens=4, inputs=None)
        """
        return ModelInfo(
            self.id,
            self.name or other.name,
            self.context_tokens or other.context_tokens,
            self.output_tokens or other.output_tokens,
            other.inputs if self.inputs is None else self.inputs,
        )
