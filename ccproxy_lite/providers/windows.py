"""How much well-known models take and give, for services whose lists do not say it. Pure.

Only the shape of a name is known here, so only families whose members agree; a service's own list, and the
configuration, count more. Sources: the makers' model pages.

>>> known_model("openrouter/qwen3-coder-plus").context_tokens, known_model("my-model")
(262144, ModelInfo(id='my-model', name='', context_tokens=None, output_tokens=None, inputs=None))
"""

from __future__ import annotations

import re

from ccproxy_lite.formats.neutral.catalog import ModelInfo, bare_name

_PICTURES = ("image",)
_PAGES = ("image", "file")
_ALL = ("image", "audio", "video", "file")
_MODELS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    (r"claude-opus-4-(?:[89]|\d\d)(?!\d)", 1_000_000, 128_000, _PAGES),
    (r"claude-(?:opus|sonnet|haiku|fable|mythos)-(?:[5-9]|\d\d)(?!\d)", 1_000_000, 128_000, _PAGES),
    (r"claude-(?:opus|sonnet)-4-[67]", 200_000, 128_000, _PAGES),
    (r"claude-opus-4(?:-[01])?(?:-2025\d+)?\Z", 200_000, 32_000, _PAGES),
    (r"claude-(?:[a-z]+-4|3-7)", 200_000, 64_000, _PAGES),
    (r"claude-3-5", 200_000, 8192, _PICTURES),
    (r"gpt-5(?:-|\.[0-3]|\Z)(?!.*chat)", 400_000, 128_000, _PAGES),
    (r"gpt-4\.1", 1_047_576, 32_768, _PICTURES),
    (r"gpt-4o|chatgpt-4o", 128_000, 16_384, _PICTURES),
    (r"gpt-oss", 131_072, 131_072, ()),
    (r"o[34](?:-|\Z)", 200_000, 100_000, _PICTURES),
    (r"codex-", 400_000, 128_000, _PICTURES),
    (r"gemini-(?:2\.5|3|flash-|pro-)(?!.*image)", 1_048_576, 65_536, _ALL),
    (r"gemini-2\.0", 1_048_576, 8192, _ALL),
    (r"gemma-3-(?:4|12|27)b", 131_072, 8192, _PICTURES),
    (r"qwen3-coder", 262_144, 65_536, ()),
    (r"qwen3-max", 262_144, 65_536, ()),
    (r"deepseek-(?:chat|reasoner|v3|r1)", 131_072, 8192, ()),
    (r"kimi-k2(?!-0711)", 262_144, 16_384, ()),
    (r"glm-4\.[67](?!v)", 204_800, 131_072, ()),
    (r"glm-4\.5(?!v)", 131_072, 98_304, ()),
    (r"grok-4(?!.*fast)", 256_000, 65_536, _PICTURES),
    (r"grok-code", 256_000, 16_384, ()),
    (r"devstral", 131_072, 32_768, ()),
    (r"llama-?3\.[123]", 131_072, 8192, ()),
)
_PATTERNS = tuple((re.compile(row[0]), ModelInfo("", "", *row[1:])) for row in _MODELS)


def known_model(model: str) -> ModelInfo:
    """What is known of a model by its name."""
    name = bare_name(model.lower())
    found = next((info for pattern, info in _PATTERNS if pattern.match(name)), ModelInfo(""))
    return found._replace(id=model)
