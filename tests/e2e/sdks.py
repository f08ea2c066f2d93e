"""The official SDKs as clients of the proxy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.support import Proxy, proxy

CLIENTS: list[Any] = []
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@contextlib.contextmanager
def through_the_echo(form: str, **settings: Any) -> Iterator[Proxy]:
    """A proxy whose upstream is an echo that speaks this format."""
    with proxy({"upstreams": {"echo": {"format": "echo"}}}) as inner:
        port = int(inner.parts.parts.echo_url.rpartition(":")[2])
        suffix = "/v1" if form.startswith("openai") else ""
        entry = {"format": form, "base_url": f"http://127.0.0.1:{port}{suffix}", "keys": ["echo-key"]}
        with proxy({"upstreams": {"up": entry}, "client_keys": ["client-key"], **settings}) as served:
            yield served


def anthropic_client(served: Proxy, retries: int = 0) -> Any:
    import anthropic

    CLIENTS.append(anthropic.Anthropic(base_url=served.url, api_key="client-key", max_retries=retries))
    return CLIENTS[-1]


def openai_client(served: Proxy) -> Any:
    import openai

    CLIENTS.append(openai.OpenAI(base_url=f"{served.url}/v1", api_key="client-key", max_retries=0))
    return CLIENTS[-1]


def genai_client(served: Proxy) -> Any:
    from google import genai

    options = genai.types.HttpOptions(base_url=served.url)
    CLIENTS.append(genai.Client(api_key="client-key", http_options=options, vertexai=False))
    return CLIENTS[-1]


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]
