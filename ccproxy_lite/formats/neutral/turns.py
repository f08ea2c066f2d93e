"""The order of turns that services insist on: roles that alternate, every call followed by its result. Pure.

Works on neutral messages only, so every format's ``write_request`` shares it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ccproxy_lite.formats.neutral.events import Search
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    Part,
    Refusal,
    Role,
    SearchCall,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)


def with_parts(message: Message, parts: Sequence[Part]) -> Message:
    """A message with some of its parts; the same one where these are all of them."""
    return message if len(parts) == len(message.parts) else replace(message, parts=tuple(parts))


def merged(messages: Iterable[Message], seam: str = "") -> list[Message]:
    """Neighbours of one role as one message; a turn without parts disappears.

    :param seam: what stands between two texts of the assistant that were messages of their own
    """
    turns: list[Message] = []
    for message in messages:
        if not message.parts:
            continue
        # Anthropic and Gemini reject two messages of one role in a row.
        if turns and turns[-1].role == message.role:
            turns[-1] = replace(turns[-1], parts=turns[-1].parts + _with_seam(turns[-1], message, seam))
        else:
            turns.append(message)
    return turns


def _with_seam(turn: Message, message: Message, seam: str) -> tuple[Part, ...]:
    first, last = message.parts[0], turn.parts[-1]
    if seam and message.role == "assistant" and isinstance(first, Text) and isinstance(last, Text):
        return (replace(first, text=seam + first.text), *message.parts[1:])
    return message.parts


class Rules(NamedTuple):
    """What a format's turns can contain: which reasoning; and blank texts, media of the assistant, audio, or not.

    ``searches`` says of a search in an earlier answer whether it can return to the service. ``drops_unsealed``: it does
    not want reasoning of its own back that it has not sealed, so nothing is lost without it.
    """

    thought: Callable[[Thinking], bool]
    blanks: bool = True
    media: bool = False
    audio: bool = True
    searches: Callable[[Search], bool] = lambda search: False
    drops_unsealed: bool = False


def fits(part: Part, role: Role, rules: Rules, losses: Losses) -> bool:
    """Whether a part has a place in a turn; what has none is named."""
    match part:
        case Text() | Refusal():
            return bool(part.text if rules.blanks else part.text.strip())
        case Thinking():
            if role == "assistant" and rules.thought(part):
                return True
            is_unsealed = (
                role == "assistant" and losses.is_target(part.origin) and not (part.signature or part.redacted)
            )
            if not (rules.drops_unsealed and is_unsealed):
                losses.lose("thinking", part.at)
        case Foreign():
            losses.lose_foreign(part)
        case SearchCall():
            if rules.searches(part.search):
                return True
            losses.lose("search", part.at)
        case Image() | File() | Audio() if role == "assistant" and not rules.media:
            losses.lose("assistant.media", part.at)
        case Audio() if not rules.audio:
            losses.lose("audio", part.at)
        case _:
            return True
    return False


def fitting(messages: Iterable[Message], rules: Rules, losses: Losses) -> list[Message]:
    """The messages with only those parts that the target can hold."""
    kept = []
    for message in messages:
        if message.extra:
            losses.lose_extra(message.extra, message.at)
        given = message.parts if rules.blanks or message.role != "assistant" else _without_blank_pieces(message.parts)
        parts = tuple([part for part in given if fits(part, message.role, rules, losses)])
        kept.append(message if parts == message.parts else replace(message, parts=parts))
    return kept


def _without_blank_pieces(parts: Iterable[Part]) -> Iterable[Part]:
    """The parts of an answer, where white space between two pieces of its text belongs to the first of them."""
    held: Text | None = None
    pieces: list[str] = []
    for part in parts:
        if isinstance(part, Text) and held is not None and not part.text.strip() and not part.extra:
            pieces.append(part.text)
            continue
        if held is not None:
            yield replace(held, text="".join(pieces))
        held = part if isinstance(part, Text) else None
        pieces = [part.text] if isinstance(part, Text) else []
        if held is None:
            yield part
    if held is not None:
        yield replace(held, text="".join(pieces))


COMPLETE = "(complete)"
"""A format's note on a text that is no beginning of an answer."""


