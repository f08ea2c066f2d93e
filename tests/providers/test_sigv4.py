"""AWS' signatures: the vectors of its test suite, and what ``botocore`` makes of the same requests."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.providers.sigv4 import AwsKeys, Scope, Signable, canonical_request, sign

SUITE = Path(os.environ.get("CCPROXY_TEST_BOTOCORE", "nowhere"), "tests/unit/auth/aws4_testsuite")
KEYS = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SCOPE = Scope("service", "us-east-1")
WHEN = datetime(2015, 8, 30, 12, 36, tzinfo=timezone.utc).timestamp()
VECTORS = sorted(path for path in SUITE.rglob("*.req"))


def parsed(text: str) -> Signable:
    """A request of the suite; lines that begin with a blank go on with the one before."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    method, target = first.removesuffix(" HTTP/1.1").split(" ", 1)
    headers: list[tuple[str, str]] = []
    for line in lines:
        if line[:1].isspace():
            headers[-1] = (headers[-1][0], f"{headers[-1][1]} {line.strip()}")
        elif line:
            name, _, value = line.partition(":")
            headers.append((name, value))
    authority = next(value for name, value in headers if name.lower() == "host")
    kept = [one for one in headers if one[0].lower() not in ("host", "x-amz-date", "x-amz-security-token")]
    return Signable(method, authority, target, tuple(kept), body.encode())


@pytest.mark.skipif(not VECTORS, reason="CCPROXY_TEST_BOTOCORE is not the source of botocore, which has the suite")
@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_suite_of_aws(path: Path) -> None:
    text, canonical = path.read_text("utf-8"), path.with_suffix(".creq").read_text("utf-8")
    request, expected = parsed(text), path.with_suffix(".authz").read_text().strip()
    token = next((line.partition(":")[2] for line in canonical.splitlines() if line.startswith("x-amz-security")), "")
    signed = dict(sign(request, KEYS._replace(session_token=token), SCOPE, WHEN))
    assert signed["authorization"] == expected


def by_botocore(request: Signable, keys: AwsKeys, scope: Scope, wall: float) -> str:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url = f"https://{request.authority}{request.target}"
    made = AWSRequest(request.method, url, dict(request.headers), request.body)
    made.context["timestamp"] = datetime.fromtimestamp(wall, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    made.headers["X-Amz-Date"] = made.context["timestamp"]
    if keys.session_token:
        made.headers["X-Amz-Security-Token"] = keys.session_token
    signer = SigV4Auth(Credentials(keys.access_key, keys.secret_key, keys.session_token or None), *scope)
    return str(signer.signature(signer.string_to_sign(made, signer.canonical_request(made)), made))


_SEGMENT = st.text(alphabet="abcXYZ019-._~:%3A2F@", min_size=1, max_size=12)


@given(
    segments=st.lists(_SEGMENT, max_size=4),
    body=st.binary(max_size=64),
    token=st.sampled_from(["", "a-token"]),
    wall=st.integers(min_value=0, max_value=4_000_000_000),
)
def test_the_signature_is_that_of_botocore(segments: list[str], body: bytes, token: str, wall: int) -> None:
    pytest.importorskip("botocore", reason="botocore is not installed")
    request = Signable("POST", "bedrock-runtime.us-east-1.amazonaws.com", "/" + "/".join(segments), (), body)
    keys, scope = KEYS._replace(session_token=token), Scope("bedrock", "us-east-1")
    signed = dict(sign(request, keys, scope, wall))
    assert signed["authorization"].endswith(f"Signature={by_botocore(request, keys, scope, wall)}")


def test_the_path_of_an_arn_is_escaped_twice() -> None:
    canonical, names = canonical_request(Signable("POST", "h", "/model/arn%3Aaws%2Fx/invoke?b=2&a=1"))
    assert canonical.split("\n")[:3] == ["POST", "/model/arn%253Aaws%252Fx/invoke", "a=1&b=2"]
    assert names == "host"
