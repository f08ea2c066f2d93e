"""Captures, and running them again."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ccproxy_lite.cli.replay import main
from ccproxy_lite.errors import CcproxyError
from ccproxy_lite.relay.capture import as_bytes, as_text
from tests.conversions import convert_request, convert_response, convert_stream, sse_bytes
from tests.support import (
    ANTHROPIC_ASK,
    CHAT_ASK,
    CHAT_BODY,
    ECHO,
    LAST,
    PROGRAM_S,
    ROOT,
    STREAM_HEAD,
    WIRES,
    FakeClock,
    Seen,
    Step,
    ask,
    behind,
    chunk,
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


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_what_is_no_json_is_said_to_be_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    done = replay(file)
    assert (done.returncode, done.stderr.startswith(f"ccproxy-lite: {file} is not JSON")) == (2, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "is not a capture"),
        ("[]", "is not a capture"),
        ('{"capture": 99}', "is a capture of version 99; this program reads version 1"),
    ],
)
def test_what_is_no_capture_is_said_to_be_none(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    done = replay(file)
    assert (done.returncode, done.stderr) == (2, f"ccproxy-lite: {file} {words}\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = replay(tmp_path / "nothing.json")
    assert (done.returncode, done.stderr) == (2, f"ccproxy-lite: {tmp_path}/nothing.json: No such file or directory\n")


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


SPELLED = "odd/key-of-ours\\"


@pytest.mark.parametrize("cut", range(1, len(SECRET), 3))
def test_a_secret_that_is_cut_in_two_is_in_no_file(cut: int, tmp_path: Path) -> None:
    text = f"é {SECRET} is odd"
    whole = json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}, ensure_ascii=False).encode()
    at = whole.index(SECRET.encode()) + cut
    pieces = [b"data: " + whole[:at], whole[at:] + b"\n\n", b"data: [DONE]\n\n"]
    with upstream(
        [STREAM_HEAD, chunk(pieces[0]), lambda _: time.sleep(0.05), chunk(pieces[1]) + chunk(pieces[2]) + LAST]
    ) as up:
        with proxy(capturing(tmp_path, behind(up, "openai-chat", keys=[SECRET]))) as served:
            ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True})
            (file,) = captured(tmp_path)
    document = json.loads(file.read_text())
    response = document["attempts"][0]["response"]
    assert len(response["pieces"]) >= 2
    for pieces_of in (response["pieces"], document["answer"]["pieces"]):
        assert SECRET.encode() not in b"".join(as_bytes(piece) for _, piece in pieces_of)
    assert replay(file).returncode == 0


@pytest.mark.parametrize("form", ["plain", "escaped", "quoted", "binary"])
def test_a_secret_is_masked_however_it_is_spelled(form: str, tmp_path: Path) -> None:
    spelled = {
        "plain": SPELLED,
        "escaped": json.dumps(SPELLED)[1:-1].replace("/", "\\/"),
        "quoted": quote(SPELLED, safe=""),
        "binary": SPELLED,
    }[form]
    body = b'{"error": {"message": "' + spelled.encode() + b' is odd"}}' + (b"\xff\xfe" if form == "binary" else b"")
    with (
        upstream([http(400, body)]) as up,
        proxy(capturing(tmp_path, behind(up, "openai-chat", keys=[SPELLED]))) as served,
    ):
        ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "note": SPELLED})
        (file,) = captured(tmp_path)
    document = json.loads(file.read_text())
    texts = [
        as_bytes(document["client"]["body"]),
        *(as_bytes(piece) for _, piece in document["attempts"][0]["response"]["pieces"]),
    ]
    assert all(b"key-of-ours" not in text for text in texts)


def test_what_is_called_a_secret_is_blanked(tmp_path: Path) -> None:
    with upstream([http(200, WIRES["openai-chat"].body, x_session_token="token-of-the-service")]) as up:
        config = behind(up, "openai-chat", keys="from-client", headers={"x-tenant-token": "$header:X-Tenant-Token"})
        with proxy(capturing(tmp_path, config)) as served:
            path = "/v1/messages?%6Bey=the-clients-own-key&api_key=another-key&kept=1"
            ask(served.port, path, ANTHROPIC_ASK, x_tenant_token="token-of-a-tenant")
            (file,) = captured(tmp_path)
    text = file.read_text()
    for secret in ("the-clients-own-key", "another-key", "token-of-a-tenant", "token-of-the-service"):
        assert secret not in text
    assert "kept=1" in text


def test_a_client_key_that_is_a_word_breaks_no_file(tmp_path: Path) -> None:
    with upstream([http(200, WIRES["openai-chat"].body)]) as up:
        config = {**behind(up, "openai-chat"), "client_keys": ["anthropic"]}
        with proxy(capturing(tmp_path, config)) as served:
            ask(served.port, "/v1/messages", ANTHROPIC_ASK, x_api_key="anthropic")
            (file,) = captured(tmp_path)
    assert json.loads(file.read_text())["client"]["format"] == "anthropic"
    assert replay(file).returncode == 0


def test_other_peoples_files_of_such_names_stay(tmp_path: Path) -> None:
    others = [
        tmp_path / name for name in ("ccproxy-lite.json", "ccproxy-config.json", "ccproxy-20261130T000000-notes.json")
    ]
    for path in others:
        path.write_text("{}")
        os.utime(path, (1, 1))
    with (
        upstream([http(200, WIRES["openai-chat"].body)]) as up,
        proxy(capturing(tmp_path, behind(up, "openai-chat"), max_files=1)) as served,
    ):
        for number in range(3):
            ask(served.port, "/v1/messages", ANTHROPIC_ASK, x_request_id=f"number-{number}")
            assert eventually(
                lambda kept=number: [path.name[-6] for path in tmp_path.glob("ccproxy-*number*")] == [str(kept)]
            )
            (file,) = tmp_path.glob("ccproxy-*number*")
            os.utime(file, (number + 2, number + 2))  # the clock of a file system may be coarse
    assert all(path.exists() for path in others)


def test_the_same_id_at_the_same_time(tmp_path: Path) -> None:
    with process(capturing(tmp_path, ECHO)) as served:
        threads = [
            threading.Thread(
                target=ask, args=(served.port, "/v1/messages", ANTHROPIC_ASK), kwargs={"x_request_id": "same"}
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(captured(tmp_path, 8)) == 8
        assert "captures cannot be written" not in served.stderr


@pytest.mark.parametrize("folder", ["~nobody-of-that-name/x", "a\0b"])
def test_a_folder_that_can_be_none(folder: str) -> None:
    with proxy(capturing(Path("x"), ECHO) | {"capture": {"dir": folder}}) as served:
        assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
        assert not served.parts.server_state.metrics.errors


# ---------------------------------------------------------------- what else runs again


def test_a_refusal_runs_again(tmp_path: Path) -> None:
    """No upstream was asked, so there is no attempt."""
    with upstream([]) as up, proxy(capturing(tmp_path, behind(up, "openai-chat"))) as served:
        answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "top_k": 1}, x_ccproxy_strict="1")
        (file,) = captured(tmp_path)
    done = replay(file)
    assert (answer.status, done.returncode) == (400, 0), done
    assert "answer to the client: the same" in done.stdout


def test_a_missing_model_runs_again(tmp_path: Path) -> None:
    """The names that the service had are those of then."""
    missing = {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}

    def choose(seen: Seen) -> list[Step]:
        return [http(404, missing) if seen.body else http(200, {"data": [{"id": "my-m"}]})]

    with upstream(choose=choose) as up, proxy(capturing(tmp_path, behind(up, "openai-chat"))) as served:
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        (file,) = captured(tmp_path)
    done = replay(file)
    assert b"my-m" in answer.body and done.returncode == 0, done


def test_an_exchange_with_clients_own_keys_runs_again(tmp_path: Path) -> None:
    with (
        upstream([http(401, {"error": {"message": "no"}})]) as up,
        proxy(capturing(tmp_path, behind(up, "openai-chat", keys="from-client"))) as served,
    ):
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK, x_api_key="the-clients-own-key")
        (file,) = captured(tmp_path)
    assert (answer.status, replay(file).returncode) == (401, 0)


def test_an_exchange_that_began_with_a_keep_alive_runs_again(tmp_path: Path) -> None:
    script = [lambda _: time.sleep(0.6), http(400, {"error": {"message": "odd"}})]
    with upstream(script) as up:
        config = {**behind(up, "openai-chat"), "keepalive_s": 0.2}
        with proxy(capturing(tmp_path, config)) as served:
            answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True})
            (file,) = captured(tmp_path)
    done = replay(file)
    assert (answer.status, done.returncode) == (200, 0), done


def test_targets_that_were_passed_over_stay_so(tmp_path: Path) -> None:
    limited = http(429, {"error": {"message": "slow down"}}, retry_after="50")
    with upstream([limited]) as first, upstream([http(200, WIRES["openai-chat"].body)]) as second:
        config = behind(first, "anthropic")
        config["upstreams"]["other"] = behind(second, "openai-chat")["upstreams"]["up"]
        config["models"] = {"m": ["up/x", "other/y"]}
        with proxy(capturing(tmp_path, config), clock=FakeClock()) as served:
            for number in range(2):
                assert ask(served.port, "/v1/messages", ANTHROPIC_ASK, x_request_id=f"number-{number}").status == 200
            files = captured(tmp_path, 2)
    assert [replay(file).returncode for file in files] == [0, 0]
    assert sorted(len(json.loads(file.read_text())["attempts"]) for file in files) == [1, 2]


def test_a_client_that_left_before_the_answer_is_no_difference(tmp_path: Path) -> None:
    with upstream([lambda up: up.gone.wait(60)]) as up, proxy(capturing(tmp_path, behind(up, "openai-chat"))) as served:
        with connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/messages", ANTHROPIC_ASK))
            assert eventually(lambda: len(up.seen) == 1)
        (file,) = captured(tmp_path)
        up.gone.set()
    done = replay(file)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "request 1 to up/m: the same"), done


def test_text_completions_that_went_untouched_are_no_case(tmp_path: Path) -> None:
    body = {"choices": [{"text": "x", "index": 0, "finish_reason": "stop"}]}
    with (
        upstream([http(200, body)]) as up,
        proxy(capturing(tmp_path, behind(up, "openai-chat", quirks=["completions"]))) as served,
    ):
        assert ask(served.port, "/v1/completions", {"model": "m", "prompt": "hi"}).status == 200
        (file,) = captured(tmp_path)
    assert (replay(file).returncode, replay(file, "--case").stdout) == (0, "[]\n")


def test_a_secret_of_digits_stays_a_number(tmp_path: Path) -> None:
    with (
        upstream([http(200, WIRES["openai-chat"].body)]) as up,
        proxy(capturing(tmp_path, behind(up, "openai-chat", keys=["12345678"]))) as served,
    ):
        ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "top_k": 12345678})
        (file,) = captured(tmp_path)
    assert ("12345678" in file.read_text(), replay(file).returncode) == (False, 0)


def test_an_exchange_with_a_local_cli_runs_again(tmp_path: Path) -> None:
    env = {"NOTES": str(tmp_path / "notes"), "MODE": ""}
    entry = {"format": "claude-cli", "command": [sys.executable, str(ROOT / "tests/standin.py")], "env": env}
    with proxy(capturing(tmp_path / "files", {"upstreams": {"cli": entry}})) as served:
        ask(served.port, "/v1/chat/completions", CHAT_ASK)
        (file,) = captured(tmp_path / "files")
    done = replay(file)
    assert (done.returncode, done.stdout.count("the same")) == (0, 3), done
    asked, answered = json.loads(replay(file, "--case").stdout)
    assert (list(asked["to"]), answered["from"]) == (["anthropic"], "anthropic")


@pytest.mark.parametrize(
    "path", ["/s1/v1/messages", "/api/provider/up/v1/messages", "/api/provider/openai/v1/messages"]
)
def test_paths_run_again(path: str, tmp_path: Path) -> None:
    with upstream([http(200, WIRES["openai-chat"].body)]) as up:
        with proxy(capturing(tmp_path, behind(up, "openai-chat", quirks=["prompt_cache_key"]))) as served:
            assert ask(served.port, path, {**ANTHROPIC_ASK, "model": "a*b"}).status == 200
            (file,) = captured(tmp_path)
    assert replay(file).returncode == 0


def test_an_exchange_without_a_conversion_is_no_case(tmp_path: Path) -> None:
    with upstream([http(200, CHAT_BODY)]) as up, proxy(capturing(tmp_path, behind(up, "openai-chat"))) as served:
        ask(served.port, "/v1/chat/completions", CHAT_ASK)
        (file,) = captured(tmp_path)
    done = replay(file, "--case")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "no case: nothing was converted\n")


def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    with upstream([http(200, CHAT_BODY)]) as up, proxy(capturing(tmp_path, behind(up, "openai-chat"))) as served:
        ask(served.port, "/v1/chat/completions", CHAT_ASK)
        (file,) = captured(tmp_path)
    file.write_text(file.read_text().replace('"settings"', '"foo"'))
    done = replay(file)
    words = "is damaged, or was written by another version (KeyError: 'settings')"
    assert (done.returncode, done.stderr) == (2, f"ccproxy-lite: {file} {words}\n")


def test_hostile_files_are_told_so(tmp_path: Path) -> None:
    """Every member of a capture in turn is missing, or is something else."""
    with (
        upstream([http(200, WIRES["openai-chat"].body)]) as up,
        proxy(capturing(tmp_path, behind(up, "openai-chat"))) as served,
    ):
        ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        (file,) = captured(tmp_path)
    document = json.loads(file.read_text())
    places = [(document, name) for name in document] + [
        (document[name], inner) for name in ("client", "settings", "answer") for inner in document[name]
    ]
    places += [(document["attempts"][0], name) for name in document["attempts"][0]] + [
        (document["targets"][0]["upstream"], name) for name in document["targets"][0]["upstream"]
    ]
    for holder, name in places:
        before = holder[name]
        for other in (None, 5, "x", [], {}):
            holder[name] = other
            file.write_text(json.dumps(document))
            for options in ([], ["--case"]):
                assert (
                    main(Namespace(file=str(file), case=bool(options))) in (0, 1) if _is_fine(file, options) else True
                )
        holder[name] = before


def _is_fine(file: Path, options: list[str]) -> bool:
    try:
        main(Namespace(file=str(file), case=bool(options)))
    except CcproxyError:
        return False
    return True


def test_half_a_pair_of_surrogates_can_be_printed(tmp_path: Path) -> None:
    with (
        upstream([http(200, WIRES["openai-chat"].body)]) as up,
        proxy(capturing(tmp_path, behind(up, "openai-chat"))) as served,
    ):
        ask(
            served.port,
            "/v1/messages",
            b'{"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "\\ud83d"}]}',
        )
        (file,) = captured(tmp_path)
    assert [replay(file).returncode, replay(file, "--case").returncode] == [0, 0]


def test_a_large_request_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccproxy_lite.relay.tape.MAX_BYTES", 100_000)
    large = {**ANTHROPIC_ASK, "messages": [{"role": "user", "content": "x" * 90_000}]}
    with (
        upstream([http(200, WIRES["openai-chat"].body)]) as up,
        proxy(capturing(tmp_path, behind(up, "openai-chat"))) as served,
    ):
        assert ask(served.port, "/v1/messages", large).status == 200
        (file,) = captured(tmp_path)
    assert (json.loads(file.read_text())["is_cut"], file.stat().st_size < 120_000) == (True, True)
    assert "is larger than what is recorded" in replay(file).stderr


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


def test_a_folder_that_cannot_be_written_is_said_beside_a_command(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "proxy.json").write_text(json.dumps(ECHO))
    (tmp_path / "proxy.json").chmod(0o600)
    words = ["run", "--config", "proxy.json", "--capture", "file/x", "--", "true"]
    done = subprocess.run(
        [sys.executable, "-m", "ccproxy_lite", *words],
        env=clean_environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
    )
    assert (done.returncode, done.stderr) == (
        0,
        "ccproxy-lite: captures cannot be written to file/x: Not a directory\n",
    )


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
