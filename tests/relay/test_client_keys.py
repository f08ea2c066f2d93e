"""A client's own key: in which header it goes on, and that what it is denied concerns it alone."""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy_lite.relay.client_keys import _MAX_RINGS, ClientRings
from tests.support import WIRES, FakeClock, ask, behind, http, proxy, upstream

KEY = "the-clients-own-key"
FORMS: dict[str, dict[str, str]] = {
    "bearer": {"authorization": f"Bearer {KEY}"},
    "x-api-key": {"x_api_key": KEY},
    "x-goog-api-key": {"x_goog_api_key": KEY},
    "parameter": {},
}
USUAL = {
    "anthropic": ("x-api-key", KEY),
    "openai-chat": ("authorization", f"Bearer {KEY}"),
    "openai-responses": ("authorization", f"Bearer {KEY}"),
    "gemini": ("x-goog-api-key", KEY),
}


@pytest.mark.parametrize("sent", FORMS)
@pytest.mark.parametrize("to", WIRES)
@pytest.mark.parametrize("client", WIRES)
def test_it_goes_on_in_one_header_as_the_makers_sdk_sends_it(client: str, to: str, sent: str) -> None:
    """Makers' SDKs send a key in the makers' header, or a token as a bearer: that form is kept where it can be."""
    wire = WIRES[client]
    with upstream([http(200, WIRES[to].body)]) as up, proxy(behind(up, to, keys="from-client")) as served:
        answer = ask(served.port, f"{wire.path}{f'?key={KEY}' if sent == 'parameter' else ''}", wire.ask, **FORMS[sent])
    assert answer.status == 200, answer
    (seen,) = up.seen
    name, value = ("authorization", f"Bearer {KEY}") if client == to and sent == "bearer" else USUAL[to]
    assert seen.header(name) == value
    assert (seen.head.count(KEY), KEY in seen.body.decode()) == (1, False)


@pytest.mark.parametrize("sent", FORMS)
def test_the_raw_relay_sends_it_too(sent: str) -> None:
    with upstream([http(200, {})]) as up, proxy(behind(up, "openai-chat", keys="from-client")) as served:
        path = "/api/provider/up/v1/embeddings" + (f"?key={KEY}" if sent == "parameter" else "")
        assert ask(served.port, path, {}, **FORMS[sent]).status == 200
    assert (up.seen[0].header("authorization"), up.seen[0].head.count(KEY)) == (f"Bearer {KEY}", 1)


def limited(seen: Any) -> Any:
    return [
        http(429, {"error": {"message": "slow down"}}, retry_after="50")
        if KEY in seen.head
        else http(200, WIRES["anthropic"].body)
    ]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/batches"])
def test_a_limit_is_the_clients_own(path: str) -> None:
    asked = WIRES["anthropic"].ask
    with upstream(choose=limited) as up:
        config = {**behind(up, "anthropic", keys="from-client"), "max_wait_s": 1}
        with proxy(config, clock=FakeClock()) as served:
            mine = [ask(served.port, path, asked, x_api_key=KEY) for _ in range(2)]
            other = ask(served.port, path, asked, x_api_key="somebody-elses-key")
            status = ask(served.port, "/status", None, "GET")
            metrics = ask(served.port, "/metrics", None, "GET").body.decode()
            assert [answer.status for answer in mine] == [429, 429]
            assert ([answer.headers["retry-after"] for answer in mine], other.status, len(up.seen)) == (
                ["50", "50"],
                200,
                2,
            )
            (key,) = status.json["upstreams"]["up"]["keys"]
            assert (key["label"][:7], len(key["cooldowns"]), KEY in status.body.decode()) == ("client-", 1, False)
            assert 'ccproxy_keys{upstream="up",state="cooling_down"} 1' in metrics
            assert ask(served.port, "/status", {"reset": key["label"]}).json["cleared"] == [f"up/{key['label']}"]
            ask(served.port, path, asked, x_api_key=KEY)
            assert len(up.seen) == 3


def test_rings_are_bounded_and_keep_no_key() -> None:
    rings = ClientRings()
    first = rings.ring("up", "key-0")
    for number in range(_MAX_RINGS):
        rings.ring("up", f"key-{number}")
    assert rings.ring("up", "key-0") is first
    rings.ring("up", "one-more")
    assert len(list(rings.of("up"))) == _MAX_RINGS
    assert rings.ring("up", "key-0") is first and rings.ring("other", "key-0") is not first
    assert "key-0" not in "".join(
        state.key.reference + state.key.label for ring in rings.of("up") for state in ring.states
    )
    rings.keep({"other"})
    assert list(rings.of("up")) == []


def test_no_key_has_nothing_to_remember() -> None:
    rings = ClientRings()
    assert rings.ring("up", "") is not rings.ring("up", "") and list(rings.of("up")) == []
