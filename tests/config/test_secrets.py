"""Secret strings: what they are called, and which cannot be meant. No file is read here."""

from __future__ import annotations

import pytest

from ccproxy_lite.config.secrets import display_name, mask, why_invalid


def read_nothing(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


FILES = {"/run/key": "a-real-key\n", "/run/empty": "\n", "/run/todo": "changeme"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/run/key", None), ("/run/empty", "is empty"), ("/run/todo", "placeholder"), ("/run/none", "cannot be read")],
)
def test_files_are_read_by_whoever_is_asked_to(path: str, expected: str | None) -> None:
    def read(path: str) -> str:
        return FILES[path] if path in FILES else read_nothing(path)

    trouble = why_invalid(f"file:{path}", {}, read)
    assert trouble is None if expected is None else trouble is not None and expected in trouble


def test_labels_and_masks() -> None:
    assert display_name("$NAME") == "$NAME"
    assert display_name("file:/run/key") == "file:/run/key"
    assert display_name("cmd:helper --token abc") == "cmd:helper"
    assert display_name("sk-" + "0" * 20 + "abcd") == "...abcd"
    assert mask("short") == "***"


@pytest.mark.parametrize(
    "spec", ["changeme", "sk-xxx", "your-api-key", "<key>", "", " ", "...", "clé", "a\tb", "YOUR_API_KEY"]
)
def test_secrets_that_cannot_be_meant(spec: str) -> None:
    assert why_invalid(spec, {}, read_nothing)


@pytest.mark.parametrize("spec", ["sk-real-0123", "$NAME", "cmd:helper --x"])
def test_secrets_that_can(spec: str) -> None:
    assert why_invalid(spec, {"NAME": "a-real-key"}, read_nothing) is None
