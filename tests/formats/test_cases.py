"""The conversion cases in ``tests/cases``: data, readable as documentation.

A request case holds the client's ``request`` in the format ``from`` and expects the whole body for the upstream that
speaks ``to``; or names in ``refused`` the path that the 400 must name. Optional: ``model`` (the target's), ``quirks``,
``strict``, ``dropped`` (the paths in ``x-ccproxy-dropped``, none if absent).

An answer case holds an upstream's ``response`` (a body) or ``stream`` (a list of events) in the format ``from`` and
expects the whole body that the client, speaking ``to``, ends up with; a failure is ``{"error": {"kind", "message"}}``.
Optional: ``asked`` (members of the client's request), ``emits`` (the exact payloads of the stream for the client).

``rows`` says which known fact a case shows: ``b`` and a number for a bug that users of other proxies met, ``m`` and a
section for a rule of the formats. ``python -m tests.coverage`` prints how the cases cover the topics of every pair.
"""

from __future__ import annotations

import pytest

from ccproxy_lite.errors import ClientError, UpstreamError
from tests import conversions as run
from tests.coverage import gaps

CASES = run.load()


def test_no_cell_of_topic_and_pair_is_empty() -> None:
    assert gaps() == []


def of_kind(kind: str) -> list[object]:
    return [pytest.param(case, id=case["name"]) for case in CASES if kind in case]


@pytest.mark.parametrize("case", of_kind("request"))
def test_request(case: run.Case) -> None:
    if "refused" in case:
        with pytest.raises(ClientError) as caught:
            run.convert_request(case)
        assert caught.value.status == 400
        assert case["refused"] in caught.value.message
        return
    outgoing = run.convert_request(case)
    assert outgoing.body == case["expect"]
    assert sorted(outgoing.dropped) == sorted(case.get("dropped", []))


@pytest.mark.parametrize("case", of_kind("response"))
def test_response(case: run.Case) -> None:
    if case["expect"].get("error"):
        with pytest.raises(UpstreamError) as caught:
            run.convert_response(case)
        assert case["expect"]["error"] == {"kind": caught.value.kind, "message": caught.value.message}
        return
    assert run.convert_response(case) == case["expect"]


@pytest.mark.parametrize("case", of_kind("stream"))
def test_stream(case: run.Case) -> None:
    raw = run.sse_bytes(case["stream"])
    sse = run.convert_stream(case, [raw])
    assert run.whole_of(case, sse) == case["expect"]
    if "emits" in case:
        assert run.payloads(sse) == case["emits"]
    events = raw.split(b"\n\n")
    assert run.convert_stream(case, [event + b"\n\n" for event in events[:-1]]) == sse
    assert run.convert_stream(case, [raw[i : i + 1] for i in range(len(raw))]) == sse
    assert run.convert_stream(case, [raw.replace(b"\n", b"\r\n")]) == sse
