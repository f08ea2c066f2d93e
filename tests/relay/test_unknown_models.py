"""A model that the service does not have: what the client hears, in each service's words, and what stays untouched."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ccproxy_lite.relay import catalog
from tests.support import STALL, WIRES, Answer, ask, behind, http, proxy, upstream
from tests.targets import PAIRS, say, serve

SENT = "zork-large-3"
REMEDIES = ("ccproxy-lite models", '"models"')


def anthropic(message: str, kind: str = "not_found_error") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def openai(message: str, code: Any = "model_not_found", kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def google(message: str, status: str = "NOT_FOUND", code: int = 404) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status}}


SAID: dict[str, tuple[int, Any, str]] = {
    "anthropic": (404, anthropic(f"model: {SENT}"), f"model: {SENT}"),
    "openai-chat": (
        404,
        openai(f"The model `{SENT}` does not exist or you do not have access to it."),
        "does not exist or you do not have access to it",
    ),
    "openai-responses": (
        400,
        openai(f"The requested model '{SENT}' does not exist.", "model_not_found"),
        f"The requested model '{SENT}' does not exist.",
    ),
    "gemini": (
        404,
        google(f"models/{SENT} is not found for API version v1beta, or is not supported for generateContent."),
        "is not found for API version v1beta",
    ),
}
OTHER_WORDS: list[tuple[str, int, Any, str]] = [
    ("openai-chat", 400, openai("Model Not Exist", "invalid_request_error"), "Model Not Exist"),
    ("openai-chat", 400, openai(f"{SENT} is not a valid model ID", 400), "is not a valid model ID"),
    ("openai-chat", 404, openai(f'model "{SENT}" not found, try pulling it first', None, "not_found_error"), "try pulling it"),
    ("openai-chat", 400, {"object": "error", "message": f"Invalid model: {SENT}", "type": "invalid_model", "code": "1500"}, "Invalid model"),
    ("openai-chat", 400, openai("Unknown Model, please check the model code.", "1211"), "Unknown Model"),
    ("openai-chat", 404, openai("Not found the model zork-large-3 or Permission denied", None), "Permission denied"),
    ("openai-chat", 404, {"detail": f"Model {SENT} not found"}, "not found"),
    ("openai-chat", 404, {"error": f"model '{SENT}' not found"}, "not found"),
    ("openai-responses", 404, openai(f"Model not found {SENT}"), "Model not found"),
    ("anthropic", 400, {"message": "The provided model identifier is invalid."}, "identifier is invalid"),
    ("anthropic", 404, anthropic(f"Model {SENT} is not available"), "is not available"),
    ("anthropic", 400, anthropic(f"model '{SENT}' is currently not available", "invalid_request_error"), "not available"),
    ("openai-chat", 400, openai(f"The requested model: {SENT} is not supported.", None), "is not supported"),
    ("openai-chat", 400, openai(f"Model {SENT} is not supported for this account", None), "for this account"),
    ("openai-chat", 400, openai(f"You do not have access to the model `{SENT}`", None), "not have access"),
    ("gemini", 400, google(f"* GenerateContentRequest.model: unexpected model name format, no such model {SENT}", "INVALID_ARGUMENT", 400), "no such model"),
]  # fmt: skip


def error_of(answer: Answer) -> str:
    body = answer.json
    return str((body.get("error") or {}).get("message"))


def read_by(client: str, answer: Answer) -> None:
    """The error is one of the client's format."""
    error = answer.json["error"]
    if client == "anthropic":
        assert answer.json["type"] == "error" and error["type"] in ("not_found_error", "invalid_request_error")
    elif client == "gemini":
        assert error["code"] == answer.status and error["status"] in ("NOT_FOUND", "INVALID_ARGUMENT")
    else:
        assert error["type"] == "invalid_request_error" and "code" in error


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("client", "to"), PAIRS)
def test_the_client_hears_who_was_asked_for_what(client: str, to: str, stream: bool) -> None:
    status, body, words = SAID[to]
    models = {"fast": f"up/{SENT}"}
    with upstream([http(status, body)]) as up, serve(up, to, models) as served:
        if stream and client == "gemini":
            path = "/v1beta/models/fast:streamGenerateContent?alt=sse"
            answer = ask(served.port, path, WIRES[client].ask)
        else:
            answer = say(served, client, "fast", WIRES[client].options if stream else None)
    message = error_of(answer)
    assert answer.status == status, answer
    assert message.startswith("upstream up")
    for part in (SENT, '"fast"', words.rstrip("."), *REMEDIES):
        assert part in message, (part, message)
    assert answer.headers["x-ccproxy-upstream"] == f"up/{SENT}"
    read_by(client, answer)


