"""The wire formats. Pure: no clock, no randomness, no input or output, and no format knows another.

>>> sorted(FORMATS)
['anthropic', 'openai-chat']
"""

from ccproxy_lite.formats import anthropic, openai_chat
from ccproxy_lite.formats.format import Format

FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in (anthropic, openai_chat)}

__all__ = ["FORMATS", "Format"]
