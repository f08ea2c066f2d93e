"""Captures, and running them again."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.relay.capture import as_bytes, as_text
from tests.conversions import convert_request, convert_response, convert_stream, sse_bytes
from tests.support import (
    ANTHROPIC_ASK,
    ECHO,
    PROGRAM_S,
    WIRES,
    FakeClock,
    ask,
    behind,
    clean_environment,
    connect,
    eventually,
    http,
    process,
    proxy,
    request_bytes,
    upstream,
)

SECRET = "upstream-key-one"


def replay(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ccproxy_lite", "replay", *options, str(path)]
    return subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(path.parent), timeout=PROGRAM_S
    )


def captured(folder: Path, count: int = 1) -> list[Path]:
    """The files of a folder, once there are so many; the oldest first."""
    assert eventually(lambda: len(list(folder.glob("*.json"))) >= count)
    return sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)


def capturing(folder: Path, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**config, "capture": {"dir": str(folder), **more}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", WIRES)
@pytest.mark.parametrize("client", WIRES)
def test_a_capture_runs_again_and_brings_the_same(client: str, form: str, stream: bool, tmp_path: Path) -> None:
    wire, script = WIRES[client], WIRES[form].stream if stream else [http(200, WIRES[form].body)]
    path, body = wire.asked(stream)
    with upstream(script) as up, proxy(capturing(tmp_path, behind(up, form))) as served:
        answer = ask(served.port, path, body)
        (file,) = captured(tmp_path)
    assert answer.status == 200
    document = json.loads(file.read_text())
    assert as_bytes(document["client"]["body"]) == json.dumps(body).encode()
    assert b"".join(as_bytes(piece) for _, piece in document["answer"]["pieces"]) == answer.body
    assert as_bytes(document["attempts"][0]["request"]["body"]) == up.seen[0].body
    assert (document["attempts"][0]["response"]["status"], document["answer"]["complete"]) == (200, True)
    done = replay(file)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.splitlines() == [
        "request 1 to up/m: the same",
        "answer to the client: the same",
        "dropped: the same",
    ]


def test_a_failover_runs_again(tmp_path: Path) -> None:
    limited = http(429, {"error": {"message": "slow down"}}, retry_after="3")
    with upstream([limited], [http(500, {})], WIRES["openai-chat"].stream) as up:
        config = behind(up, "openai-chat", keys=["key-number-one-of-two", "key-number-two-of-two"])
        with proxy(capturing(tmp_path, config), clock=FakeClock()) as served:
            answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True, "top_k": 3})
            (file,) = captured(tmp_path)
    document = json.loads(file.read_text())
    assert [one["failed"] and one["failed"]["status"] for one in document["attempts"]] == [429, 500, None]
    assert (document["attempts"][0]["dropped"], answer.headers["x-ccproxy-dropped"]) == (["top_k"], "top_k")
    done = replay(file)
    assert (done.returncode, done.stdout.count("the same")) == (0, 5), done


def test_what_differs_is_shown(tmp_path: Path) -> None:
    with upstream(WIRES["openai-chat"].stream) as up, proxy(capturing(tmp_path, behind(up, "openai-chat"))) as served:
        ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True})
        (file,) = captured(tmp_path)
    file.write_text(
        file.read_text().replace("text_delta", "other_delta").replace('\\"max_tokens\\":50', '\\"max_tokens\\":51')
    )
    done = replay(file)
    assert done.returncode == 1
    assert "request 1 to up/m: differs" in done.stdout
    assert '  - "max_tokens": 51,\n  + "max_tokens": 50,\n' in done.stdout
    assert (
        "answer to the client: differs" in done.stdout and "other_delta" in done.stdout and "text_delta" in done.stdout
    )


@pytest.mark.parametrize("text", ["", "{}", '{"capture": 99}', "[]", "\x00"])
def test_what_is_no_capture_is_said_to_be_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    done = replay(file)
    assert (done.returncode, done.stderr) == (2, f"ccproxy-lite: {file} is not a capture of this version\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = replay(tmp_path / "nothing.json")
    assert (done.returncode, done.stderr) == (1, f"ccproxy-lite: {tmp_path}/nothing.json: No such file or directory\n")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("client", "form"), [("anthropic", "openai-chat"), ("openai-responses", "gemini"), ("gemini", "anthropic")]
)
def test_its_cases_are_cases_of_the_tests(client: str, form: str, stream: bool, tmp_path: Path) -> None:
    script = WIRES[form].stream if stream else [http(200, WIRES[form].body)]
    path, body = WIRES[client].asked(stream)
    with upstream(script) as up, proxy(capturing(tmp_path, behind(up, form))) as served:
        ask(served.port, path, body)
        (file,) = captured(tmp_path)
    done = replay(file, "--case")
    assert done.returncode == 0, done
    asked, answered = json.loads(done.stdout)
    ((target, expected),) = asked["to"].items()
    outgoing = convert_request({**asked, **expected, "to": target})
    stripped = {name: value for name, value in expected["expect"].items() if name not in ("stream", "stream_options")}
    assert {
        name: value for name, value in outgoing.body.items() if name not in ("stream", "stream_options")
    } == stripped
    answered["to"] = client
    if stream:
        assert convert_stream(answered, [sse_bytes(answered["stream"])])[0]
    else:
        assert convert_response(answered)[0]


# ---------------------------------------------------------------- the files


def test_no_secret_is_in_a_file_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    quoting = http(401, {"error": {"message": f"{SECRET} is wrong"}}, set_cookie="session=cookie-of-the-service")
    with upstream([quoting], [http(200, WIRES["openai-chat"].body)]) as up:
        config = behind(up, "openai-chat", keys=[SECRET, "upstream-key-two"])
        config["client_keys"] = ["client-key-of-ours"]
        with proxy(capturing(folder, config)) as served:
            ask(
                served.port,
                "/v1/messages?key=client-key-of-ours",
                ANTHROPIC_ASK,
                x_api_key="client-key-of-ours",
                cookie="a=cookie-of-the-client",
            )
            (file,) = captured(folder)
    text = file.read_text()
    for secret in (SECRET, "upstream-key-two", "client-key-of-ours", "cookie-of"):
        assert secret not in text
    assert text.count("[redacted]") >= 5
    assert [stat.S_IMODE(os.stat(one).st_mode) for one in (file, folder)] == [0o600, 0o700]


def test_a_clients_own_key_is_not_in_a_file(tmp_path: Path) -> None:
    quoting = http(400, {"error": {"message": "the-clients-own-key is odd"}})
    with upstream([quoting]) as up, proxy(capturing(tmp_path, behind(up, "openai-chat", keys="from-client"))) as served:
        ask(served.port, "/v1/messages", ANTHROPIC_ASK, authorization="Bearer the-clients-own-key")
        (file,) = captured(tmp_path)
    assert "the-clients-own-key" in up.seen[0].head and "the-clients-own-key" not in file.read_text()


def test_the_oldest_go_first_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    with upstream([http(200, WIRES["openai-chat"].body)]) as up:
        with proxy(capturing(tmp_path, behind(up, "openai-chat"), max_files=2)) as served:
            for number in range(4):
                ask(served.port, "/v1/messages", ANTHROPIC_ASK, x_request_id=f"number-{number}")
                assert eventually(lambda number=number: list(tmp_path.glob(f"*number-{number}.json")))  # type: ignore[misc]
            assert eventually(lambda: len(list(tmp_path.glob("ccproxy-*"))) == 2)
    assert sorted(path.name.rpartition("-")[2] for path in tmp_path.glob("ccproxy-*")) == ["2.json", "3.json"]
    assert (tmp_path / "mine.json").exists()


def test_their_size_is_bounded(tmp_path: Path) -> None:
    large = {**ANTHROPIC_ASK, "messages": [{"role": "user", "content": "x" * 700_000}]}
    with (
        upstream([http(200, WIRES["anthropic"].body)]) as up,
        proxy(capturing(tmp_path, behind(up, "anthropic"), max_mb=3)) as served,
    ):
        for number in range(4):
            ask(served.port, "/v1/messages", large, x_request_id=f"number-{number}")
            assert eventually(lambda number=number: list(tmp_path.glob(f"*number-{number}.json")))  # type: ignore[misc]
        assert eventually(lambda: len(list(tmp_path.glob("ccproxy-*.json"))) == 2)


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with process(capturing(tmp_path / "file" / "folder", ECHO)) as served:
        assert [ask(served.port, "/v1/messages", ANTHROPIC_ASK).status for _ in range(3)] == [200] * 3
        assert eventually(lambda: "captures cannot be written" in served.stderr)
        assert served.stderr.count("captures cannot be written") == 1


def test_a_client_that_leaves_is_captured_too(tmp_path: Path) -> None:
    with (
        upstream([*WIRES["openai-chat"].stream[:2], lambda up: up.gone.wait(60)]) as up,
        proxy(capturing(tmp_path, behind(up, "openai-chat"))) as served,
    ):
        with connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}))
            assert b"hel" in sock.recv(100_000)
        (file,) = captured(tmp_path)
        up.gone.set()
    document = json.loads(file.read_text())
    assert (document["answer"]["complete"], document["attempts"][0]["response"]["ended"]) == (False, False)
    assert replay(file).returncode == 0


def test_the_option_of_serve(tmp_path: Path) -> None:
    with process(ECHO, "--capture", str(tmp_path / "here")) as served:
        ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        (file,) = captured(tmp_path / "here")
    assert replay(file).returncode == 0


@pytest.mark.parametrize("data", [b"text", b"", b"\xff\x00", "é\ud83d".encode("utf-8", "surrogatepass")])
def test_bytes_survive(data: bytes) -> None:
    assert as_bytes(json.loads(json.dumps(as_text(data)))) == data
