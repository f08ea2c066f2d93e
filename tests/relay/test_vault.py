"""Secrets at run time: read again when they are old or rejected, and redacted in texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio
import pytest

from ccproxy_lite.clock import Clock
from ccproxy_lite.errors import NO_SECRET, UpstreamError
from ccproxy_lite.providers.credentials import Secret, secret_of
from ccproxy_lite.relay import helpers
from ccproxy_lite.relay import vault as vaults
from ccproxy_lite.relay.vault import Vault
from tests.support import PATIENCE_S


def value(vault: Vault, spec: str, now: float = 0.0) -> str:
    return anyio.run(vault.value, spec, now)


def test_every_source(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("from-a-file\n")
    vault = Vault({"NAME": " from-the-environment "})
    assert value(vault, "$NAME") == value(vault, "${NAME}") == "from-the-environment"
    assert value(vault, f"file:{path}") == "from-a-file"
    assert value(vault, f"cmd:{sys.executable} -c 'print(\"from-a-helper\")'") == "from-a-helper"
    assert value(vault, "the-key-itself") == "the-key-itself"


def test_files_and_helpers_are_asked_again_after_five_minutes(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old-value")
    vault = Vault({})
    spec = f"file:{path}"
    assert value(vault, spec, 0) == "old-value"
    path.write_text("new-value")
    assert value(vault, spec, 299) == "old-value"
    assert value(vault, spec, 300) == "new-value"
    path.unlink()
    assert value(vault, spec, 1000) == "new-value"  # better an old key than none


def test_a_rejected_secret_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old-value")
    vault = Vault({})
    assert value(vault, f"file:{path}") == "old-value"
    path.write_text("new-value")
    assert value(vault, f"file:{path}") == "old-value"
    assert anyio.run(vault.value, f"file:{path}", 0.0, "old-value") == "new-value"
    assert anyio.run(vault.value, f"file:{path}", 0.0, "old-value") == "new-value"
    assert vault.peek(f"file:{path}") == "new-value"


def test_all_secrets_can_be_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old-value")
    vault = Vault({})
    changed: list[str] = []
    vault.on_change = changed.append
    assert value(vault, f"file:{path}") == "old-value"
    path.write_text("new-value")
    vault.forget()
    assert value(vault, f"file:{path}") == "new-value"
    assert changed == [f"file:{path}"]


@pytest.mark.parametrize("text", ["", "  ", "two words", "changeme", "a\nb"])
def test_a_file_that_holds_no_key_any_more_changes_nothing(tmp_path: Path, text: str) -> None:
    """Whoever writes it may not have finished."""
    path = tmp_path / "key"
    path.write_text("old-value")
    vault = Vault({})
    value(vault, f"file:{path}")
    path.write_text(text)
    assert value(vault, f"file:{path}", 300) == "old-value"
    path.write_text("new-value")
    assert value(vault, f"file:{path}", 310) == "old-value", "it is not read all the time"
    assert value(vault, f"file:{path}", 330) == "new-value"


def test_one_helper_runs_at_a_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"import time; open({str(log)!r}, 'a').write('x'); time.sleep(0.2); print('token-1')"
    vault = Vault({})
    found: list[str] = []

    async def ask() -> None:
        found.append(await vault.value(f'cmd:{sys.executable} -c "{program}"', 0.0))

    async def many() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask)

    anyio.run(many)
    assert found == ["token-1"] * 20
    assert log.read_text() == "x"


def test_a_refused_key_runs_the_helper_once_for_all_who_were_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"import time; open({str(log)!r}, 'a').write('x'); time.sleep(0.1); print('token-1')"
    spec = f'cmd:{sys.executable} -c "{program}"'
    vault = Vault({})

    async def again(now: float) -> None:
        assert await vault.value(spec, now, rejected="token-1") == "token-1"

    async def many() -> None:
        assert await vault.value(spec, 0.0) == "token-1"
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(again, 1.0)
        await again(10.0)
        assert log.read_text() == "xx"
        await again(31.1)
        assert log.read_text() == "xxx"

    anyio.run(many)


def test_a_helper_that_fails_runs_once_for_all_who_wait(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"import time; open({str(log)!r}, 'a').write('x'); time.sleep(0.2); raise SystemExit(1)"
    vault = Vault({})
    failed: list[str] = []

    async def ask() -> None:
        try:
            await vault.value(f'cmd:{sys.executable} -c "{program}"', 0.0)
        except UpstreamError as error:
            failed.append(error.code)

    async def many() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)

    anyio.run(many)
    assert failed == [NO_SECRET] * 10
    assert log.read_text() == "x"


def test_a_helper_that_hangs_with_a_known_key_is_left_alone_for_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "_TIMEOUT_S", 0.1)
    vault = Vault({})
    spec = f"cmd:{sys.executable} -c 'import time; time.sleep(60)'"
    vault._values[spec] = vaults._Value("token-1", 300.0)
    runs: list[str] = []
    read = vault._read_source

    async def counted(asked: str) -> str:
        runs.append(asked)
        return await read(asked)

    monkeypatch.setattr(vault, "_read_source", counted)
    assert [value(vault, spec, now) for now in (301, 340, 600, 602)] == ["token-1"] * 4
    assert len(runs) == 2


def test_a_source_that_works_again_is_news(tmp_path: Path) -> None:
    path = tmp_path / "key"
    vault = Vault({})
    changed: list[str] = []
    vault.on_change = changed.append
    with pytest.raises(UpstreamError):
        value(vault, f"file:{path}")
    path.write_text("a-value")
    assert value(vault, f"file:{path}") == "a-value"
    assert changed == [f"file:{path}"]


def test_redaction_survives_a_flood_of_new_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper issues tokens without end: only its oldest ones are forgotten, nothing else, and not the newest."""
    vault = Vault({"NAME": "super/secret+value"})
    vault.remember("a-proxy-password")
    value(vault, "$NAME")
    issued = iter(range(5_000))

    async def issue(reference: str) -> Secret:
        return Secret(f"token/{next(issued)}+")

    async def use() -> None:
        for number in range(5_000):
            token = await vault.value("cmd:issue", number * 1000.0)
            assert token not in vault._retired and token in vault._seen

    monkeypatch.setattr(vault, "_read_source", issue)
    anyio.run(use)
    assert vault.redact(r"super/secret+value super\/secret+value") == "[redacted] [redacted]"
    assert (
        vault.redact("a-proxy-password token/4321+ token/4999+ token/9+") == "[redacted] [redacted] [redacted] token/9+"
    )
    assert len(vault._seen) <= 4100


