"""The live page at ``/``: one file that loads nothing else, and the policy that enforces it.

Its style and script are allowed by their hashes, so nothing else in the page could ever run.
"""

from __future__ import annotations

import base64
import hashlib
import pkgutil
import re
from functools import cache

from ccproxy_lite.net.heads import OutHeaders


@cache
def page() -> bytes:
    """The page, also from within a zip."""
    return pkgutil.get_data("ccproxy_lite.server", "dashboard.html") or b""


@cache
def headers() -> OutHeaders:
    """Type and content security policy (https://www.w3.org/TR/CSP3/)."""
    policy = (
        f"default-src 'none'; script-src {_script_hash('script')}; style-src {_script_hash('style')}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", policy),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
        ("vary", "accept"),
    ]


def _script_hash(tag: str) -> str:
    element = re.search(rf"<{tag}>(.*?)</{tag}>".encode(), page(), re.DOTALL)
    digest = hashlib.sha256(element[1] if element else b"").digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
