"""The Anthropic Messages format, in both roles."""

from ccproxy_lite.formats.anthropic import answer, catalog, errors, reader, reasoning, request
from ccproxy_lite.formats.format import Counting, Format, PathInfo, fixed_paths

FORMAT = Format(
    name="anthropic",
    read_path=fixed_paths({"/v1/messages": PathInfo(), "/v1/messages/count_tokens": PathInfo("count")}),
    write_path=lambda model, path: "/v1/messages",
    models_path="/v1/models?limit=1000",
    fixed_headers=(("anthropic-version", request.VERSION),),
    read_request=request.read_request,
    write_request=request.write_request,
    read_body=reader.read_body,
    write_body=answer.write_body,
    reader=reader.Reader,
    writer=answer.Writer,
    keep_alive=b'event: ping\ndata: {"type":"ping"}\n\n',
    look=reader.look,
    usual=reader.USUAL,
    write_failure=reader.write_failure,
    without_foreign=request.without_foreign,
    with_effort=reasoning.with_effort,
    is_own_error=errors.is_own_error,
    write_error=errors.write_error,
    read_models=catalog.read_models,
    write_models=catalog.write_models,
    write_model=catalog.write_model,
    counting=Counting(lambda model, path: "/v1/messages/count_tokens", catalog.counting_body, catalog.read_count),
    routes=(
        ("POST /v1/messages", "a message, whole or streamed"),
        ("POST /v1/messages/count_tokens", "the upstream's count, else an estimate (x-ccproxy-estimate: 1)"),
    ),
    write_count=catalog.write_count,
    pauses=True,
)
