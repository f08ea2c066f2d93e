"""Services that bill a prompt as the real ones do, and agents that run a loop of tool calls against them.

    python -m tests.billing

prints what such a loop costs for each client format at each upstream format, through the proxy, beside the client of the
upstream's own format without a proxy.

A prompt is a flat list of blocks, in the order in which a service reads it: tools, instructions, then what each message
consists of. Whatever changes a byte of a block changes every prefix of the prompt that contains it; only cache markers
are not part of a block. A token is four bytes of JSON. What differs is which prefixes are stored, and where they are
looked for; none is stored below 1,024 tokens:

- Anthropic: stored at up to four marked blocks, looked for at each of them and the 20 blocks before it
- OpenAI, from GPT-5.6 on: stored under the request's ``prompt_cache_key`` where the newest message ends and at the last
  three explicit breakpoints; without a key nothing is found, as when every request reaches another machine
- Gemini: every prefix is stored, and nothing is charged for that

The sources are the vendors' pages on prompt caching. ``Service.bills`` has what each request has cost, and
``Service.changes`` the blocks of an earlier request that a later one did not repeat.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.loops import BILLING_HEADER, Bill, Client, Object, saying
from tests.support import Scripted, Seen, Step, behind, http, proxy, upstream

MODELS = {
    "anthropic": "claude-sonnet-5-5",
    "openai-chat": "gpt-5.6",
    "openai-responses": "gpt-5.6",
    "gemini": "gemini-3.5-flash",
}
READ_PRICE = {"anthropic": 0.1, "openai-chat": 0.1, "openai-responses": 0.1, "gemini": 0.25}
WRITE_PRICE = {"anthropic": 1.25, "openai-chat": 1.25, "openai-responses": 1.25, "gemini": 1.0}
MARKER, BREAKPOINT, KEY = "cache_control", "prompt_cache_breakpoint", "prompt_cache_key"
MIN_TOKENS, MAX_MARKERS, LOOK_BACK_BLOCKS, MAX_BREAKPOINTS = 1024, 4, 20, 3


# ---------------------------------------------------------------- prompts


class Block(NamedTuple):
    """A piece of a prompt. It is found again only if its bytes, all before it and ``context`` are the same."""

    raw: bytes
    is_marked: bool
    context: str = ""

    @property
    def tokens(self) -> int:
        return max(1, len(self.raw) // 4)


def _without(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_without(item, name) for item in value]
    if isinstance(value, dict):
        return {key: _without(item, name) for key, item in value.items() if key != name}
    return value


def _block(value: Object, marker: str = BREAKPOINT, context: str = "") -> Block:
    bare = _without(value, marker)
    return Block(json.dumps(bare, ensure_ascii=False, separators=(",", ":")).encode(), bare != value, context)


def _parts(content: Any) -> list[Object]:
    """The content of a message, which may be only its text."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def _anthropic_blocks(body: Object) -> list[Block]:
    context = json.dumps([body.get("thinking", {}).get("type"), body.get("tool_choice")])
    system = [part for part in _parts(body.get("system")) if not part["text"].startswith(BILLING_HEADER)]
    turns = [{"role": message["role"], **part} for message in body["messages"] for part in _parts(message["content"])]
    blocks = [_block(value, MARKER) for value in (*body.get("tools", ()), *system)]
    return blocks + [_block(value, MARKER, context) for value in turns]


def _openai_blocks(body: Object) -> list[Block]:
    """Of both formats. What a message consists of stands between its other fields and its end."""
    values: list[Object] = [*body.get("tools", ()), *_parts(body.get("instructions"))]
    for message in body["messages"] if "messages" in body else _parts(body["input"]):
        values.append({name: value for name, value in message.items() if name not in ("content", "tool_calls")})
        for part in _parts(message.get("content")):
            values.append({**part, "type": "text"} if part["type"] == "input_text" else part)
        values += [*(message.get("tool_calls") or ()), {"end": True}]
    return [_block(value) for value in values]


def _gemini_blocks(body: Object) -> list[Block]:
    values: list[Object] = [one for tool in body.get("tools", ()) for one in tool.get("functionDeclarations", ())]
    values += body.get("systemInstruction", {}).get("parts", ())
    for content in body["contents"]:
        values += [{"role": content.get("role", "user"), **part} for part in content["parts"]]
    return [_block(value) for value in values]


BLOCKS = {
    "anthropic": _anthropic_blocks,
    "openai-chat": _openai_blocks,
    "openai-responses": _openai_blocks,
    "gemini": _gemini_blocks,
}


class Prefix(NamedTuple):
    """The beginning of a prompt."""

    name: bytes
    tokens: int


