"""Questions of clients of all formats that have one thing each: an image, tools, a search, reasoning, many words."""

from __future__ import annotations

from typing import Any

from tests.support import WIRES, Answer, Proxy, Scripted, Seen, ask, behind, proxy

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LONG = "one word after the other " * 400
INSTRUCTIONS = "You are the reviewer."
PAIRS = [(client, to) for client in WIRES for to in WIRES]
PARAMETERS = {"type": "object", "properties": {"a": {"type": "string"}}}
LEAST: dict[str, dict[str, Any]] = {
    "anthropic": {"max_tokens": 16000, "messages": [{"role": "user", "content": "hi"}]},
    "openai-chat": {"messages": [{"role": "user", "content": "hi"}]},
    "openai-responses": {"input": [{"role": "user", "content": "hi"}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}
MORE: dict[str, dict[str, dict[str, Any]]] = {
    "anthropic": {
        "image": {"messages": [
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]}]},
        ], "tools": [{"name": "f", "input_schema": PARAMETERS}]},
        "tools": {"tools": [{"name": "f", "input_schema": PARAMETERS}]},
        "web_search": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "thinking": {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        "long": {"messages": [{"role": "user", "content": LONG}]},
        "system": {"system": [{"type": "text", "text": INSTRUCTIONS}]},
    },
    "openai-chat": {
        "image": {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]}]},
        "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}]},
        "web_search": {"web_search_options": {}},
        "thinking": {"reasoning_effort": "high"},
        "long": {"messages": [{"role": "user", "content": LONG}]},
        "system": {"messages": [
            {"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": "hi"}]},
    },
    "openai-responses": {
        "image": {"input": [
            {"role": "user", "content": "look"},
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": [
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}]},
        ], "tools": [{"type": "function", "name": "f", "parameters": PARAMETERS}]},
        "tools": {"tools": [{"type": "function", "name": "f", "parameters": PARAMETERS}]},
        "web_search": {"tools": [{"type": "web_search"}]},
        "thinking": {"reasoning": {"effort": "high"}},
        "long": {"input": LONG},
        "system": {"instructions": INSTRUCTIONS},
    },
    "gemini": {
        "image": {"contents": [{"role": "user", "parts": [
            {"text": "look"}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}]}]},
        "tools": {"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": PARAMETERS}]}]},
        "web_search": {"tools": [{"googleSearch": {}}]},
        "thinking": {"generationConfig": {"thinkingConfig": {"thinkingLevel": "HIGH"}}},
        "long": {"contents": [{"role": "user", "parts": [{"text": LONG}]}]},
        "system": {"systemInstruction": {"parts": [{"text": INSTRUCTIONS}]}},
    },
}  # fmt: skip


def question(client: str, model: str, more: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """Path and body of a client that asks for a model."""
    body = {**LEAST[client], **(more or {})}
    if client == "gemini":
        return f"/v1beta/models/{model}:generateContent", body
    return WIRES[client].path, {"model": model, **body}


def say(served: Proxy, client: str, model: str, more: dict[str, Any] | None = None, **headers: str) -> Answer:
    path, body = question(client, model, more)
    return ask(served.port, path, body, **headers)


def serve(up: Scripted, to: str, models: dict[str, Any], **settings: Any) -> Any:
    return proxy({**behind(up, to, **settings), "models": models})


def model_in(seen: Seen) -> str:
    """The model that a service is asked for."""
    path = seen.head.split(" ")[1]
    return path.rpartition("/models/")[2].partition(":")[0] if "/models/" in path else str(seen.json["model"])
