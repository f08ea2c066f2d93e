"""Secrets: where they come from, and that they never show."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

from ccproxy_lite import secrets
from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.secrets import Vault, label, mask, problem


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


def test_a_refused_secret_is_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old-value")
    vault = Vault({})
    assert value(vault, f"file:{path}") == "old-value"
    path.write_text("new-value")
    vault.forget(f"file:{path}")
    assert value(vault, f"file:{path}") == "new-value"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("-c 'raise SystemExit(3)'", "exited with status 3"),
        ("-c pass", "printed nothing"),
        ("-c 'import time; time.sleep(60)'", "did not finish"),
    ],
)
def test_helpers_that_fail(command: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_HELPER_TIMEOUT_S", 0.3)
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


def test_labels_and_masks() -> None:
    assert label("$NAME") == "$NAME"
    assert label("file:/run/key") == "file:/run/key"
    assert label("cmd:helper --token abc") == "cmd:helper"
    assert label("sk-" + "0" * 20 + "abcd") == "...abcd"
    assert mask("short") == "***"


@pytest.mark.parametrize(
    "spec", ["changeme", "sk-xxx", "your-api-key", "<key>", "", " ", "...", "clé", "a\tb", "YOUR_API_KEY"]
)
def test_secrets_that_cannot_be_meant(spec: str) -> None:
    assert problem(spec, {})


@pytest.mark.parametrize("spec", ["sk-real-0123", "$NAME", "cmd:helper --x"])
def test_secrets_that_can(spec: str) -> None:
    assert problem(spec, {"NAME": "a-real-key"}) is None