def test_redaction_knows_other_spellings() -> None:
    vault = Vault({"NAME": "secret/with+signs=="})
    value(vault, "$NAME")
    assert vault.redact(r"secret\/with+signs== secret%2Fwith%2Bsigns%3D%3D") == "[redacted] [redacted]"
    assert vault.redact_bytes(rb"secret\/with+signs==") == b"[redacted]"


def test_a_helper_does_not_block_the_loop() -> None:
    vault = Vault({})
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await anyio.sleep(0.01)
            beats += 1

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beat)
            await vault.value(f"cmd:{sys.executable} -c 'import time; time.sleep(0.3); print(1)'", 0.0)
            tasks.cancel_scope.cancel()

    anyio.run(both)
    assert beats > 10


@pytest.mark.parametrize(
    ("command", "message", "timeout_s"),
    [
        ("-c 'raise SystemExit(3)'", "exited with status 3", PATIENCE_S),
        ("-c pass", "printed nothing", PATIENCE_S),
        ("-c 'import time; time.sleep(60)'", "did not finish", 0.3),
    ],
)
def test_helpers_that_fail(command: str, message: str, timeout_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "_TIMEOUT_S", timeout_s)
    with pytest.raises(UpstreamError, match=message):
        value(Vault({}), f"cmd:{sys.executable} {command}")


def test_a_helper_gets_no_shell(tmp_path: Path) -> None:
    vault = Vault({})
    assert value(vault, f"cmd:{sys.executable} -c 'import sys; print(sys.argv[1])' $HOME;") == "$HOME;"


def test_redaction() -> None:
    vault = Vault({"NAME": "super-secret-value"})
    value(vault, "$NAME")
    vault.remember("tiny")
    assert vault.redact("a super-secret-value and tiny") == "a [redacted] and tiny"


@pytest.mark.parametrize("order", [0, 1])
def test_of_two_secrets_the_longer_is_redacted_first(order: int) -> None:
    vault, secrets = Vault({}), ["team-secret", "team-secret-2-abcdef"]
    for secret in secrets[::-1] if order else secrets:
        vault.remember(secret)
    assert vault.redact("a team-secret-2-abcdef b team-secret") == "a [redacted] b [redacted]"
    assert b"abcdef" not in vault.mask_bytes(b"team-secret-2-abcdef")
    assert Vault({}).redact("own-secret-1 own-secret", "own-secret-1") == "[redacted] own-secret"
    assert vault.redact("team-secret-2-abcdef", "team-secret-2") == "[redacted]"


class Wall(Clock):
    """A wall clock that stands still."""

    def wall(self) -> float:
        return 1_000_000.0


@pytest.mark.parametrize(("expires_in", "still", "again"), [(3600.0, 3374, 3376), (300.0, 149, 151), (None, 299, 300)])
def test_a_secret_that_expires_is_renewed_shortly_before(expires_in: float | None, still: float, again: float) -> None:
    vault, fetched = Vault({}), list[str]()
    vault.clock = Wall()

    async def fetch(reference: str) -> Secret:
        fetched.append(reference)
        return Secret(f"token-{len(fetched)}", None if expires_in is None else 1_000_000.0 + expires_in)

    vault.fetch = fetch
    assert value(vault, "google:", 0) == value(vault, "google:", still) == "token-1"
    assert value(vault, "google:", again) == "token-2"


def test_a_helper_s_token_with_an_end_is_kept_until_then(tmp_path: Path) -> None:
    count, helper = tmp_path / "count", tmp_path / "helper.py"
    printed = '{"access_token": "a-token-0123", "expires_in": 3600}'
    helper.write_text(f"open({str(count)!r}, 'a').write('x')\nprint({printed!r})\n")
    vault = Vault({})
    for now in (0, 1000, 3000, 3400):
        assert value(vault, f"cmd:{sys.executable} {helper}", now) == "a-token-0123"
    assert count.read_text() == "xx"


def test_the_parts_of_a_secret_are_redacted_and_nothing_else() -> None:
    vault = Vault({})

    async def fetch(reference: str) -> Secret:
        told = {"AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "the-secret-part", "SessionToken": "the-token-part"}
        return secret_of(json.dumps(told), 0.0)

    vault.fetch = fetch
    value(vault, "aws:")
    assert vault.redact("AKIDEXAMPLE the-secret-part/the-token-part") == "AKIDEXAMPLE [redacted]/[redacted]"


@pytest.mark.parametrize("reference", ["google:", "aws:"])
def test_where_nothing_can_be_fetched(reference: str) -> None:
    with pytest.raises(UpstreamError, match="cannot be read: nothing is fetched here"):
        value(Vault({}), reference)
