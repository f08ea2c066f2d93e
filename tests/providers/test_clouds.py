"""Where the clouds' credentials come from, as their own tools look for them; which paths, headers and bodies they get."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.formats.sse import Event
from ccproxy_lite.providers import azure, bedrock, cloud, clouds, direct, vertex
from ccproxy_lite.providers.awsframes import Frame, encode
from ccproxy_lite.providers.clouds import (
    Container,
    Instance,
    Keys,
    Metadata,
    NoCredentialsError,
    Process,
    User,
    aws_source,
    google_source,
    named_field,
    questions,
    usual_field,
)
from ccproxy_lite.providers.credentials import Secret, key_headers, parts, secret_of
from ccproxy_lite.providers.provider import Ask, Place

HOME = {"HOME": "/home/me"}
ADC = "/home/me/.config/gcloud/application_default_credentials.json"
LOGIN = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}


def files(**texts: str) -> Callable[[str], str]:
    """A reader of files; double underscores stand for slashes in their names."""

    def read(path: str) -> str:
        if path not in texts:
            raise FileNotFoundError(2, "No such file or directory")
        return texts[path]

    return read


# ---------------------------------------------------------------- Google


@pytest.mark.parametrize(
    ("reference", "environ", "texts", "source"),
    [
        ("google:", {}, {ADC: json.dumps(LOGIN)}, User("c", "s", "r")),
        ("google:", {}, {ADC: json.dumps({**LOGIN, "quota_project_id": "q"})}, User("c", "s", "r", "q")),
        ("google:", {"GOOGLE_CLOUD_QUOTA_PROJECT": "w"}, {ADC: json.dumps({**LOGIN, "quota_project_id": "q"})}, User("c", "s", "r", "w")),
        ("google:/a.json", {}, {"/a.json": json.dumps(LOGIN)}, User("c", "s", "r")),
        ("google:", {"GOOGLE_APPLICATION_CREDENTIALS": "/b"}, {"/b": json.dumps(LOGIN), ADC: "{}"}, User("c", "s", "r")),
        ("google:", {"CLOUDSDK_CONFIG": "/sdk"}, {"/sdk/application_default_credentials.json": json.dumps(LOGIN)}, User("c", "s", "r")),
        ("google:", {}, {}, Metadata("metadata.google.internal")),
        ("google:", {"GCE_METADATA_HOST": "127.0.0.1:8080"}, {}, Metadata("127.0.0.1:8080")),
    ],
)  # fmt: skip
def test_where_google_leads(reference: str, environ: dict[str, str], texts: dict[str, str], source: Any) -> None:
    assert google_source(reference, {**HOME, **environ}, files(**texts)) == source


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "cannot be read: "),
        (json.dumps({"type": "service_account"}), '"service_account"; only "authorized_user" is supported: run "gcloud auth activate-service-account'),
        (json.dumps({**LOGIN, "refresh_token": ""}), "not complete; run: gcloud auth application-default login"),
        ("[]", "has no credentials"),
    ],
)  # fmt: skip
def test_a_file_of_google_that_cannot_be_used(text: str, why: str) -> None:
    with pytest.raises(NoCredentialsError) as caught:
        google_source("google:", HOME, files(**{ADC: text}))
    assert why in str(caught.value)
    with pytest.raises(NoCredentialsError, match="No such file"):
        google_source("google:/nowhere", HOME, files())


# ---------------------------------------------------------------- AWS

TRIPLE = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S"}
CREDENTIALS, CONFIG = "/home/me/.aws/credentials", "/home/me/.aws/config"
STATIC = "[default]\naws_access_key_id = A\naws_secret_access_key = S\n\n[work]\naws_access_key_id=B\naws_secret_access_key=T\naws_session_token=K\n"


@pytest.mark.parametrize(
    ("reference", "environ", "texts", "source"),
    [
        ("aws:", TRIPLE, {}, Keys("A", "S")),
        ("aws:", {**TRIPLE, "AWS_SESSION_TOKEN": "K", "AWS_PROFILE": "work"}, {CREDENTIALS: STATIC}, Keys("A", "S", "K")),
        ("aws:", {}, {CREDENTIALS: STATIC}, Keys("A", "S")),
        ("aws:", {"AWS_PROFILE": "work"}, {CREDENTIALS: STATIC}, Keys("B", "T", "K")),
        ("aws:work", TRIPLE, {CREDENTIALS: STATIC}, Keys("B", "T", "K")),
        ("aws:", {}, {CONFIG: "[default]\ncredential_process = /bin/helper --x 'a b'\n"}, Process("/bin/helper --x 'a b'")),
        ("aws:work", {}, {CONFIG: "[profile work]\ncredential_process = h\n"}, Process("h")),
        ("aws:", {"AWS_CONFIG_FILE": "/c"}, {"/c": "[default]\ncredential_process=h\n"}, Process("h")),
        ("aws:", {"AWS_SHARED_CREDENTIALS_FILE": "/c"}, {"/c": STATIC}, Keys("A", "S")),
        ("aws:", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"}, {}, Container("http://169.254.170.2/v2/x")),
        ("aws:", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/t"}, {}, Container("http://169.254.170.23/v1", "", "/t")),
        ("aws:", {"AWS_PROFILE": "work"}, {CONFIG: "[profile work]\nregion = us-east-1\n"}, Instance("http://169.254.169.254")),
        ("aws:", {}, {CONFIG: "[profile default]\ncredential_process = h\n"}, Process("h")),
        ("aws:my own", {}, {CONFIG: "[profile \"my own\"]\ncredential_process = h\n"}, Process("h")),
        ("aws:", {"AWS_CONFIG_FILE": "~/c"}, {"/home/me/c": "[default]\ncredential_process=h\n"}, Process("h")),
        ("aws:", {}, {CREDENTIALS: "[default]\naws_access_key_id=A\naws_secret_access_key=S\naws_security_token=K\n", CONFIG: "[default]\naws_session_token=X\n"}, Keys("A", "S", "K")),
        ("aws:", {}, {CONFIG: "[default]\naws_access_key_id=A\naws_secret_access_key=S\ncredential_process=h\n"}, Process("h")),
        ("aws:", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.2/v1"}, {}, Container("http://127.0.0.2/v1")),
        ("aws:", {}, {}, Instance("http://169.254.169.254")),
        ("aws:", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1/"}, {}, Instance("http://127.0.0.1:1")),
    ],
)  # fmt: skip
def test_where_aws_leads(reference: str, environ: dict[str, str], texts: dict[str, str], source: Any) -> None:
    assert aws_source(reference, {**HOME, **environ}, files(**texts)) == source


@pytest.mark.parametrize(
    ("reference", "environ", "texts", "why"),
    [
        ("aws:none", {}, {}, 'AWS profile "none" does not exist'),
        ("aws:empty", {}, {CONFIG: "[profile empty]\nregion = us-east-1\n"}, 'profile "empty" has no access keys'),
        ("aws:", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "arn"}, {CREDENTIALS: STATIC}, 'AWS_WEB_IDENTITY_TOKEN_FILE is set: use "cmd:aws'),
        ("aws:", {"AWS_ACCESS_KEY_ID": "A"}, {CREDENTIALS: STATIC}, "the environment has AWS_ACCESS_KEY_ID, but not AWS_SECRET_ACCESS_KEY"),
        ("aws:", {}, {CONFIG: "[default]\naws_access_key_id=A\n"}, 'AWS profile "default" has aws_access_key_id, but not aws_secret_access_key'),
        ("aws:", {}, {CONFIG: "[default]\nrole_arn = arn\n", CREDENTIALS: STATIC}, "has role_arn"),
        ("aws:", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://[bad"}, {}, "AWS_CONTAINER_CREDENTIALS_FULL_URI is no address"),
        ("aws:", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "169.254.169.254"}, {}, "AWS_EC2_METADATA_SERVICE_ENDPOINT is no address"),
        ("aws:sso", {}, {CONFIG: "[profile sso]\nsso_session = corp\n"}, 'has sso_session: use "cmd:aws configure export-credentials --format process --profile sso"'),
        ("aws:", {}, {CONFIG: "[default]\nrole_arn = arn\nsource_profile = x\n"}, 'has role_arn: use "cmd:aws configure export-credentials --format process"'),
        ("aws:", {}, {CONFIG: "no section"}, "cannot be parsed"),
        ("aws:", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://evil.example/"}, {}, "must be https://"),
        ("aws:", {"AWS_EC2_METADATA_DISABLED": "true"}, {}, "no AWS credentials"),
    ],
)  # fmt: skip
def test_credentials_of_aws_that_are_not_there(
    reference: str, environ: dict[str, str], texts: dict[str, str], why: str
) -> None:
    with pytest.raises(NoCredentialsError) as caught:
        aws_source(reference, {**HOME, **environ}, files(**texts))
    assert why in str(caught.value)


def test_the_usual_fields() -> None:
    read = files(**{CONFIG: "[default]\nregion = eu-west-1\n[profile work]\nregion = us-west-2\n"})
    assert usual_field("region", "anthropic", HOME, read) == "eu-west-1"
    assert usual_field("region", "anthropic", {**HOME, "AWS_PROFILE": "work"}, read) == "us-west-2"
    assert usual_field("region", "anthropic", {**HOME, "AWS_DEFAULT_REGION": "us-east-2"}, read) == "us-east-2"
    both = {
        "ANTHROPIC_VERTEX_PROJECT_ID": "c",
        "GOOGLE_CLOUD_PROJECT": "g",
        "CLOUD_ML_REGION": "eu",
        "GOOGLE_CLOUD_LOCATION": "us",
    }
    assert [usual_field(name, "anthropic", both, read) for name in ("project", "location")] == ["c", "eu"]
    assert [usual_field(name, "gemini", both, read) for name in ("project", "location")] == ["g", "us"]
    assert usual_field("location", "gemini", {}, read) == "global"
    assert usual_field("api_version", "openai-chat", {}, read) == ""
    assert named_field("region", "https://bedrock-mantle.ap-south-1.api.aws/v1") == "ap-south-1"
    assert named_field("location", "https://aiplatform.googleapis.com") == "global"


def asked(source: Any, *answers: str, own: str = "") -> tuple[list[clouds.Question], Secret]:
    asking, seen, told = questions(source, own, 1000.0), list[clouds.Question](), list(answers)
    try:
        question = next(asking)
        while True:
            seen.append(question)
            question = asking.send(told.pop(0))
    except StopIteration as end:
        return seen, end.value


def test_how_sources_are_asked() -> None:
    keys = json.dumps({"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": "2026-12-01T00:00:00Z"})
    seen, secret = asked(User("c", "s", "r", "q"), '{"access_token": "t", "expires_in": 3599}')
    assert [(one.method, one.url, one.is_local) for one in seen] == [
        ("POST", "https://oauth2.googleapis.com/token", False)
    ]
    assert seen[0].body == b"grant_type=refresh_token&client_id=c&client_secret=s&refresh_token=r"
    assert secret == Secret('\x1f{"token":"t","quota_project":"q"}', 4599.0)
    seen, secret = asked(Metadata("h:1"), '{"access_token": "t", "expires_in": 10}')
    assert seen[0].url.startswith("http://h:1/computeMetadata/v1/") and seen[0].headers == [
        ("metadata-flavor", "Google")
    ]
    assert secret == Secret("t", 1010.0) and seen[0].is_local
    seen, secret = asked(Instance("http://i"), "session", "my role\nother", keys)
    assert [one.url for one in seen][1:] == [
        "http://i/latest/meta-data/iam/security-credentials/",
        "http://i/latest/meta-data/iam/security-credentials/my%20role",
    ]
    assert seen[0].method == "PUT" and seen[2].headers == [("x-aws-ec2-metadata-token", "session")]
    assert secret.expires_at == 1796083200.0 and parts(secret.text) == ("S", "T")
    seen, secret = asked(Container("http://c/x", "token"), keys)
    assert seen[0].headers == [("authorization", "token")]
    assert asked(Process("h"), own=keys)[1] == secret and asked(Keys("A", "S", "T"))[1].text == secret.text
    with pytest.raises(ValueError, match="has no role"):
        asked(Instance("http://i"), "session", "")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (" plain-token\n", Secret("plain-token")),
        ('{"accessToken": "t", "expires_on": 1800000000, "expiresOn": "2027"}', Secret("t", 1800000000.0)),
        ('{"token": "t", "expires_on": "1800000000"}', Secret("t", 1800000000.0)),
        ('{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S"}', Secret('\x1f{"AccessKeyId":"A","SecretAccessKey":"S"}')),
        ('{"access_token": "t", "expires_in": true, "Expiration": "soon"}', Secret("t")),
    ],
)  # fmt: skip
def test_what_helpers_print(text: str, secret: Secret) -> None:
    assert secret_of(text, 0.0) == secret


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"AccessKeyId": "A"}',
        "{}",
        '{"token": 1}',
        '{"token": "a\\r\\nb"}',
        '{"token": "t", "quota_project": "a\\nb"}',
    ],
)
def test_what_is_no_secret(text: str) -> None:
    with pytest.raises(ValueError, match="its output"):
        secret_of(text, 0.0)


def test_a_token_may_bring_a_project_and_access_keys_are_never_sent() -> None:
    told = key_headers(("bearer",), '\x1f{"token":"t","quota_project":"q"}')
    assert told == [("authorization", "Bearer t"), ("x-goog-user-project", "q")]
    assert key_headers(("bearer",), '\x1f{"AccessKeyId":"A","SecretAccessKey":"S"}') == []
    assert key_headers(("none",), "k") == []
    typed = '{"token":"t"}'
    assert key_headers(("bearer",), typed) == [("authorization", f"Bearer {typed}")], "what a user types stays whole"


# ---------------------------------------------------------------- Vertex AI

CLAUDE, GEMINI, CHAT = FORMATS["anthropic"], FORMATS["gemini"], FORMATS["openai-chat"]
STREAM, WHOLE = PathInfo(streams=True), PathInfo(streams=False)
VERTEX = Place("https://us-east5-aiplatform.googleapis.com", project="p", location="us-east5")


def test_the_paths_of_vertex() -> None:
    ask = Ask(
        "claude-sonnet-4-5@20250929",
        STREAM,
        "beta=true",
        (("anthropic-version", "2023-06-01"), ("anthropic-beta", "b")),
        b'{"model":"x","n":1.50,"stream":true}',
    )
    sent = vertex.message(VERTEX, CLAUDE, ask, "ya29.t")
    parent = "/projects/p/locations/us-east5"
    assert sent.target == f"/v1{parent}/publishers/anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict"
    assert sent.body == b'{"n":1.50,"stream":true,"anthropic_version":"2026-10-21"}'
    assert sent.headers == [("anthropic-beta", "b"), ("authorization", "Bearer ya29.t")]
    assert vertex.message(VERTEX, CLAUDE, ask._replace(path=WHOLE), "t").target.endswith(":rawPredict")
    counted = vertex.count_tokens(
        VERTEX, CLAUDE, Ask("m@default", body=b'{"messages":[]}', headers=(("anthropic-beta", "b"),)), "t"
    )
    assert (
        counted is not None
        and counted.outbound.target == f"/v1{parent}/publishers/anthropic/models/count-tokens:rawPredict"
    )
    assert json.loads(counted.outbound.body) == {"messages": [], "model": "m", "anthropic_version": "2026-10-21"}
    assert ("anthropic-beta", "b") not in counted.outbound.headers, "there no beta is known"
    google = Ask("gemini-3", STREAM, "", (), b"{}")
    assert (
        vertex.message(VERTEX, GEMINI, google, "t").target
        == f"/v1beta1{parent}/publishers/google/models/gemini-3:streamGenerateContent?alt=sse"
    )
    for name, path in {
        "meta/llama-4": f"{parent}/publishers/meta/models/llama-4",
        "publishers/x/models/y": f"{parent}/publishers/x/models/y",
        "projects/1/locations/l/endpoints/2": "/projects/1/locations/l/endpoints/2",
    }.items():
        assert (
            vertex.message(VERTEX, GEMINI, google._replace(model=name, path=WHOLE), "t").target
            == f"/v1beta1{path}:generateContent"
        )


def test_express_keys_have_no_project() -> None:
    place = Place("https://aiplatform.googleapis.com")
    sent = vertex.message(place, GEMINI, Ask("gemini-3", WHOLE, "", (), b"{}"), "AIzaKey")
    assert sent.target == "/v1beta1/publishers/google/models/gemini-3:generateContent"
    assert sent.headers == [("x-goog-api-key", "AIzaKey")]
    assert vertex.message(VERTEX, GEMINI, Ask("g", WHOLE, "", (), b"{}"), "AQ.key").headers == [
        ("x-goog-api-key", "AQ.key")
    ]


def test_counting_on_vertex_has_no_wrapper() -> None:
    body = {"generateContentRequest": {"model": "models/g", "contents": [1], "toolConfig": {}, "tools": []}}
    asked_for = vertex.count_tokens(VERTEX, GEMINI, Ask("g", body=json.dumps(body).encode()), "t")
    assert asked_for is not None and json.loads(asked_for.outbound.body) == {"contents": [1], "tools": []}
    assert asked_for.outbound.target.endswith("/publishers/google/models/g:countTokens")
    assert asked_for.read({"totalTokens": 7}) == 7


@pytest.mark.parametrize("name", ["a/../b", "..", "a/b"])
def test_a_claude_model_does_not_leave_its_folder(name: str) -> None:
    with pytest.raises(ClientError):
        vertex.message(VERTEX, CLAUDE, Ask(name, WHOLE, "", (), b"{}"), "t")


def test_other_paths_of_vertex() -> None:
    def target(path: str) -> str:
        return vertex.raw(VERTEX, GEMINI, Ask(method="POST", raw_path=path), "t").target

    parent = "/v1beta1/projects/p/locations/us-east5"
    assert target("/v1beta/models/e:embedContent") == f"{parent}/publishers/google/models/e:embedContent"
    assert target("/v1beta/cachedContents/1") == f"{parent}/cachedContents/1"
    for form, path in ((CLAUDE, "/v1/files"), (GEMINI, "/v1beta")):
        with pytest.raises(ClientError, match="Vertex AI has no"):
            vertex.raw(VERTEX, form, Ask(raw_path=path), "t")
    with pytest.raises(ClientError):
        vertex.models(VERTEX, GEMINI, Ask(), "t")


# ---------------------------------------------------------------- Bedrock

RUNTIME = Place("https://bedrock-runtime.us-east-1.amazonaws.com", region="us-east-1", auth=("bearer",))
ARN = "arn:aws:bedrock:us-east-1:123:application-inference-profile/abc"


def test_a_request_for_invoke_model() -> None:
    ask = Ask(
        ARN,
        STREAM,
        "beta=true",
        (("anthropic-beta", "a, b"), ("anthropic-version", "v"), ("accept", "x")),
        b'{"model":"m","stream":true,"n":1.50}',
    )
    sent = bedrock.message(RUNTIME, CLAUDE, ask, "k")
    assert (
        sent.target
        == "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123%3Aapplication-inference-profile%2Fabc/invoke-with-response-stream"
    )
    assert sent.body == b'{"anthropic_version":"2026-10-21","n":1.50,"anthropic_beta":["a","b"]}'
    own = ask._replace(body=b'{"anthropic_version":"bedrock-2023-05-31"}', headers=())
    assert bedrock.message(RUNTIME, CLAUDE, own, "k").body == own.body
    assert sent.headers == [("accept", "*/*"), ("authorization", "Bearer k")] and sent.sign is None
    signed = bedrock.message(RUNTIME, CLAUDE, ask, '\x1f{"AccessKeyId":"A","SecretAccessKey":"S"}')
    assert signed.headers == [("accept", "*/*")] and signed.sign is not None
    names = [name for name, _ in signed.sign(signed, "host", 1e9)]
    assert names == ["x-amz-date", "authorization"]
    with pytest.raises(UpstreamError, match="needs a region"):
        bedrock.message(RUNTIME._replace(region=""), CLAUDE, ask, '\x1f{"AccessKeyId":"A","SecretAccessKey":"S"}')


def test_counting_on_bedrock() -> None:
    question = bedrock.count_tokens(RUNTIME, CLAUDE, Ask("us.anthropic.m", body=b'{"model":"x","messages":[]}'), "k")
    assert question is not None and question.outbound.target == "/model/anthropic.m/count-tokens"
    inner = json.loads(base64.b64decode(json.loads(question.outbound.body)["input"]["invokeModel"]["body"]))
    assert inner == {"messages": [], "anthropic_version": "2026-10-21", "max_tokens": 1}
    assert question.read({"inputTokens": 9}) == 9


@pytest.mark.parametrize("call", [bedrock.raw, bedrock.models])
def test_what_invoke_model_has_not(call: Any) -> None:
    with pytest.raises(ClientError) as caught:
        call(RUNTIME, CLAUDE, Ask(raw_path="/v1/files"), "k")
    assert caught.value.status == 404


@pytest.mark.parametrize("name", [".", ".."])
def test_a_model_does_not_leave_its_folder_on_bedrock(name: str) -> None:
    with pytest.raises(ClientError):
        bedrock.message(RUNTIME, CLAUDE, Ask(name, WHOLE, "", (), b"{}"), "k")


def exception(name: str, message: str) -> Frame:
    return Frame({":message-type": "exception", ":exception-type": name}, json.dumps({"message": message}).encode())


@pytest.mark.parametrize(
    ("frame", "kind", "message"),
    [
        (exception("throttlingException", "slow"), "rate_limit_error", "slow"),
        (exception("modelStreamErrorException", "oops"), "api_error", "oops"),
        (exception("ValidationException", "bad"), "invalid_request_error", "bad"),
        (exception("serviceUnavailableException", ""), "overloaded_error", "serviceUnavailableException"),
        (exception("modelTimeoutException", "late"), "timeout_error", "late"),
        (Frame({":message-type": "error", ":error-code": "InternalServerException", ":error-message": "x"}, b""), "api_error", "x"),
        (Frame({":message-type": "exception"}, b"no json"), "api_error", "the stream was broken off"),
    ],
)  # fmt: skip
def test_exceptions_in_a_stream(frame: Frame, kind: str, message: str) -> None:
    event = bedrock.event_of(frame)
    assert event is not None and event.name == "error"
    assert json.loads(event.data) == {"type": "error", "error": {"type": kind, "message": message}}


def test_events_in_frames() -> None:
    text = json.dumps({"type": "ping"})
    held = json.dumps({"bytes": base64.b64encode(text.encode()).decode(), "p": "padding"}).encode()
    headers = {":message-type": "event", ":event-type": "chunk"}
    parser = bedrock.EventParser(1000)
    data = encode(headers, held)
    assert parser.feed(data[:20]) == [] and parser.unfinished() and parser.stray == ""
    assert parser.feed(data[20:]) == [Event("ping", text)] and not parser.unfinished()
    assert bedrock.event_of(Frame(headers, b"{}")) is None
    assert bedrock.event_of(Frame({":message-type": "event", ":event-type": "other"}, held)) is None
    with pytest.raises(UpstreamError, match="no base64"):
        bedrock.event_of(Frame(headers, b'{"bytes":"%%%"}'))


# ---------------------------------------------------------------- Azure

AZURE, FOUNDRY = Place("https://r.openai.azure.com/openai/v1"), Place("https://r.services.ai.azure.com/anthropic")
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.c2ln"


@pytest.mark.parametrize(
    ("place", "form", "key", "headers"),
    [
        (AZURE, CHAT, "k", [("api-key", "k")]),
        (AZURE, CHAT, JWT, [("authorization", f"Bearer {JWT}")]),
        (FOUNDRY, CLAUDE, "k", [("x-api-key", "k"), ("api-key", "k")]),
        (FOUNDRY, CLAUDE, JWT, [("authorization", f"Bearer {JWT}")]),
        (AZURE._replace(auth=("bearer",)), CHAT, "k", [("authorization", "Bearer k")]),
    ],
)
def test_a_key_of_azure_is_never_a_bearer_beside(place: Place, form: Any, key: str, headers: list[Any]) -> None:
    for write in (azure.PROVIDER.message, azure.PROVIDER.raw):
        assert write(place, form, Ask("m", WHOLE, "", (), b"{}", raw_path="/v1/x"), key).headers == headers


def test_the_older_paths() -> None:
    place = Place("https://r.openai.azure.com", api_version="2024-10-21")
    provider = cloud("azure", "openai-chat", place.base_url, place.api_version)
    sent = provider.message(place, CHAT, Ask("my gpt", WHOLE, "user=1", (), b"{}"), "k")
    assert sent.target == "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21&user=1"
    assert (
        provider.message(place, FORMATS["openai-responses"], Ask("m", WHOLE, "", (), b"{}"), "k").target
        == "/openai/responses?api-version=2024-10-21"
    )
    assert provider.raw(place, CHAT, Ask(raw_path="/v1/files"), "k").target == "/openai/files?api-version=2024-10-21"
    assert provider.count_tokens(place, CHAT, Ask("m"), "k") is None
    assert provider.tidy("https://r.openai.azure.com/openai/", "openai-chat") == "https://r.openai.azure.com"
    assert cloud("azure", "anthropic", "", "2024-10-21").name == "azure"


# ---------------------------------------------------------------- all


def test_a_host_that_takes_no_signatures() -> None:
    with pytest.raises(UpstreamError, match="takes no AWS signatures"):
        direct.message(
            Place("https://llm.example.com"),
            CLAUDE,
            Ask("m", WHOLE, "", (), b"{}"),
            '\x1f{"AccessKeyId":"A","SecretAccessKey":"S"}',
        )


@pytest.mark.parametrize(
    ("name", "kind", "base_url", "is_direct"),
    [
        ("bedrock", "anthropic", "https://bedrock-runtime.us-east-1.amazonaws.com", False),
        ("bedrock", "anthropic", "https://gateway.example.com", False),
        ("bedrock", "anthropic", "https://bedrock-mantle.us-east-1.api.aws/anthropic", True),
        ("bedrock", "openai-chat", "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1", True),
        ("vertex", "openai-chat", "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi", True),
        ("vertex", "gemini", "https://aiplatform.googleapis.com", False),
    ],
)  # fmt: skip
def test_which_surface_a_base_url_is(name: str, kind: str, base_url: str, is_direct: bool) -> None:
    provider = cloud(name, kind, base_url)
    assert provider.name == name and (provider.message is direct.message) == is_direct