def _prefixes(blocks: Sequence[Block], start: str) -> list[Prefix]:
    """The prefixes of a prompt, by how many blocks they have."""
    found = [Prefix(hashlib.sha256(start.encode()).digest(), 0)]
    for block in blocks:
        name, tokens = found[-1]
        found.append(Prefix(hashlib.sha256(name + block.context.encode() + block.raw).digest(), tokens + block.tokens))
    return found


# ---------------------------------------------------------------- services


@dataclass
class Service:
    """A service of one format. It calls tools in each of ``turns`` requests but the last, and then begins anew.

    With ``pause_every`` it also answers every so many requests without a call, and waits for the user's next question.
    ``refuses`` names fields that it does not know: a request with one of them gets an error. With ``thinks_once`` it
    thinks before its first call of a tool only.
    """

    form: str
    turns: int = 30
    pause_every: int = 0
    refuses: Sequence[str] = ()
    model: str = ""
    thinks_once: bool = False
    bills: list[Bill] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    refused: int = 0
    _stored: set[bytes] = field(default_factory=set)
    _before: list[Block] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = self.model or MODELS[self.form]

    @property
    def tokens(self) -> int:
        """All input tokens: what they would cost without any cache."""
        return sum(sum(bill) for bill in self.bills)

    @property
    def cost(self) -> float:
        """The price of the input, in tokens at full price."""
        read, written = READ_PRICE[self.form], WRITE_PRICE[self.form]
        return sum(read * bill.read + written * bill.written + bill.plain for bill in self.bills)

    @property
    def share(self) -> float:
        """Which part of the price without any cache was to be paid."""
        return self.cost / self.tokens

    def choose(self, seen: Seen) -> list[Step]:
        """The answer to a request."""
        target, body = seen.head.split(" ", 2)[1], seen.json
        stream = "streamGenerateContent" in target if self.form == "gemini" else body.get("stream") is True
        fault = self._fault(body)
        if fault:
            self.refused += 1
            return [http(400, fault)]
        self._pay(body, body.get("model") or target.rpartition(":")[0])
        turn = (len(self.bills) - 1) % self.turns + 1
        calls = 16 if turn == 10 else 3 if turn % 7 == 0 else 1
        if turn == self.turns or (self.pause_every and turn % self.pause_every == 0):
            calls = 0
        thinks = _wants_thoughts(body) and not (self.thinks_once and _is_in_loop(body))
        return saying(len(self.bills), calls, self.bills[-1], thinks).steps(self.form, stream)

    def _fault(self, body: Object) -> Object | None:
        """Why a request is not accepted."""
        for name in self.refuses:
            if _has(body, name):
                unknown = f"Unknown parameter: '{name}'."
                return _error(
                    self.form, unknown if "openai" in self.form else f"{name}: Extra inputs are not permitted", name
                )
        if self.form != "anthropic":
            return None
        marked = [block for block in _anthropic_blocks(body) if block.is_marked]
        count = len(marked) + (MARKER in body)
        if count > MAX_MARKERS:
            return _error(
                self.form, f"A maximum of 4 blocks with cache_control may be provided. Found {count}.", MARKER
            )
        if not all(_is_markable(block) for block in marked):
            return _error(self.form, "cache_control cannot be set for empty text blocks or thinking blocks", MARKER)
        return None

    def _pay(self, body: Object, model: str) -> None:
        """Bill a request by what is found, and store what it wants to be stored."""
        blocks = BLOCKS[self.form](body)
        if len(self.bills) % self.turns:
            self._compare(blocks)
        self._before = blocks
        owner = (body.get(KEY) or f"request {len(self.bills)}") if "openai" in self.form else ""
        prefixes = _prefixes(blocks, f"{model} {owner}")
        sought, kept = _places(self.form, body, blocks)
        kept = [place for place in kept if prefixes[place].tokens >= MIN_TOKENS]
        found = max((place for place in sought if prefixes[place].name in self._stored), default=0)
        end = found if self.form == "gemini" else max([found, *kept])
        self._stored.update(prefixes[place].name for place in kept)
        read, until = prefixes[found].tokens, prefixes[end].tokens
        self.bills.append(Bill(read, until - read, prefixes[-1].tokens - until))

    def _compare(self, blocks: list[Block]) -> None:
        """Note the first block that is not what it was in the request before."""
        for place, old in enumerate(self._before):
            new = blocks[place] if place < len(blocks) else Block(b"", False)
            if (old.raw, old.context) != (new.raw, new.context):
                was, now = _difference(old.raw + old.context.encode(), new.raw + new.context.encode())
                self.changes.append(f"request {len(self.bills) + 1}, block {place}: {was} -> {now}")
                return


