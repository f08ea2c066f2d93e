"""Secrets that a cloud gives, over real sockets: fetched, kept until they expire, renewed, and what is said if not."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.clouds import AWS, TOKEN, Plain, Refused, Request, Sky, clouds
from tests.support import Proxy, ask, free_port, proxy

pytest.importorskip("trustme", reason="trustme is not installed")
pytest.importorskip("botocore", reason="botocore is not installed: it judges signatures")

LOGIN = {"type": "authorized_user", "client_id": "id-1", "client_secret": "secret-1", "refresh_token": "refresh-1"}
ASK = {"model": "claude-sonnet-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def sky() -> Iterator[Sky]:
    with clouds() as made:
        yield made


@pytest.fixture(autouse=True)
def trust(sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", sky.ca_file)
    sky.seen.clear()
    sky.refused.clear()
    sky.scripts.clear()


def hosts(sky: Sky) -> list[str]:
    return [one.host for one in sky.seen]


def vertex(sky: Sky, **more: Any) -> dict[str, Any]:
    entry = {"format": "anthropic", "provider": "vertex", "project": "p-1", "location": "us-east5"}
    return {"upstreams": {"up": {**entry, **sky.reach, **more}}}


def bedrock(sky: Sky, **more: Any) -> dict[str, Any]:
    return {
        "upstreams": {"up": {"format": "anthropic", "provider": "bedrock", "region": "us-east-1", **sky.reach, **more}}
    }


class Local:
    """A server of this machine over plain HTTP, such as a metadata server."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.seen: list[tuple[str, str, dict[str, str]]] = []


@contextlib.contextmanager
def local(**answers: Any) -> Iterator[tuple[Local, str]]:
    state = Local(answers)

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            state.seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
            answer = state.answers.get(self.path.rpartition("/")[2] or "index", (404, "not here"))
            status, said = answer if isinstance(answer, tuple) else (200, answer)
            body = (said if isinstance(said, str) else json.dumps(said)).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = _respond

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state, f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def said(served: Proxy, status: int = 200) -> Any:
    answer = ask(served.port, "/v1/messages", ASK)
    assert answer.status == status, answer.body
    return answer.json


# ---------------------------------------------------------------- Google


def test_a_login_is_exchanged_once_and_its_token_kept(sky: Sky, tmp_path: Path) -> None:
    path = tmp_path / "adc.json"
    path.write_text(json.dumps({**LOGIN, "quota_project_id": "who-pays"}))
    with proxy(vertex(sky, keys=[f"google:{path}"]), sky.environ()) as served:
        said(served)
        said(served)
    assert hosts(sky) == [
        "oauth2.googleapis.com",
        "us-east5-aiplatform.googleapis.com",
        "us-east5-aiplatform.googleapis.com",
    ]
    assert sky.seen[-1].get("x-goog-user-project") == "who-pays"