def name_prefill(turns: Sequence[Message], losses: Losses) -> None:
    """An answer that the client has begun; where the target does not go on with it, it is named."""
    last = turns[-1] if turns else None
    if last is None or last.role != "assistant" or any(isinstance(part, ToolCall) for part in last.parts):
        return
    if COMPLETE not in last.parts[-1].extra:
        losses.lose("prefill", last.at)


def paired(messages: Iterable[Message], losses: Losses, seam: str = "") -> list[Message]:
    """Merged turns in which each call is answered at the start of what follows it.

    A result may come late within the user's turn, or twice (the last one counts). A call that is never answered and a
    result without a call are rejected by every provider, so they are dropped and named.
    """
    # Results may be spread over several messages: merging brings them together.
    turns = merged(messages, seam)
    done: list[Message] = []
    at = 0
    while at < len(turns):
        turn = turns[at]
        at += 1
        # Results before any call have nothing to answer.
        if turn.role != "assistant":
            done += _without_results([turn], losses)
            continue
        following = []
        while at < len(turns) and turns[at].role != "assistant":
            following.append(turns[at])
            at += 1
        done += _pair_calls(turn, following, losses)
    return merged(done)


def _pair_calls(turn: Message, following: list[Message], losses: Losses) -> list[Message]:
    calls = [part for part in turn.parts if isinstance(part, ToolCall)]
    if not calls:
        return [turn, *_without_results(following, losses)]
    wanted = {call.id for call in calls}
    results: dict[str, ToolResult] = {}
    for message in following:
        for part in message.parts:
            if isinstance(part, ToolResult) and part.call_id in wanted:
                results[part.call_id] = part
    # Without anything behind them the calls are still open: the client may be about to answer.
    if following:
        kept: list[Part] = []
        answered = set(results)
        for part in turn.parts:
            if isinstance(part, ToolCall) and part.id not in answered:
                losses.lose("unanswered_call", part.at)
                continue
            if isinstance(part, ToolCall):
                answered.discard(part.id)  # a second call of the same id has no result of its own
            kept.append(part)
        turn = with_parts(turn, kept)
    answers = Message("user", tuple(results.values()), at=following[0].at if following else "")
    return [turn, answers, *_without_results(following, losses, wanted)]


def _without_results(messages: list[Message], losses: Losses, wanted: Iterable[str] = ()) -> list[Message]:
    answered_turns = []
    for message in messages:
        parts = []
        for part in message.parts:
            if not isinstance(part, ToolResult):
                parts.append(part)
            elif part.call_id not in wanted:
                losses.lose("orphan_result", part.at)
        answered_turns.append(with_parts(message, parts))
    return answered_turns


def in_place(messages: Iterable[Message], quirks: frozenset[str]) -> Iterable[Message]:
    """The messages with system messages in the middle as a target with these quirks accepts them.

    Only few services do (quirk ``system_turns``): elsewhere they become text of the user that says what it is, in its
    place, for at the beginning it would mean something else and defeat prompt caches.
    """
    return messages if "system_turns" in quirks else _downgraded(messages)


def _downgraded(messages: Iterable[Message]) -> Iterable[Message]:
    for message in messages:
        if message.role == "system":
            texts = [part for part in message.parts if isinstance(part, Text) and part.text.strip()]
            text = "\n".join(part.text for part in texts)
            extra = {key: value for part in texts for key, value in part.extra.items()}
            # The same wrapping that Claude Code uses: models are trained on it.
            wrapped = f"<system-reminder>\n{text}\n</system-reminder>"
            others = tuple(part for part in message.parts if not isinstance(part, Text))
            reminder = (Text(wrapped, extra, message.at),) if text else ()
            message = replace(message, role="user", parts=reminder + others)
        yield message


def says_nothing(messages: Sequence[Message]) -> bool:
    """Whether the user has sent an empty text: all that is left where no turn has any content."""
    return any(message.role == "user" and any(isinstance(part, Text) for part in message.parts) for message in messages)
