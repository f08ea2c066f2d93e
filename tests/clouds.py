"""The services of companies, as strict as they are: each host's paths, versions, credentials, fields and framing.

Every host is served, at its true name and over TLS, by one proxy for CONNECT that ends the tunnel itself. What a host
would refuse is refused as it does; the rest is answered by the embedded echo, in the host's framing.

    with clouds() as sky:
        proxy({"upstreams": {"up": {"base_url": "openrouter", "format": "openai-chat", **sky.reach}}})
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zlib import crc32

from ccproxy_lite.providers.direct import usual_auth
from ccproxy_lite.providers.hosts import HOSTS, at
from tests.support import ECHO, proxy

KEY = "a-key-of-this-host-0123456789"
TOKEN = "ya29.a-token-of-google-0123456789"
ENTRA = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.c2lnbmVk"
AWS = {
    "AccessKeyId": "AKIDEXAMPLE",
    "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "SessionToken": "a-session-token-0123456789",
}
VERSIONS = ("2026-10-21", "vertex-2023-10-16", "bedrock-2023-05-31")
Object = dict[str, Any]


class Refused(Exception):
    """What a host answers to a request that it does not take."""

    def __init__(self, status: int, body: Any, **headers: str) -> None:
        super().__init__(status, body)
        self.status, self.body, self.headers = status, body, headers


@dataclass
class Request:
    """A request as a host sees it."""

    method: str
    host: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    @property
    def json(self) -> Object:
        found: Object = json.loads(self.body) if self.body else {}
        return found

    def get(self, name: str) -> str:
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else ""

    def carried(self) -> dict[str, str]:
        """Every header that carries a key."""
        names = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
        return {name: self.get(name) for name in names if self.get(name)}


@dataclass
class Plain:
    """The request that the echo answers in a host's place, and what its answer becomes."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    frame: Callable[[bytes], tuple[str, bytes]] | None = None
    answer: Object | None = None


def _echo(form: str, action: str, body: Object, **headers: str) -> Plain:
    base = "/v1" if form.startswith("openai") else ""
    return Plain(base + action, json.dumps(body).encode(), dict(headers))


def _anthropic_error(status: int, message: str, kind: str = "invalid_request_error") -> Refused:
    return Refused(status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})


# ---------------------------------------------------------------- what is refused of Anthropic's format

_BEDROCK_BETAS = set(
    "computer-use-2025-01-24 context-1m-2025-08-07 context-management-2025-06-27 effort-2025-11-24 "
    "fine-grained-tool-streaming-2025-05-14 interleaved-thinking-2025-05-14 tool-search-tool-2025-10-19 "
    "token-efficient-tools-2025-02-19 output-128k-2025-02-19 compact-2026-01-12".split()
)
_VERTEX_BETAS = _BEDROCK_BETAS | set(
    "claude-code-20250219 structured-outputs-2025-12-15 structured-outputs-2025-11-13 web-search-2025-03-05 "
    "tool-examples-2025-10-29 thinking-token-count-2026-05-13 thinking-display-updates-2026-08-18 "
    "thinking-binding-controls-2026-08-01 dangerous-tool-use-2026-09-03 afk-mode-2026-01-31 "
    "fallback-credit-2026-06-01".split()
)
_MEMBERS = set(
    "max_tokens messages system stop_sequences temperature top_p top_k tools tool_choice thinking metadata "
    "output_config safeguards context_management".split()
)


def _extra(place: str) -> str:
    return f"{place}: Extra inputs are not permitted"


def _check_blocks(body: Object, tool_fields: set[str]) -> None:
    """Nothing that no cloud takes: scopes of caches, fields of tools."""
    tools = body.get("tools") or []
    for number, tool in enumerate(tools):
        for name in tool_fields & tool.keys():
            raise _anthropic_error(400, _extra(f"tools.{number}.custom.{name}"))
    contents = [message.get("content") for message in body.get("messages") or ()]
    blocks = [block for content in [body.get("system"), *contents] if isinstance(content, list) for block in content]
    for block in [*blocks, *tools]:
        if "scope" in (block.get("cache_control") or {}):
            raise _anthropic_error(400, _extra("cache_control.scope"))


