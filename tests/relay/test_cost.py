"""What an agent's loop costs through a conversion: not more than it would cost without one.

Clients of different formats send prompts of different length for the same conversation, so costs are not compared as they
are, but as shares of what the same requests would cost without any cache. A client may pay at most 1.05 times the share
that the client of the upstream's own format pays there without the proxy.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy_lite.formats.neutral.events import End, fold
from tests.billing import MODELS, Service, directly, native_share, served, through_proxy
from tests.loops import BILLING_HEADER, EPHEMERAL, Bill, Client
from tests.relay.test_pairs import events_of
from tests.support import WIRES, Answer, ask

FORMATS = list(MODELS)
PAIRS = [(client, form) for client in FORMATS for form in FORMATS]
MOST = 1.05


def check(client: Client, service: Service, **more: Any) -> None:
    """Run a loop through the proxy: what has been sent once is sent again as it was, and the cost is as it should be."""
    through_proxy(client, service, **more)
    assert service.changes == []
    assert len(service.bills) == service.turns
    assert service.share <= MOST * native_share(service.form, service.turns, service.pause_every)


@pytest.mark.parametrize(("client", "form"), PAIRS)
def test_a_loop(client: str, form: str) -> None:
    check(Client(client), Service(form, 30))


@pytest.mark.slow
@pytest.mark.parametrize(("client", "form"), PAIRS)
def test_a_long_loop(client: str, form: str) -> None:
    check(Client(client), Service(form, 100))


@pytest.mark.slow
@pytest.mark.parametrize(("client", "form"), PAIRS)
def test_whole_answers_and_more_questions(client: str, form: str) -> None:
    check(Client(client, stream=False), Service(form, 30, pause_every=8))


@pytest.mark.slow
@pytest.mark.parametrize(("client", "form"), PAIRS)
def test_without_the_thoughts(client: str, form: str) -> None:
    """Many clients do not send back reasoning and signatures; what stands in for them stays when the user asks again."""
    check(Client(client, keeps_thoughts=False), Service(form, 30, pause_every=8))


@pytest.mark.slow
@pytest.mark.parametrize("client", ["openai-chat", "openai-responses", "gemini"])
def test_without_the_thoughts_at_an_older_model(client: str) -> None:
    """There thinking is off in a tool loop without thoughts, and on again with each question, which stores it anew."""
    service = Service("anthropic", 30, pause_every=8, model="claude-sonnet-4-5")
    through_proxy(Client(client, keeps_thoughts=False), service)
    assert MOST < service.share / native_share("anthropic", 30, 8) < 1.7


@pytest.mark.slow
@pytest.mark.parametrize("client", ["anthropic", "openai-responses", "gemini"])
def test_thoughts_at_the_beginning_of_a_turn_only(client: str) -> None:
    """As older models think: thinking stays on in the whole loop."""
    check(Client(client), Service("anthropic", 30, pause_every=8, model="claude-haiku-4-5", thinks_once=True))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["openai-chat", "openai-responses", "anthropic"])
@pytest.mark.parametrize("client", ["openai-chat", "openai-responses"])
def test_without_a_key(client: str, form: str) -> None:
    """An OpenAI client may leave its key out; to a service of its own format its requests go as they are."""
    service = Service(form, 30)
    if client == form:
        assert through_proxy(Client(client, keyed=False), service).share > 1
    else:
        check(Client(client, keyed=False), service)


@pytest.mark.parametrize("client", ["openai-chat", "openai-responses", "gemini"])
def test_where_the_host_marks_the_end(client: str) -> None:
    check(Client(client), Service("anthropic", 30), quirks=["automatic_caching"])


def test_the_full_price_where_nothing_is_added() -> None:
    assert through_proxy(Client("openai-chat"), Service("anthropic", 12), prompt_cache="off").share == 1.0


def test_without_a_session() -> None:
    check(Client("gemini", session=""), Service("openai-responses", 30))


@pytest.mark.parametrize(
    ("client", "form", "name"),
    [
        ("openai-responses", "anthropic", "cache_control"),
        ("anthropic", "openai-chat", "prompt_cache_key"),
        ("gemini", "openai-responses", "prompt_cache_breakpoint"),
    ],
)
def test_a_refusal_is_met_once(client: str, form: str, name: str) -> None:
    """The client does not hear of it, and later requests do without the field."""
    service = Service(form, 4, refuses=[name])
    through_proxy(Client(client), service)
    assert (len(service.bills), service.refused) == (4, 1)


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_format_costs_the_same(form: str) -> None:
    assert through_proxy(Client(form), Service(form, 12)).bills == directly(Client(form), Service(form, 12)).bills


# ---------------------------------------------------------------- the services themselves

ASK: dict[str, dict[str, Any]] = {
    form: {**WIRES[form].ask, **({} if form == "gemini" else {"model": "m"})} for form in FORMATS
}


def text(tokens: int, word: str = "word", **more: Any) -> dict[str, Any]:
    """A block of about so many tokens."""
    return {"type": "text", "text": f"{word} ".ljust(4 * tokens, "x"), **more}


def marked(block: dict[str, Any]) -> dict[str, Any]:
    return {**block, **EPHEMERAL}


def said(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request to the Anthropic service."""
    return {**ASK["anthropic"], "messages": [{"role": "user", "content": list(blocks)}], **more}


