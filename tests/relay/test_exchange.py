"""One call and its attempts: what is left behind when the client does not wait for the end."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support import (
    ANTHROPIC_ASK,
    ANTHROPIC_BODY,
    PATIENCE_S,
    STALL,
    FakeClock,
    ask,
    behind,
    connect,
    eventually,
    http,
    proxy,
    request_bytes,
    upstream,
)

LIMITED = http(429, {"type": "error", "error": {"type": "rate_limit_error", "message": "no"}}, retry_after="100000")
REFUSED = http(401, {"type": "error", "error": {"type": "authentication_error", "message": "no"}})


def test_a_probe_that_nobody_waits_for_may_be_made_again() -> None:
    clock = FakeClock()
    with upstream([LIMITED], [STALL], [http(200, ANTHROPIC_BODY)]) as up:
        with proxy({**behind(up, "anthropic"), "max_wait_s": 0}, clock=clock) as served:
            assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 429
            clock.time += 3601  # after an hour one request finds out whether the hint still holds
            with connect(served.port) as sock:
                sock.sendall(request_bytes("/v1/messages", ANTHROPIC_ASK))
                assert eventually(lambda: len(up.seen) == 2)
            assert up.gone.wait(PATIENCE_S)
            assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200


def test_so_may_one_whose_client_left_while_a_new_secret_was_looked_for(tmp_path: Path) -> None:
    clock, slow, began = FakeClock(), tmp_path / "slow", tmp_path / "began"
    script = tmp_path / "helper"
    script.write_text(
        f"import os, time\nif os.path.exists({str(slow)!r}):\n"
        f"    open({str(began)!r}, 'w').close()\n    time.sleep(60)\nprint('a-key-of-some-length')\n"
    )
    key = f"cmd:{sys.executable} {script}"
    with upstream([LIMITED], [REFUSED], [http(200, ANTHROPIC_BODY)]) as up:
        with proxy({**behind(up, "anthropic", keys=[key]), "max_wait_s": 0}, clock=clock) as served:
            assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 429
            clock.time += 3601
            served.run(served.parts.parts.vault.value, key, clock.time)  # so that the attempt needs no helper
            slow.touch()
            with connect(served.port) as sock:
                sock.sendall(request_bytes("/v1/messages", ANTHROPIC_ASK))
                assert eventually(began.exists)
            slow.unlink()
            assert eventually(lambda: served.call(lambda: served.parts.listener.connections) == 0)
            assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
    assert len(up.seen) == 3