def test_without_keys_the_file_of_gcloud_is_used(sky: Sky, tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "gcloud"
    folder.mkdir(parents=True)
    (folder / "application_default_credentials.json").write_text(json.dumps(LOGIN))
    with proxy(vertex(sky), {**sky.environ(), "HOME": str(tmp_path)}) as served:
        said(served)
        assert served.parts.relay.config.upstreams[0].source == "application default credentials"
    assert sky.seen[-1].get("x-goog-user-project") == ""


def test_the_metadata_server_is_asked_and_never_through_a_proxy(sky: Sky) -> None:
    with local(token={"access_token": TOKEN, "expires_in": 3599}) as (metadata, address):
        environ = {**sky.environ(), "HTTP_PROXY": sky.proxy, "GCE_METADATA_HOST": address}
        with proxy(vertex(sky), environ) as served:
            said(served)
        method, path, headers = metadata.seen[0]
        assert (method, path) == ("GET", "/computeMetadata/v1/instance/service-accounts/default/token")
        assert headers["metadata-flavor"] == "Google" and headers["host"] == address
    assert hosts(sky) == ["us-east5-aiplatform.googleapis.com"]


def test_an_expired_token_is_renewed_once_and_then_the_client_hears_502(sky: Sky, tmp_path: Path) -> None:
    path = tmp_path / "adc.json"
    path.write_text(json.dumps(LOGIN))
    tokens = iter(["ya29.old-and-expired-0123", "ya29.just-as-bad-012345"])

    def stale(request: Request) -> Plain:
        return Plain("", b"", answer={"access_token": next(tokens), "expires_in": 3599})

    with proxy(vertex(sky, keys=[f"google:{path}"]), sky.environ()) as served:
        # token service, refused, token service again, then good
        sky.scripts[:] = [stale]
        said(served)
        assert [one.host.partition(".")[0] for one in sky.seen] == [
            "oauth2",
            "us-east5-aiplatform",
            "oauth2",
            "us-east5-aiplatform",
        ]
    sky.seen.clear()
    tokens = iter(["ya29.old-and-expired-0123", "ya29.just-as-bad-012345"])

    def refuse(request: Request) -> Plain:
        raise Refused(
            401,
            {
                "error": {
                    "code": 401,
                    "message": "Request had invalid authentication credentials",
                    "status": "UNAUTHENTICATED",
                }
            },
        )

    with proxy(vertex(sky, keys=[f"google:{path}"]), sky.environ()) as served:
        sky.scripts[:] = [stale, refuse, stale, refuse]
        failed = said(served, 502)
        assert "up" in failed["error"]["message"] and "google:" in failed["error"]["message"]
        assert len(sky.seen) == 4, "renewed once"


def test_a_login_that_is_over_says_what_to_do(sky: Sky, tmp_path: Path) -> None:
    path = tmp_path / "adc.json"
    path.write_text(json.dumps({**LOGIN, "refresh_token": "revoked"}))
    with proxy(vertex(sky, keys=[f"google:{path}"]), sky.environ()) as served:
        failed = said(served, 502)
    assert "run: gcloud auth application-default login" in failed["error"]["message"]
    assert "revoked" not in str(failed)


# ---------------------------------------------------------------- AWS

TRIPLE = {
    "AWS_ACCESS_KEY_ID": AWS["AccessKeyId"],
    "AWS_SECRET_ACCESS_KEY": AWS["SecretAccessKey"],
    "AWS_SESSION_TOKEN": AWS["SessionToken"],
}


def test_the_keys_of_the_environment(sky: Sky) -> None:
    with proxy(bedrock(sky), TRIPLE) as served:
        said(served)
        assert served.parts.relay.config.upstreams[0].source == "access keys"


def test_a_profile_and_a_command_that_prints_keys(sky: Sky, tmp_path: Path) -> None:
    folder = tmp_path / ".aws"
    folder.mkdir()
    printed = tmp_path / "keys.json"
    printed.write_text(json.dumps({"Version": 1, **AWS, "Expiration": "2099-01-01T00:00:00Z"}, indent=4))
    code = f"print(open({str(printed)!r}).read())"
    (folder / "config").write_text(f'[default]\ncredential_process = {sys.executable} -c "{code}"\n')
    (folder / "credentials").write_text(
        f"[work]\naws_access_key_id = {AWS['AccessKeyId']}\naws_secret_access_key = {AWS['SecretAccessKey']}\n"
        f"aws_session_token = {AWS['SessionToken']}\n"
    )
    environ = {"HOME": str(tmp_path)}
    for more in ({}, {"keys": ["aws:work"]}, {"keys": [f'cmd:{sys.executable} -c "{code}"']}):
        with proxy(bedrock(sky, **more), environ) as served:
            said(served)
    assert len(sky.seen) == 3 and sky.refused == []


def test_a_container_and_an_instance(sky: Sky, tmp_path: Path) -> None:
    keys = {
        "AccessKeyId": AWS["AccessKeyId"],
        "SecretAccessKey": AWS["SecretAccessKey"],
        "Token": AWS["SessionToken"],
        "Expiration": "2099-01-01T00:00:00Z",
    }
    (tmp_path / "token").write_text("a-container-token\n")
    with local(creds=keys, token="session", index="role-1", **{"role-1": keys}) as (metadata, address):
        environ = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{address}/creds",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
            "HTTP_PROXY": sky.proxy,
        }
        with proxy(bedrock(sky, keys=["aws:"]), environ) as served:
            said(served)
        assert metadata.seen[0][2]["authorization"] == "a-container-token"
        metadata.seen.clear()
        environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{address}", "HTTP_PROXY": sky.proxy}
        with proxy(bedrock(sky), environ) as served:
            said(served)
        assert [one[:2] for one in metadata.seen] == [
            ("PUT", "/latest/api/token"),
            ("GET", "/latest/meta-data/iam/security-credentials/"),
            ("GET", "/latest/meta-data/iam/security-credentials/role-1"),
        ]
        assert metadata.seen[1][2]["x-aws-ec2-metadata-token"] == "session"