@pytest.mark.parametrize(("form", "status", "body", "words"), OTHER_WORDS)
def test_services_say_it_in_many_words(form: str, status: int, body: Any, words: str) -> None:
    with upstream([http(status, body)]) as up, serve(up, form, {}) as served:
        answer = say(served, "anthropic", SENT)
    message = error_of(answer)
    assert answer.status == status
    for part in ("upstream up", SENT, words, *REMEDIES):
        assert part in message, (part, message)
    assert "asked for as" not in message, "it was asked for by the name that was sent"


@pytest.mark.parametrize("client", WIRES)
def test_names_that_are_like_it(client: str) -> None:
    def choose(seen: Any) -> list[Any]:
        if seen.head.startswith("GET"):
            return [http(200, {"data": [{"id": "zork-large-2"}, {"id": "zork-small"}, {"id": "quite-else"}]})]
        return [http(404, SAID["openai-chat"][1])]

    with upstream(choose=choose) as up, serve(up, "openai-chat", {}) as served:
        messages = [error_of(say(served, client, SENT)) for _ in range(2)]
    assert all("did you mean" in message and "zork-large-2" in message for message in messages)
    assert sum(seen.head.startswith("GET") for seen in up.seen) == 1


def test_a_service_whose_list_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client does not wait for it for long, and the next one not at all."""
    monkeypatch.setattr(catalog, "_HURRY_S", 0.05)

    def choose(seen: Any) -> list[Any]:
        return [STALL] if seen.head.startswith("GET") else [http(404, SAID["openai-chat"][1])]

    with upstream(choose=choose) as up, serve(up, "openai-chat", {}) as served:
        messages = [error_of(say(served, "anthropic", SENT)) for _ in range(2)]
        assert sum(seen.head.startswith("GET") for seen in up.seen) == 1
    assert all("does not exist" in message and "did you mean" not in message for message in messages)


def test_who_stops_waiting_for_a_list_takes_it_from_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_HURRY_S", 0.05)
    gate = threading.Event()

    def choose(seen: Any) -> list[Any]:
        if seen.head.startswith("GET"):
            return [lambda _: gate.wait(10), http(200, {"data": [{"id": "zork-small"}]})]
        return [http(404, SAID["openai-chat"][1])]

    with upstream(choose=choose) as up, serve(up, "openai-chat", {}) as served:
        assert "zork-small" not in error_of(say(served, "anthropic", SENT))
        gate.set()
        listed = ask(served.port, "/v1/models", method="GET").json["data"]
        assert [one["id"] for one in listed] == ["zork-small"]
        assert sum(seen.head.startswith("GET") for seen in up.seen) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/provider/up/v1/chat/completions"])
def test_only_the_list_of_who_is_named_is_asked_for(path: str) -> None:
    def choose(seen: Any) -> list[Any]:
        return [http(200, {"data": [{"id": "m"}]} if seen.head.startswith("GET") else WIRES["openai-chat"].body)]

    with upstream(choose=choose) as up, upstream([STALL]) as dead:
        config = behind(up, "openai-chat")
        config["upstreams"]["dead"] = behind(dead, "openai-chat")["upstreams"]["up"]
        with proxy(config) as served:
            name = "m-high" if "provider" in path else "up/m-high"
            assert ask(served.port, path, {**WIRES["openai-chat"].ask, "model": name}).status == 200
            assert up.seen[-1].json["reasoning_effort"] == "high" and dead.seen == []


def test_targets_that_were_not_asked_for_are_not_named() -> None:
    """Who names the upstream has not asked for what ``models`` says."""
    with upstream([http(404, SAID["anthropic"][1])]) as up:
        with serve(up, "anthropic", {"*": [{"to": "up/other", "when": {"has": "image"}}]}) as served:
            message = error_of(say(served, "anthropic", f"up/{SENT}"))
            assert "targets under models" in error_of(say(served, "anthropic", f"{SENT}(high)"))
    assert "targets under models" not in message


def test_targets_that_take_other_requests_are_named() -> None:
    with upstream([http(404, SAID["anthropic"][1])]) as up:
        models = {"zork-*": [{"to": "up/other", "when": {"has": "image"}}]}
        with serve(up, "anthropic", models) as served:
            message = error_of(say(served, "anthropic", SENT))
    assert "its targets under models require: has image" in message and "has image" in message


def test_names_in_the_configuration() -> None:
    names = ["zork-large-2", "zork-mini"]
    with upstream(choose=lambda seen: [http(404, anthropic(f"model: {seen.json['model']}"))]) as up:
        with proxy(behind(up, "anthropic", models=names)) as served:
            assert "did you mean zork-large-2" in error_of(say(served, "anthropic", f"up/{SENT}"))
            assert "available: zork-large-2, zork-mini" in error_of(say(served, "anthropic", "up/nothing-alike"))


def test_an_effort_is_no_part_of_the_name() -> None:
    with upstream([http(404, SAID["anthropic"][1])]) as up, serve(up, "anthropic", {}) as served:
        message = error_of(say(served, "anthropic", f"{SENT}(high)[1m]"))
    assert f'model "{SENT}"' in message and f'"{SENT}(high)[1m]"' in message


def test_a_name_is_not_repeated_where_the_service_is_asked_as_the_client_asked() -> None:
    with upstream([http(404, SAID["anthropic"][1])]) as up, serve(up, "anthropic", {}) as served:
        assert "asked for as" not in error_of(say(served, "anthropic", SENT))


def test_no_secret_is_quoted() -> None:
    body = openai(f"The model `{SENT}` does not exist for key upstream-key-one")
    with upstream([http(404, body)]) as up, serve(up, "openai-chat", {}) as served:
        for client in WIRES:
            assert b"upstream-key-one" not in say(served, client, SENT).body


def test_the_last_of_several_targets_is_explained() -> None:
    with upstream([http(404, SAID["anthropic"][1])]) as up:
        with serve(up, "anthropic", {"fast": ["up/one", f"up/{SENT}"]}) as served:
            answer = say(served, "anthropic", "fast")
    assert answer.status == 404 and [seen.head[:4] for seen in up.seen] == ["POST", "POST", "GET "]
    assert answer.headers["x-ccproxy-upstream"].partition("/")[2] in error_of(answer)


UNTOUCHED: list[tuple[str, int, Any]] = [
    ("anthropic", 404, anthropic("Not Found")),
    ("anthropic", 404, anthropic("file_011CNha8iCJcU1wXNR6q4V8w not found")),
    ("anthropic", 400, anthropic("messages: text content blocks must be non-empty", "invalid_request_error")),
    ("anthropic", 400, anthropic("This model does not support image input", "invalid_request_error")),
    ("anthropic", 400, anthropic("max_tokens: 200000 > 64000, which is the maximum allowed number of output tokens for this model", "invalid_request_error")),
    ("openai-chat", 404, openai("Unknown request URL: POST /v1/chat/completion", "unknown_url")),
    ("openai-chat", 400, openai("Unsupported parameter: 'max_tokens' is not supported with this model.", "unsupported_parameter")),
    ("openai-chat", 400, openai("Unsupported value: 'temperature' does not support 0.2 with this model.", "unsupported_value")),
    ("openai-chat", 400, openai("Unsupported model parameter: 'temperature'", "unsupported_parameter")),
    ("openai-chat", 400, openai("Invalid model output format: json_schema is required", "invalid_value")),
    ("openai-chat", 400, openai("The model returned a tool call whose tool was not found in the request", "invalid_value")),
    ("openai-chat", 400, openai("Tool choice 'required' is not supported for zork-9", "unsupported_value")),
    ("openai-chat", 400, openai("'xhigh' is an invalid effort for zork-9", "invalid_value")),
    ("openai-responses", 404, openai("Previous response with id 'resp_1' not found.", "previous_response_not_found")),
    ("openai-responses", 404, openai("Item with id 'rs_1' not found; the model's reasoning items are not persisted when store is false.", None)),
    ("openai-responses", 400, openai("File 'file-1' was not found; the model cannot read it", "invalid_value")),
    ("gemini", 400, google("Developer instruction is not enabled for models/zork-9", "INVALID_ARGUMENT", 400)),
    ("gemini", 400, google("image input is not supported for models/zork-9", "INVALID_ARGUMENT", 400)),
    ("openai-chat", 400, openai("The parameter `enable_thinking` is invalid for model zork-9", "InvalidParameter")),
    ("openai-chat", 400, openai("Invalid request: the requested max_tokens (9) exceeds the limit of model zork-9 (8)", None)),
    ("openai-chat", 400, openai("Model zork-9 is not supported with this tool choice", None)),
    ("openai-chat", 400, openai("Model zork-9 is not supported on this endpoint", None)),
    ("anthropic", 400, anthropic("top_k is not supported for model zork-9", "invalid_request_error")),
    ("anthropic", 400, anthropic("model zork-9: tools.0 has an unknown type", "invalid_request_error")),
    ("gemini", 404, google("Requested entity was not found.")),
    ("gemini", 400, google("Please ensure that function call turn comes immediately after a user turn; the model turn is invalid", "INVALID_ARGUMENT", 400)),
]  # fmt: skip


@pytest.mark.parametrize(("form", "status", "body"), UNTOUCHED)
def test_what_is_not_about_the_model_stays_as_it_came(form: str, status: int, body: Any) -> None:
    with upstream([http(status, body)]) as up, serve(up, form, {"fast": "up/zork-9"}) as served:
        answer = say(served, form, "fast")
    assert (answer.status, answer.json) == (status, body)


@pytest.mark.parametrize(("form", "status", "body"), UNTOUCHED)
def test_what_is_not_about_the_model_is_not_explained_elsewhere(form: str, status: int, body: Any) -> None:
    client = "gemini" if form != "gemini" else "anthropic"
    with upstream([http(status, body)]) as up, serve(up, form, {"fast": "up/zork-9"}) as served:
        message = error_of(say(served, client, "fast"))
    assert "ccproxy-lite" not in message and "upstream up" not in message


@pytest.mark.parametrize("model", ["m", "o1", "up", "req"])
def test_a_short_name_is_not_found_inside_other_words(model: str) -> None:
    body = openai("Unknown request URL: POST /v1/chat/completion. No group o123 was found", "unknown_url")
    with upstream([http(404, body)]) as up, serve(up, "openai-chat", {"fast": f"up/{model}"}) as served:
        answer = say(served, "openai-chat", "fast")
    assert (answer.status, answer.json) == (404, body)


def test_who_asks_for_the_model_by_a_path_that_nobody_has() -> None:
    """A wrong base URL: the page that a web server sends says nothing about models, though its path does."""
    page = b"<html><body>404 Not Found: /v1beta/models/m:generateContent</body></html>"
    with upstream([http(404, page, "text/html")]) as up, serve(up, "gemini", {}) as served:
        answer = say(served, "gemini", "m")
    assert answer.status == 404 and "did you mean" not in error_of(answer)


def test_a_closed_list_is_the_proxys_own_404() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up:
        config = behind(up, "anthropic", models=["zork-large-2", "zork-mini"])
        with proxy({**config, "models": {"fast": "up/zork-mini"}}) as served:
            for client in WIRES:
                answer = say(served, client, SENT)
                assert answer.status == 404
                assert SENT in error_of(answer) and "zork-large-2" in error_of(answer)
                read_by(client, answer)
    assert up.seen == []


def test_the_name_that_was_sent_is_not_suggested() -> None:
    status, body, _ = SAID["openai-chat"]
    with upstream([http(status, body)]) as up:
        with proxy(behind(up, "openai-chat", models=[SENT, f"{SENT}-b"])) as served:
            message = error_of(say(served, "anthropic", SENT))
    assert "lists it" in message and "did you mean" not in message


def test_an_address_that_is_not_there() -> None:
    """The commonest mistake in a base URL."""
    with upstream([http(404, {"detail": "Not Found"})]) as up, proxy(behind(up, "openai-chat")) as served:
        for client in ("anthropic", "openai-chat"):
            answer = say(served, client, SENT)
            message = error_of(answer)
            assert answer.status == 404 and "Not Found" in message
            assert "base_url" in message and "upstream up" in message and f"127.0.0.1:{up.port}" in message


NOBODY = {"models": {"alone": {"to": "up/x", "when": {"has": "image"}}}}


@pytest.mark.parametrize("client", list(SAID))
def test_no_target_takes_the_request(client: str) -> None:
    with upstream([http(200, {})]) as up:
        config = {**behind(up, "openai-chat", models=["x"]), **NOBODY}
        with proxy(config) as served:
            answer = say(served, client, "alone")
    message = error_of(answer)
    assert answer.status == 404 and '"alone"' in message and "has image" in message and "did you mean" not in message


@pytest.mark.parametrize("client", list(SAID))
@pytest.mark.parametrize("name", ["fast", "fa*"])
def test_an_effort_that_does_not_exist(name: str, client: str) -> None:
    with upstream([http(200, {})]) as up, proxy({**behind(up, "openai-chat"), "models": {name: "up/x"}}) as served:
        answer = say(served, client, "fast(hihg)")
    message = error_of(answer)
    assert answer.status == 400 and 'did you mean "high"?' in message and "xhigh" in message
    assert not any(seen.body for seen in up.seen)


def test_a_name_that_ends_like_an_effort_is_looked_up() -> None:
    """Whether the service has the shorter one, its list says."""

    def choose(seen: Any) -> list[Any]:
        return [http(200, {"data": [{"id": "m"}]} if seen.head.startswith("GET") else WIRES["openai-chat"].body)]

    with upstream(choose=choose) as up, serve(up, "openai-chat", {}) as served:
        answers = [say(served, "openai-chat", name) for name in ("m-high", "m:low", "n-high", "m(hihg)", "n(other)")]
    assert [answer.status for answer in answers] == [200, 200, 200, 400, 200]
    asked = [(seen.json["model"], seen.json.get("reasoning_effort")) for seen in up.seen if seen.body]
    assert asked == [("m", "high"), ("m", "low"), ("n-high", None), ("n(other)", None)]
    assert sum(seen.head.startswith("GET") for seen in up.seen) == 1
