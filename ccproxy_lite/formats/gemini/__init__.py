"""The Gemini generateContent format, in both roles."""

from ccproxy_lite.formats.format import Counting, Format
from ccproxy_lite.formats.gemini import answer, catalog, contents, errors, paths, reader, request

FORMAT = Format(
    name=contents.NAME,
    read_path=paths.read_path,
    write_path=paths.write_path,
    models_path="/v1beta/models?pageSize=1000",
    fixed_headers=(),
    read_request=request.read_request,
    write_request=request.write_request,
    read_body=reader.read_body,
    write_body=answer.write_body,
    reader=reader.Reader,
    writer=answer.Writer,
    keep_alive=b"\n",
    look=reader.look,
    usual=reader.USUAL,
    write_failure=reader.write_failure,
    without_foreign=contents.without_foreign,
    with_effort=request.with_effort,
    is_own_error=errors.is_own_error,
    write_error=errors.write_error,
    read_models=catalog.read_models,
    write_models=catalog.write_models,
    write_model=catalog.write_model,
    counting=Counting(paths.count_path, request.counting_body, catalog.read_count),
    routes=(
        ("POST /v1beta/models/{model}:generateContent", "an answer; below /v1, too"),
        ("POST /v1beta/models/{model}:streamGenerateContent", "a stream: events with ?alt=sse, else one growing array"),
        (
            "POST /v1beta/models/{model}:countTokens",
            "the upstream's count, else an estimate (x-ccproxy-estimate: 1)",
        ),
        ("POST /v1beta1/publishers/google/models/{model}:...", "the same, as clients of Google's cloud spell it"),
    ),
    write_count=catalog.write_count,
    breaks_off=True,
    comments=False,
)