def test_an_instance_without_sessions(sky: Sky) -> None:
    keys = {"AccessKeyId": AWS["AccessKeyId"], "SecretAccessKey": AWS["SecretAccessKey"], "Token": AWS["SessionToken"]}
    with local(token=(404, "what is that?"), index="role-1", **{"role-1": keys}) as (metadata, address):
        with proxy(bedrock(sky), {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{address}"}) as served:
            said(served)
        assert "x-aws-ec2-metadata-token" not in metadata.seen[-1][2]


def test_a_token_service_that_fails_once_is_asked_again(sky: Sky, tmp_path: Path) -> None:
    path = tmp_path / "adc.json"
    path.write_text(json.dumps(LOGIN))

    def busy(request: Request) -> Plain:
        raise Refused(503, {"error": "busy"})

    with proxy(vertex(sky, keys=[f"google:{path}"]), sky.environ()) as served:
        sky.scripts[:] = [busy]
        said(served)
        assert hosts(sky)[:2] == ["oauth2.googleapis.com"] * 2
    with proxy({**vertex(sky, keys=[f"google:{path}"]), "retries": 0}, sky.environ()) as served:
        sky.scripts[:] = [busy, busy]
        assert "returned 503" in said(served, 502)["error"]["message"]
        said(served)  # the key does not cool down


def test_a_metadata_server_that_is_not_there(sky: Sky) -> None:
    with proxy(
        {**bedrock(sky, keys=["aws:"]), "retries": 0},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{free_port()}"},
    ) as served:
        failed = said(served, 502)
    assert "the key aws: cannot be read: 127.0.0.1" in failed["error"]["message"]


def test_an_expired_session_token_is_read_again(sky: Sky, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({**AWS, "SessionToken": "expired-token-0123456789"}))
    helper = tmp_path / "helper.py"
    good = json.dumps(AWS)
    helper.write_text(
        f"import pathlib\np = pathlib.Path({str(path)!r})\nprint(p.read_text())\np.write_text({good!r})\n"
    )

    def expired(request: Request) -> Plain:
        headers = {"x-amzn-errortype": "ExpiredTokenException:http://internal.amazon.com/"}
        raise Refused(403, {"message": "The security token included in the request is expired"}, **headers)

    with proxy(bedrock(sky, keys=[f"cmd:{sys.executable} {helper}"])) as served:
        sky.scripts[:] = [expired]
        said(served)
    assert [one.get("x-amz-security-token") for one in sky.seen] == ["expired-token-0123456789", AWS["SessionToken"]]


def test_no_part_of_a_secret_is_shown(sky: Sky) -> None:
    def quoting(request: Request) -> Plain:
        raise Refused(
            400, {"message": f"bad: {AWS['SecretAccessKey']} {AWS['SessionToken']} {request.get('authorization')[:30]}"}
        )

    with proxy(bedrock(sky), TRIPLE) as served:
        sky.scripts[:] = [quoting]
        failed = str(said(served, 400))
        assert "[redacted] [redacted]" in failed and AWS["SecretAccessKey"] not in failed
