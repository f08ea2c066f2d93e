"""The wire formats. Pure: no clock, no randomness, no input or output, and no format knows another.

>>> sorted(FORMATS)
['anthropic', 'gemini', 'openai-chat', 'openai-responses']
"""

from ccproxy_lite.formats import anthropic, gemini, openai_chat, openai_responses
from ccproxy_lite.formats.format import Format

_ALL = (anthropic, openai_responses, openai_chat, gemini)
FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in _ALL}

__all__ = ["FORMATS", "Format"]