def _places(form: str, body: Object, blocks: list[Block]) -> tuple[Sequence[int], list[int]]:
    """Where stored prefixes are looked for, and where they are stored: numbers of blocks."""
    everywhere = range(1, len(blocks) + 1)
    marked = [place for place in everywhere if blocks[place - 1].is_marked]
    if form == "gemini":
        return everywhere, list(everywhere)
    if form != "anthropic":
        implicit = body.get("prompt_cache_options", {}).get("mode") != "explicit"
        return everywhere, marked[-MAX_BREAKPOINTS:] + [len(blocks)] * implicit
    if MARKER in body:
        marked.append(next(place for place in reversed(everywhere) if _is_markable(blocks[place - 1])))
    near = {place for mark in marked for place in range(max(1, mark - LOOK_BACK_BLOCKS), mark + 1)}
    return sorted(near), marked


def _is_markable(block: Block) -> bool:
    value = json.loads(block.raw)
    return value.get("text") != "" and value.get("type") not in ("thinking", "redacted_thinking")


def _wants_thoughts(body: Object) -> bool:
    """Whether a request wants to see the model's reasoning, or to have it sealed."""
    config = body.get("generationConfig", {}).get("thinkingConfig", {})
    return (
        body.get("thinking", {}).get("type") in ("adaptive", "enabled")
        or "reasoning.encrypted_content" in (body.get("include") or ())
        or config.get("includeThoughts") is True
    )


def _is_in_loop(body: Object) -> bool:
    """Whether an Anthropic request brings the results of tools."""
    return any(part["type"] == "tool_result" for part in _parts(body["messages"][-1]["content"]))


def _has(value: Any, name: str) -> bool:
    if isinstance(value, dict):
        return name in value or any(_has(item, name) for item in value.values())
    return isinstance(value, list) and any(_has(item, name) for item in value)


def _error(form: str, message: str, name: str) -> Object:
    kind = "invalid_request_error"
    if form == "anthropic":
        return {"type": "error", "error": {"type": kind, "message": message}}
    if form == "gemini":
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
    return {"error": {"message": message, "type": kind, "param": name, "code": "unknown_parameter"}}


def _difference(old: bytes, new: bytes) -> tuple[str, str]:
    """Where two texts begin to differ."""
    place = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, place - 60)
    return old[start : place + 60].decode(errors="replace"), new[start : place + 60].decode(errors="replace")


# ---------------------------------------------------------------- loops


@contextlib.contextmanager
def served(service: Service) -> Iterator[Scripted]:
    """A service on a loopback port."""
    with upstream(choose=service.choose) as up:
        yield up


def directly(client: Client, service: Service) -> Service:
    """Run a client's loop without a proxy."""
    with served(service) as up:
        client.run(up.port, service.model, service.turns)
    return service


def through_proxy(client: Client, service: Service, **more: Any) -> Service:
    """Run a client's loop through the proxy, with more settings for its upstream."""
    quirks = {"quirks": ["prompt_cache_key"]} if service.form == "openai-chat" else {}
    with (
        served(service) as up,
        proxy(behind(up, service.form, models=[service.model], **{**quirks, **more})) as between,
    ):
        client.run(between.port, service.model, service.turns)
    return service


@functools.cache
def native_share(form: str, turns: int, pause_every: int = 0) -> float:
    """The share of the price that the client of a service's own format pays without a proxy."""
    return directly(Client(form), Service(form, turns, pause_every)).share


_CLIENTS: dict[str, dict[str, Any]] = {
    "anthropic": {"form": "anthropic"},
    "openai-chat": {"form": "openai-chat"},
    "openai-responses": {"form": "openai-responses"},
    "gemini": {"form": "gemini"},
    "anthropic, no markers": {"form": "anthropic", "marks": False},
    "openai-chat, no key": {"form": "openai-chat", "keyed": False},
    "gemini, no session": {"form": "gemini", "session": ""},
    "openai-chat, no thoughts": {"form": "openai-chat", "keeps_thoughts": False},
}


def main() -> None:
    """Print what loops cost beside the native client's, and what a conversion changed in between."""
    for turns, pause_every in ((30, 0), (100, 0), (30, 8)):
        asks = f", a question every {pause_every}" if pause_every else ""
        print(f"\n{f'{turns} requests' + asks:34}" + "".join(f"{form:>18}" for form in MODELS))
        shares = [native_share(form, turns, pause_every) for form in MODELS]
        print(f"{'native, share of the full price':34}" + "".join(f"{share:18.4f}" for share in shares))
        changes: dict[str, list[str]] = {}
        for name, options in _CLIENTS.items():
            services = [through_proxy(Client(**options), Service(form, turns, pause_every)) for form in MODELS]
            ratios = [service.share / share for service, share in zip(services, shares, strict=True)]
            print(f"{name:34}" + "".join(f"{ratio:18.3f}" for ratio in ratios))
            changes |= {f"{name} -> {service.form}": service.changes for service in services if service.changes}
        for pair, found in changes.items():
            print(f"{pair}: {len(found)} changes, the first: {found[0]}")


if __name__ == "__main__":
    main()