def chatted(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request to the Chat service."""
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}], "prompt_cache_key": "k", **more}


def breaking(block: dict[str, Any]) -> dict[str, Any]:
    return {**block, "prompt_cache_breakpoint": {"mode": "explicit"}}


def answers(form: str, *bodies: dict[str, Any], **options: Any) -> tuple[Service, list[Answer]]:
    service = Service(form, **options)
    with served(service) as up:
        return service, [ask(up.port, WIRES[form].path, body) for body in bodies]


def bills(form: str, *bodies: dict[str, Any]) -> list[Bill]:
    service, got = answers(form, *bodies)
    assert [answer.status for answer in got] == [200] * len(bodies), got
    return service.bills


class TestAnthropic:
    def test_nothing_is_stored_without_markers(self) -> None:
        assert directly(Client("anthropic", marks=False), Service("anthropic", 12)).share == 1.0

    def test_a_loop_reads_what_it_has_written(self) -> None:
        service = directly(Client("anthropic"), Service("anthropic", 12))
        assert service.bills[0].read == 0
        for before, bill in zip(service.bills, service.bills[1:], strict=False):
            assert bill.read == before.read + before.written
        assert sum(bill.plain for bill in service.bills) == 0

    @pytest.mark.parametrize("count", [4, 5])
    def test_at_most_four_markers(self, count: int) -> None:
        blocks = [marked(text(10, str(number))) for number in range(4)]
        body = said(*blocks, **(EPHEMERAL if count == 5 else {}))
        _, [answer, more] = answers("anthropic", body, said(*blocks, system=[marked(text(10))]))
        assert answer.status == (200 if count == 4 else 400)
        assert more.status == 400 and b"Found 5" in more.body

    @pytest.mark.parametrize(
        "block", [{"type": "text", "text": ""}, {"type": "thinking", "thinking": "hm", "signature": "s"}]
    )
    def test_what_cannot_be_marked(self, block: dict[str, Any]) -> None:
        _, [answer, automatic] = answers("anthropic", said(marked(block)), said(text(9), block, **EPHEMERAL))
        assert answer.status == 400 and automatic.status == 200

    def test_a_short_prompt_is_not_stored(self) -> None:
        body = said(marked(text(900)))
        assert [bill[:2] for bill in bills("anthropic", body, body)] == [(0, 0), (0, 0)]

    @pytest.mark.parametrize(("blocks", "is_found"), [(20, True), (21, False)])
    def test_how_far_is_looked_back(self, blocks: int, is_found: bool) -> None:
        more = [text(10, str(number)) for number in range(blocks)]
        first, later = said(marked(text(2000))), said(text(2000), *more[:-1], marked(more[-1]))
        again = said(marked(text(2000)), *more[:-1], marked({**more[-1], "text": "other"}))
        stored, found, marked_twice = bills("anthropic", first, later, again)
        assert stored.written > 2000
        assert found.read == (stored.written if is_found else 0)
        assert marked_twice.read >= stored.written

    def test_a_changed_id_is_not_found(self) -> None:
        def body(name: str) -> dict[str, Any]:
            call = {"type": "tool_use", "id": name, "name": "Read", "input": {}}
            return said(text(2000), call, marked(text(10)))

        same, other = bills("anthropic", body("a"), body("a")), bills("anthropic", body("a"), body("b"))
        assert same[1].read == same[0].written and same[1].written == 0
        assert other[1].read == 0 and other[1].written == other[0].written

    @pytest.mark.parametrize(
        ("change", "is_system_found"),
        [
            ({"tool_choice": {"type": "any"}}, True),
            ({"thinking": {"type": "adaptive"}}, True),
            ({"tools": [{"name": "Read"}]}, False),
        ],
    )
    def test_what_a_changed_setting_leaves(self, change: dict[str, Any], is_system_found: bool) -> None:
        system = [marked(text(2000))]
        first, later = bills(
            "anthropic", said(marked(text(3000)), system=system), said(marked(text(3000)), system=system, **change)
        )
        assert first.written > 5000 and later.written >= 3000
        assert (2000 < later.read < 3000) is is_system_found

    def test_the_setting_for_all_marks_the_last_block(self) -> None:
        first, later = bills("anthropic", said(text(2000), **EPHEMERAL), said(text(2000), text(50), **EPHEMERAL))
        assert first.plain == 0 and later.read == first.written and later.plain == 0

    def test_the_billing_header_is_not_part_of_the_prompt(self) -> None:
        def body(number: int) -> dict[str, Any]:
            return said(system=[{"type": "text", "text": f"{BILLING_HEADER} {number}"}, marked(text(2000))])

        first, later = bills("anthropic", body(1), body(2))
        assert later.read == first.written


@pytest.mark.parametrize("client", ["openai-chat", "openai-responses"])
class TestOpenAILoops:
    def test_nothing_is_found_without_a_key(self, client: str) -> None:
        service = directly(Client(client, keyed=False), Service(client, 12))
        assert service.share == 1.25

    def test_a_loop_reads_what_it_has_written(self, client: str) -> None:
        service = directly(Client(client), Service(client, 12))
        for before, bill in zip(service.bills, service.bills[1:], strict=False):
            assert bill.read == before.read + before.written


class TestOpenAI:
    def test_a_shorter_prefix_is_not_found(self) -> None:
        first, later = bills("openai-chat", chatted(text(2000), text(50)), chatted(text(2000), text(50, "other")))
        assert later.read == 0 and later.written == first.written

    def test_an_explicit_breakpoint_is_found(self) -> None:
        first, later = bills(
            "openai-chat", chatted(breaking(text(2000)), text(50)), chatted(text(2000), text(50, "other"))
        )
        assert 2000 < later.read < first.written

    def test_the_last_three_breakpoints_are_stored(self) -> None:
        parts = [breaking(text(2000, str(number))) for number in range(4)]
        _, first, second = bills("openai-chat", chatted(*parts), chatted(parts[0]), chatted(*parts[:2]))
        assert first.read == 0 and second.read > first.written

    def test_only_explicit_ones(self) -> None:
        options = {"prompt_cache_options": {"mode": "explicit"}}
        one, two = bills("openai-chat", *[chatted(text(2000), **options)] * 2)
        assert one == two and one.written == two.read == 0

    def test_another_key(self) -> None:
        one, two = bills("openai-chat", chatted(text(2000)), chatted(text(2000), prompt_cache_key="other"))
        assert one == two and two.read == 0


def test_gemini_reads_what_two_prompts_have_in_common() -> None:
    def body(*words: str) -> dict[str, Any]:
        return {"contents": [{"role": "user", "parts": [{"text": text(1500, word)["text"]} for word in words]}]}

    first, later, other = bills("gemini", body("a", "b"), body("a", "c"), body("b", "a"))
    assert first.read == other.read == 0 and 1500 < later.read < 1600
    assert {first.written, later.written, other.written} == {0}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_service_reports_what_it_bills(form: str, stream: bool) -> None:
    """Of a request that reads a part of its prompt and writes the rest."""
    client, service = Client(form, stream), Service(form)
    with served(service) as up:
        client.run(up.port, MODELS[form], 1)
        path, body = client.request(MODELS[form])
        answer = ask(up.port, path, body)
    read, written, plain = service.bills[-1]
    _, end = fold(events_of(form, answer, stream))
    assert isinstance(end, End) and end.usage is not None and read > 1024
    assert (end.usage.cache_read, end.usage.cache_write, end.usage.input) == (read, written, plain)
    assert (written, plain)[form == "gemini"] > 0
    assert service.tokens == sum(sum(bill) for bill in service.bills) > service.cost


def test_a_service_notes_what_has_changed() -> None:
    service, _ = answers(
        "anthropic", said(text(5, "one")), said(text(5, "one"), text(5)), said(text(5, "two"), text(5))
    )
    [change] = service.changes
    assert change.startswith("request 3, block 0: ") and "one" in change and "two" in change


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("anthropic", "cache_control", "cache_control: Extra inputs are not permitted"),
        ("openai-chat", "prompt_cache_key", "Unknown parameter: 'prompt_cache_key'."),
        ("openai-responses", "prompt_cache_breakpoint", "Unknown parameter: 'prompt_cache_breakpoint'."),
    ],
)
def test_a_service_that_does_not_know_a_field(form: str, name: str, message: str) -> None:
    body = {**WIRES[form].ask, "deep": [{name: {"type": "ephemeral"}}]}
    service, [refused, answer] = answers(form, body, WIRES[form].ask, refuses=[name])
    assert refused.status == 400 and json.loads(refused.body)["error"]["message"] == message
    assert answer.status == 200 and len(service.bills) == 1
