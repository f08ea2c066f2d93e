"""A prompt that does not fit into the model's context window: the words in which services say so. Pure.

Agents compact their conversation when they are told so in the words of their own format, and only then. So an error is
recognised here, whatever its dialect, and each format's ``write_error`` says it in its own words.

>>> measure("This model's maximum prompt length is 131072 but the request contains 537812 tokens.")
Overflow(sent=537812, limit=131072)
>>> measure("Rate limit reached: tokens per min. Limit 6000, requested 9000") is None
True

Sources: recorded answers, documentation and open-source servers; the tests have a sentence of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ccproxy_lite.formats.neutral.events import NOTHING, Failed

CODE = "context_length_exceeded"
"""OpenAI's code, by which the neutral model knows such a failure."""
REASONS = ("model_context_window_exceeded", "model_length", CODE, "max_context_length")
"""The finish reasons, and Anthropic's stop reason, that say so."""
_CODES = frozenset(
    "context_length_exceeded exceed_context_size_error model_max_prompt_tokens_exceeded model_context_window_exceeded "
    "invalid_request_prompt_too_long too_many_prompt_tokens tokens_limit_reached tokens_too_long 1261 5059".split()
)
_MAX_READ_CHARS = 4000

_WORDS = "|".join(
    (
        r"(?i)(?:prompt|input|inputs|context|messages) (?:\([^)]*\) )?(?:is|are) (?:too long|longer than)",
        r"(?:prompt|input|inputs|context|messages) (?:\([^)]*\) )?(?:is|are) too large for model",
        r"(?:maximum|max|model'?s) (?:context|prompt|model|input) (?:length|size|window)",
        r"maximum number of (?:input )?tokens (?:allowed|supported)",
        r"context (?:window|length|size|limit)s?(?: has been| was)? exceed",
        r"exceed\w* (?:the |its |your |this |maximum |max |available |supported |configured |model )*"
        r"(?:context|input|prompt) ?(?:window|length|size|limit)|exceed\w* (?:the )?model token limit",
        r"(?:prompt|inputs?|sequence|context|tokens?)\b[^.:]{0,60}exceeds? (?:the )?max(?:imum)?(?: allowed)?"
        r"(?: input)?(?:_model_len| length)|exceed model maximum|exceed max message tokens",
        r"sum of prompt length|maximum (?:supported )?sequence length|expected maxlength: \d{4,}, actual",
        r"(?:prompt|context|input)(?: length| tokens?)? (?:exceeds (?:the )?limit|too long)",
        r"input tokens exceed|number of input tokens exceeds|too many input tokens|prompt token count",
        r"range of input length should be|total (?:length of all messages|number of tokens \()",
        r"too many tokens: (?:size|total)|model only supports up to|context exceeds your deployment",
        r"longer than the (?:maximum model|model's) |context length is only|too long to fit into the model",
        r"reduce (?:the length of the (?:messages|prompt|input|context)|your prompt)",
        r"token length too long",
        r"keep from the initial prompt|keep the first \d+ tokens|truncate prompt with n_keep|prompt 超长",
        r"`inputs` (?:must have less than|tokens \+)|max tokens of \d+ exceeded",
    )
)
"""A pattern that is compiled when an error is first read: most proxies never see one, and it is slow to compile."""
_NOT = re.compile(
    r"(?i)tokens? ?(?:per|/) ?(?:min|day|hour)|\bTPM\b|number of output tokens|range of max_tokens|max tokens must be"
    r"|max_(?:completion_|output_)?tokens['\"`]*(?:: \d| value| is too large| must be| \(\d+\) exceeds)"
)
"""A limit of the rate, or one of the answer: a shorter prompt would not help."""
_NO_ROOM = re.compile(r"\((\d{1,15}) > (\d{1,15}) - (\d{1,15})\)")
"""vLLM: the limit of the answer, the window, and the prompt. Only if the first fits alone is the prompt the problem."""

_NUMBER = r"(?<![\w.-])(\d[\d,]*)(?![\w-])"
_LIMIT_FIRST = re.compile(
    rf"(?i)(?:length (?:is|of)|limit(?: of|:)|max input tokens:|less than|<=|cannot exceed|window limit) {_NUMBER}"
)
_SENT_THEN = re.compile(
    r"(?i)(?:total of(?: at least)?|requested(?: about|:)?|resulted in|contains|request has|count:|given:|received) "
    + _NUMBER
)
_SUM = re.compile(rf"{_NUMBER} \+ {_NUMBER} > {_NUMBER}")


class Overflow(NamedTuple):
    """How many tokens the prompt had, and how many fit; 0 where the service does not say."""

    sent: int = 0
    limit: int = 0


def measure(message: str, code: str = "", error: Mapping[str, Any] = NOTHING) -> Overflow | None:
    """What an error says of a prompt that is too long; None if it is about something else.

    :param error: the error object, for services that have the numbers in fields of their own
    """
    text = message[:_MAX_READ_CHARS]
    no_room = _NO_ROOM.search(text)
    if no_room:
        answer, window, prompt = map(int, no_room.groups())
        return _plausible(answer + prompt, window) if answer < window else None
    if code not in _CODES and (_NOT.search(text) or not re.search(_WORDS, text)):
        return None
    fields = error.get("n_prompt_tokens"), error.get("n_ctx")  # llama.cpp
    if all(isinstance(number, int) for number in fields):
        return Overflow(*fields)  # type: ignore[arg-type]
    return _numbers_in(text)


def _numbers_in(text: str) -> Overflow:
    """The two numbers in a sentence; in most of them what was sent stands first, and the limit last."""
    limit, total = _LIMIT_FIRST.search(text), _SUM.search(text)
    if total:
        first, second, limit_there = map(_integer, total.groups())
        return _plausible(first + second, limit_there)
    if limit:
        behind = [_integer(match[1]) for match in _SENT_THEN.finditer(text, limit.end())]
        sent = next((number for number in behind if number > _integer(limit[1])), 0)
        if sent:
            return _plausible(sent, _integer(limit[1]))
    numbers = [_integer(digits) for digits in re.findall(_NUMBER, text)]
    return _plausible(numbers[0], numbers[-1]) if numbers else Overflow()


def _integer(digits: str) -> int:
    return int(digits.replace(",", "")[:15])


def _plausible(sent: int, limit: int) -> Overflow:
    return Overflow(sent, limit) if sent > limit > 0 else Overflow()


_REASON = re.compile(rf'("(?:stop|finish)_reason"\s*:\s*)"(?:{"|".join(REASONS)})"'.encode(), re.IGNORECASE)


def as_length_limit(data: bytes) -> bytes:
    """An answer, or events of one, whose finish reason says that the window is full: with the ordinary length limit.

    Agents know the one and give up on the other.

    >>> as_length_limit(b'{"finish_reason": "model_length"}')
    b'{"finish_reason": "length"}'
    """
    return _REASON.sub(lambda match: match[1] + (b'"max_tokens"' if b"stop" in match[1] else b'"length"'), data)


def failure(reason: str) -> Failed:
    """The failure of an answer that has nothing but a finish reason, which says that the window is full."""
    message = f"the conversation does not fit into the model's context window ({reason})"
    return Failed(400, "bad_request", message, CODE, overflow=Overflow())
