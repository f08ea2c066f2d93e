"""The OpenAI Responses format, in both roles."""

from ccproxy_lite.formats import fields, openai, openai_catalog
from ccproxy_lite.formats.format import Counting, Format, PathInfo, State, fixed_paths
from ccproxy_lite.formats.openai_responses import answer, items, reader, request, state

_REQUEST_PATHS = {
    "/responses": PathInfo(),
    "/responses/input_tokens": PathInfo("count"),
    "/responses/compact": PathInfo("compact"),
}

FORMAT = Format(
    name=items.NAME,
    read_path=fixed_paths({**_REQUEST_PATHS, **{f"/v1{path}": info for path, info in _REQUEST_PATHS.items()}}),
    write_path=lambda model, path: "/responses/compact" if path.action == "compact" else "/responses",
    models_path="/models",
    fixed_headers=(),
    read_request=request.read_request,
    write_request=request.write_request,
    read_body=reader.read_body,
    write_body=answer.write_body,
    reader=reader.Reader,
    writer=answer.Writer,
    keep_alive=b": keep-alive\n",
    look=reader.look,
    usual=reader.USUAL,
    write_failure=reader.write_failure,
    without_foreign=items.without_foreign,
    with_effort=request.with_effort,
    is_own_error=openai.is_own_error,
    write_error=openai.write_error,
    read_models=openai_catalog.read_models,
    write_models=openai_catalog.write_models,
    write_model=openai_catalog.write_model,
    counting=Counting(
        lambda model, path: "/responses/input_tokens",
        request.counting_body,
        lambda body: fields.count(body, "input_tokens"),
    ),
    routes=(
        ("POST /v1/responses", "a response, whole or streamed"),
        ("POST /v1/responses/input_tokens", "the upstream's count, else an estimate (x-ccproxy-estimate: 1)"),
        ("POST /v1/responses/compact", "passed on to an openai-responses upstream, rejected elsewhere"),
        ("GET|DELETE /v1/responses/{id}", "a response that is kept in memory, else the upstream's"),
        ("GET /v1/responses/{id}/input_items", "the input items of that response"),
        ("GET /v1/responses (WebSocket)", "426, so that clients use HTTP at once"),
    ),
    state=State(
        state.previous_id,
        state.wants_store,
        state.refers_elsewhere,
        state.unknown,
        state.missing,
        state.continued,
        state.turn_of,
        state.stored_at,
        state.write_items,
        state.write_deleted,
    ),
    write_count=lambda tokens: {"object": "response.input_tokens", "input_tokens": tokens},
)