def _check_betas(names: list[str], known: set[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise _anthropic_error(400, f"Unexpected value(s) `{', '.join(unknown)}` for the `anthropic-beta` header")


# ---------------------------------------------------------------- Google


def _google_error(status: int, message: str, name: str) -> Refused:
    return Refused(status, {"error": {"code": status, "message": message, "status": name}})


_GEMINI_MEMBERS = set(
    "contents systemInstruction tools toolConfig generationConfig safetySettings cachedContent labels".split()
)


def vertex(request: Request) -> Plain:
    carried = request.carried()
    express = re.fullmatch(r"/v1beta1/publishers/google/models/([\w.-]+):(\w+)", request.path)
    if express:
        if carried != {"x-goog-api-key": KEY}:
            raise _google_error(401, f"express mode wants an API key: {sorted(carried)}", "UNAUTHENTICATED")
        return _gemini(request, express[1], express[2])
    if carried != {"authorization": f"Bearer {TOKEN}"}:
        raise _google_error(
            401, f"Request had invalid authentication credentials: {sorted(carried)}", "UNAUTHENTICATED"
        )
    place = re.fullmatch(r"/(v1|v1beta1)/projects/p-1/locations/([\w-]+)/(.+)", request.path)
    if not place or at(f"https://{request.host}") is None:
        raise _google_error(404, f"no {request.path}", "NOT_FOUND")
    expected = "aiplatform.googleapis.com" if place[2] == "global" else ""
    expected = expected or (f"{place[2]}-aiplatform.googleapis.com" if "-" in place[2] else "")
    if request.host != (expected or f"aiplatform.{place[2]}.rep.googleapis.com"):
        raise _google_error(400, f"{request.host} does not serve {place[2]}", "INVALID_ARGUMENT")
    openai = re.fullmatch(r"(?:endpoints/openapi(/chat/completions)|publishers/openai/v1(/responses))", place[3])
    if openai:
        return _echo("openai-chat", openai[1] or openai[2], request.json)
    found = re.fullmatch(r"publishers/(google|anthropic)/models/([^/:]+):(\w+)", place[3])
    if not found:
        raise _google_error(404, f"no {request.path}", "NOT_FOUND")
    if found[1] == "google":
        if place[1] != "v1beta1":
            raise _google_error(404, f"no {request.path}", "NOT_FOUND")
        return _gemini(request, found[2], found[3])
    return _claude_on_vertex(request, unquote(found[2]), found[3])


def _gemini(request: Request, model: str, method: str) -> Plain:
    body = request.json
    if method == "countTokens":
        known = {"contents", "systemInstruction", "tools", "generationConfig"}
        for name in body.keys() - known:
            raise _google_error(400, f'Unknown name "{name}": Cannot find field.', "INVALID_ARGUMENT")
        return Plain("", b"", answer={"totalTokens": 42, "totalBillableCharacters": 99})
    for name in body.keys() - _GEMINI_MEMBERS:
        raise _google_error(400, f'Unknown name "{name}": Cannot find field.', "INVALID_ARGUMENT")
    if "includeServerSideToolInvocations" in body.get("toolConfig", {}):
        message = "Unknown name \"includeServerSideToolInvocations\" at 'tool_config': Cannot find field."
        raise _google_error(400, message, "INVALID_ARGUMENT")
    suffix = "?alt=sse" if method == "streamGenerateContent" and request.query == {"alt": ["sse"]} else ""
    if request.query and not suffix:
        raise _google_error(400, f"unknown parameters: {request.query}", "INVALID_ARGUMENT")
    return _echo("gemini", f"/v1beta/models/{model}:{method}{suffix}", body)


def _claude_on_vertex(request: Request, model: str, method: str) -> Plain:
    body, is_count = request.json, model == "count-tokens"
    if method not in ("rawPredict", "streamRawPredict") or request.query:
        raise _google_error(404, f"no {request.target}", "NOT_FOUND")
    if body.pop("anthropic_version", None) not in VERSIONS[:2] or request.get("anthropic-version"):
        raise _anthropic_error(400, "anthropic_version: Field required")
    betas = [name for name in request.get("anthropic-beta").split(",") if name]
    if is_count:
        if "model" not in body or model.endswith("@default"):
            raise _anthropic_error(400, "model: Field required")
        _check_betas(betas, set())
        return Plain("", b"", answer={"input_tokens": 41})
    if "model" in body:
        raise _anthropic_error(400, _extra("model"))
    _check_betas(betas, _VERTEX_BETAS)
    for name in body.keys() - _MEMBERS - {"stream", "service_tier"}:
        raise _anthropic_error(400, _extra(name))
    _check_blocks(body, {"custom"})
    if bool(body.get("stream")) != (method == "streamRawPredict"):
        raise _anthropic_error(400, "stream does not fit the method")
    return _echo("anthropic", "/v1/messages", {**body, "model": model})


def token_service(request: Request) -> Plain:
    """oauth2.googleapis.com."""
    form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    expected = {"grant_type": "refresh_token", "client_id": "id-1", "client_secret": "secret-1"}
    if request.path != "/token" or {**form, **expected} != form or form.get("refresh_token") != "refresh-1":
        raise Refused(400, {"error": "invalid_grant", "error_description": "Bad Request"})
    return Plain("", b"", answer={"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"})


# ---------------------------------------------------------------- AWS


def _aws_error(status: int, name: str, message: str) -> Refused:
    return Refused(status, {"message": message}, **{"x-amzn-errortype": f"{name}:http://internal.amazon.com/"})


def check_signature(request: Request, service: str, region: str) -> None:
    """Judged by ``botocore``: a bearer key, or the signature that it would make of the same request."""
    carried = request.carried()
    if carried == {"authorization": f"Bearer {KEY}"}:
        return
    if list(carried) != ["authorization"] or not carried["authorization"].startswith("AWS4-HMAC-SHA256 "):
        raise _aws_error(403, "MissingAuthenticationTokenException", f"Missing Authentication Token: {carried}")
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    parts = dict(part.split("=", 1) for part in carried["authorization"].partition(" ")[2].split(", "))
    access_key, _, scope = parts["Credential"].partition("/")
    if scope.split("/")[1:] != [region, service, "aws4_request"]:
        raise _aws_error(
            403, "InvalidSignatureException", f"Credential should be scoped to {region}/{service}: {scope}"
        )
    if access_key != AWS["AccessKeyId"] or request.get("x-amz-security-token") != AWS["SessionToken"]:
        raise _aws_error(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    names = [name for name in parts["SignedHeaders"].split(";") if name != "host"]
    headers = {name: request.get(name) for name in names}
    made = AWSRequest(request.method, f"https://{request.host}{request.target}", headers, request.body)
    made.context["timestamp"] = request.get("x-amz-date")
    signer = SigV4Auth(Credentials(AWS["AccessKeyId"], AWS["SecretAccessKey"], AWS["SessionToken"]), service, region)
    expected = signer.signature(signer.string_to_sign(made, signer.canonical_request(made)), made)
    if parts["Signature"] != expected:
        raise _aws_error(403, "InvalidSignatureException", "The request signature we calculated does not match")


def bedrock_runtime(request: Request) -> Plain:
    region = request.host.split(".")[1]
    check_signature(request, "bedrock", region)
    if request.path.startswith("/openai/v1/"):
        body = request.json
        for tool in body.get("tools", ()):
            if tool.get("type", "").startswith("web_search"):
                raise Refused(400, {"error": {"message": "web search is not supported for this request"}})
        return _openai_surface(request, "/openai/v1")
    found = re.fullmatch(r"/model/([^/]+)/(invoke|invoke-with-response-stream|count-tokens)", request.path)
    if not found or urlsplit(request.target).query:
        raise _aws_error(404, "UnknownOperationException", f"no {request.target}")
    model, action, body = unquote(found[1]), found[2], request.json
    if action == "count-tokens":
        if model.startswith(("us.", "eu.", "global.")):
            raise _aws_error(400, "ValidationException", "The provided model doesn't support counting tokens")
        inner = json.loads(base64.b64decode(body["input"]["invokeModel"]["body"]))
        _check_invoke(inner)
        return Plain("", b"", answer={"inputTokens": 43})
    _check_invoke(body)
    body.pop("anthropic_version")
    body.pop("anthropic_beta", None)
    is_stream = action != "invoke"
    plain = _echo("anthropic", "/v1/messages", {**body, "model": model, "stream": is_stream})
    plain.frame = framed if is_stream else None
    return plain


def _check_invoke(body: Object) -> None:
    if body.get("anthropic_version") not in (VERSIONS[0], VERSIONS[2]):
        raise _aws_error(400, "ValidationException", "anthropic_version: Field required")
    for name in body.keys() - _MEMBERS - {"anthropic_version", "anthropic_beta"}:
        raise _aws_error(400, "ValidationException", _extra(name))
    if not body.get("max_tokens"):
        raise _aws_error(400, "ValidationException", "max_tokens: Field required")
    for name in body.get("anthropic_beta", ()):
        if name not in _BEDROCK_BETAS:
            raise _aws_error(400, "ValidationException", "invalid beta flag")
    try:
        _check_blocks(body, {"eager_input_streaming", "strict", "custom"})
    except Refused as refused:
        raise _aws_error(400, "ValidationException", refused.body["error"]["message"]) from None


def framed(stream: bytes) -> tuple[str, bytes]:
    """Server-sent events as AWS frames them."""
    frames = []
    for event in re.findall(rb"data: (.*)\n", stream):
        payload = json.dumps({"bytes": base64.b64encode(event).decode(), "p": "abcdefgh"}).encode()
        headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
        frames.append(frame(headers, payload))
    return "application/vnd.amazon.eventstream", b"".join(frames)


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame, made apart from the program's own code."""
    told = b"".join(
        struct.pack(f">B{len(name)}sBH{len(value)}s", len(name), name.encode(), 7, len(value), value.encode())
        for name, value in headers.items()
    )
    start = struct.pack(">II", 16 + len(told) + len(payload), len(told))
    whole = start + struct.pack(">I", crc32(start)) + told + payload
    return whole + struct.pack(">I", crc32(whole))


def mantle(request: Request) -> Plain:
    check_signature(request, "bedrock-mantle", request.host.split(".")[1])
    body = request.json
    if request.path in ("/v1/embeddings", "/anthropic/v1/messages/batches"):
        return Plain("", b"", answer={"length": len(request.body)})
    if request.path == "/anthropic/v1/models":
        return Plain("", b"", answer={"data": [{"type": "model", "id": "m", "display_name": "M"}], "has_more": False})
    if request.path == "/anthropic/v1/messages":
        _check_betas([name for name in request.get("anthropic-beta").split(",") if name], _VERTEX_BETAS)
        for name in body.keys() - _MEMBERS - {"model", "stream", "service_tier", "user_profile_id"}:
            raise _anthropic_error(400, _extra(name))
        if not request.get("anthropic-version"):
            raise _anthropic_error(400, "anthropic-version: header is required")
        _check_blocks(body, {"eager_input_streaming", "custom"})
        return _echo("anthropic", "/v1/messages", body)
    if request.path == "/anthropic/v1/messages/count_tokens":
        return Plain("", b"", answer={"input_tokens": 44})
    known = {"function", "mcp", "custom", "namespace", "tool_search", "web_search"}
    for tool in body.get("tools", ()) if "responses" in request.path else ():
        if tool.get("type") not in known:
            raise Refused(
                400, {"error": {"message": f"unknown variant `{tool.get('type')}`", "type": "invalid_request_error"}}
            )
    if body.get("service_tier", "auto") not in ("auto", "default"):
        raise Refused(400, {"error": {"message": "service_tier is not supported", "type": "invalid_request_error"}})
    base = "/openai/v1" if "responses" in request.path else "/v1"
    return _openai_surface(request, base)


def _openai_surface(request: Request, base: str, *more: str) -> Plain:
    for path in ("/chat/completions", "/responses", "/models", *more):
        if request.path == base + path:
            plain = _echo("openai-chat", path, request.json)
            return Plain(plain.path, request.body, method=request.method)
    raise Refused(404, {"error": {"code": "NotFound", "message": f"Resource not found: {request.path}"}})


# ---------------------------------------------------------------- Azure


def azure(request: Request) -> Plain:
    carried = request.carried()
    if request.host.endswith(".services.ai.azure.com") and request.path.startswith("/anthropic/"):
        return _foundry(request, carried)
    if carried not in ({"api-key": KEY}, {"authorization": f"Bearer {ENTRA}"}):
        message = "Access denied due to invalid subscription key or wrong API endpoint."
        raise Refused(401, {"error": {"code": "401", "message": f"{message} {sorted(carried)}"}})
    if "responses" in request.path and "context_management" in request.json:
        raise Refused(
            400, {"error": {"code": "unknown_parameter", "message": "Unknown parameter: 'context_management'."}}
        )
    if request.get("x-openai-internal-codex-responses-lite"):
        raise Refused(400, {"error": {"message": "only supports function tools, custom tools"}})
    if "max_tokens" in request.json:
        raise Refused(
            400, {"error": {"code": "unsupported_parameter", "message": "Unsupported parameter: 'max_tokens'"}}
        )
    if request.path.startswith("/openai/v1/"):
        if request.query:
            raise Refused(400, {"error": {"message": f"unknown parameters: {request.query}"}})
        return _filtered(request, _openai_surface(request, "/openai/v1"))
    if request.query != {"api-version": ["2024-10-21"]}:
        raise Refused(404, {"error": {"code": "404", "message": "Resource not found"}})
    found = re.fullmatch(r"/openai(?:/deployments/([\w.-]+)/chat/completions|(/responses))", request.path)
    if not found:
        raise Refused(404, {"error": {"code": "DeploymentNotFound", "message": f"no {request.path}"}})
    path = found[2] or "/chat/completions"
    return _filtered(request, Plain(f"/v1{path}", request.body))


def _filtered(request: Request, plain: Plain) -> Plain:
    """Content filters: a prompt that is refused, and a first chunk that only tells of the filter."""
    if b"something wicked" in request.body:
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True}}}
        error = {"message": "The response was filtered", "type": None, "param": "prompt", "code": "content_filter"}
        raise Refused(400, {"error": {**error, "status": 400, "innererror": inner}})
    if request.json.get("stream") and plain.path.endswith("/chat/completions"):
        first = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
        told = {**first, "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
        plain.frame = lambda stream: ("text/event-stream", b"data: " + json.dumps(told).encode() + b"\n\n" + stream)
    return plain


def _foundry(request: Request, carried: dict[str, str]) -> Plain:
    if carried not in ({"x-api-key": KEY, "api-key": KEY}, {"authorization": f"Bearer {ENTRA}"}):
        raise _anthropic_error(401, f"wrong credentials: {sorted(carried)}", "authentication_error")
    if not request.get("anthropic-version"):
        raise _anthropic_error(400, "anthropic-version: header is required")
    _check_blocks(request.json, set())
    if request.path == "/anthropic/v1/messages/count_tokens":
        return Plain("", b"", answer={"input_tokens": 45})
    if request.path != "/anthropic/v1/messages":
        raise _anthropic_error(404, f"no {request.path}", "not_found_error")
    return _echo("anthropic", "/v1/messages", request.json)


# ---------------------------------------------------------------- all others


_ANY = {"project": "p-1", "location": "global", "region": "us-east-1", "suffix": "amazonaws.com", "host": "h"}


def usual(request: Request) -> Plain:
    """A host of the table with the makers' paths below its base URLs."""
    host = at(f"https://{request.host}")
    assert host is not None, request.host
    for form, url in host.urls.items():
        base = urlsplit(url.format_map(_ANY)).path.replace("WORKSPACE", "contoso")
        paths = ("/v1/messages", "/v1/messages/count_tokens", "/v1/models") if form == "anthropic" else ()
        paths = (
            ("/chat/completions",)
            if form == "openai-chat"
            else ("/responses",)
            if form == "openai-responses"
            else paths
        )
        rest = request.path.removeprefix(base)
        if not request.path.startswith(base) or not (rest in paths or (form == "gemini" and "/models" in rest)):
            continue
        auth = (host.auth or usual_auth(form, url)) if form in ("anthropic", "gemini") else ("bearer",)
        key = TOKEN if host.tokens else KEY
        expected = {
            "authorization" if one == "bearer" else one: f"Bearer {key}" if one == "bearer" else key for one in auth
        }
        if host.signs:
            check_signature(request, host.signs, request.host.split(".")[1])
        elif request.carried() != expected:
            raise Refused(401, {"error": {"message": f"expected {sorted(expected)}, got {sorted(request.carried())}"}})
        if form == "anthropic" and (host.name in ("databricks", "snowflake")):
            known = {"interleaved-thinking-2025-05-14", "context-1m-2025-08-07"}
            if host.name == "databricks":
                known |= {"context-management-2025-06-27", "fine-grained-tool-streaming-2025-05-14"}
            _check_betas([name for name in request.get("anthropic-beta").split(",") if name], known)
            _check_blocks(request.json, {"defer_loading"})
        return Plain(f"{'/v1' if form.startswith('openai') else ''}{rest}", request.body, method=request.method)
    raise Refused(404, {"error": {"message": f"no {request.path}"}})


def dialect(host: str) -> Callable[[Request], Plain]:
    if host == "oauth2.googleapis.com":
        return token_service
    known = at(f"https://{host}")
    assert known is not None, f"nobody may be asked for {host}"
    named = {"vertex": vertex, "bedrock": bedrock_runtime, "bedrock-mantle": mantle, "azure": azure, "foundry": azure}
    return named.get(known.name, usual)


# ---------------------------------------------------------------- the server


@dataclass
class Sky:
    """All hosts behind one proxy."""

    port: int
    ca_file: str
    echo_url: str
    seen: list[Request] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    scripts: list[Callable[[Request], Plain]] = field(default_factory=list)
    """What answers the next requests in place of the hosts' own dialect."""

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def reach(self) -> Object:
        """What leads an upstream of the proxy here."""
        return {"proxy": self.proxy, "ca_file": self.ca_file}

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    def environ(self) -> dict[str, str]:
        return {"HTTPS_PROXY": self.proxy, "SSL_CERT_FILE": self.ca_file}


@contextlib.contextmanager
def clouds() -> Iterator[Sky]:
    """Every host, until the block ends."""
    import trustme

    authority = trustme.CA()
    contexts: dict[str, ssl.SSLContext] = {}
    lock = threading.Lock()

    def context_of(host: str) -> ssl.SSLContext:
        with lock:
            if host not in contexts:
                contexts[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                authority.issue_cert(host).configure_cert(contexts[host])
            return contexts[host]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        host = ""

        def do_CONNECT(self) -> None:
            self.host = self.path.rpartition(":")[0]
            self.send_response(200)
            self.end_headers()
            try:
                secure = context_of(self.host).wrap_socket(self.connection, server_side=True)
            except (OSError, ssl.SSLError):
                self.close_connection = True
                return
            self.connection, self.close_connection = secure, False
            self.rfile, self.wfile = secure.makefile("rb"), secure.makefile("wb", buffering=0)  # type: ignore[assignment]

        def _respond(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            request = Request(self.command, self.host, self.path, list(self.headers.items()), self.rfile.read(length))
            sky.seen.append(request)
            try:
                assert self.host, "plain HTTP came through the proxy"
                plain = sky.scripts.pop(0)(request) if sky.scripts else dialect(self.host)(request)
                status, kind, body = answered(plain, sky.echo_url)
                headers = {"content-type": kind}
            except Refused as refused:
                sky.refused.append(refused)
                status, headers = refused.status, {"content-type": "application/json", **refused.headers}
                body = refused.body if isinstance(refused.body, bytes) else json.dumps(refused.body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        do_POST = do_GET = _respond

        def finish(self) -> None:
            with contextlib.suppress(OSError):
                super().finish()
            self.connection.close()

        def log_message(self, *_: object) -> None:
            pass

    with tempfile.TemporaryDirectory() as folder, proxy(ECHO) as inner:
        ca_file = Path(folder, "ca.pem")
        authority.cert_pem.write_to_path(str(ca_file))
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        sky = Sky(server.server_address[1], str(ca_file), inner.parts.parts.echo_url)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield sky
        finally:
            server.shutdown()
            server.server_close()


def answered(plain: Plain, echo_url: str) -> tuple[int, str, bytes]:
    """Status, content type and body of an answer."""
    if plain.answer is not None:
        return 200, "application/json", json.dumps(plain.answer).encode()
    connection = http.client.HTTPConnection(urlsplit(echo_url).netloc)
    try:
        headers = {"content-type": "application/json", "anthropic-version": "2023-06-01", **plain.headers}
        connection.request(plain.method, plain.path, plain.body or None, headers)
        response = connection.getresponse()
        kind, body = response.headers.get("content-type", ""), response.read()
        if plain.frame is not None and response.status == 200:
            kind, body = plain.frame(body)
        return response.status, kind, body
    finally:
        connection.close()


BY_NAME = {host.name: host for host in HOSTS}
