"""The OpenAI Chat Completions format, in both roles, and the client's side of the legacy text completions."""

from ccproxy_lite.formats import openai, openai_catalog
from ccproxy_lite.formats.format import Format, PathInfo, fixed_paths
from ccproxy_lite.formats.openai_chat import answer, completions, messages, reader, request

FORMAT = Format(
    name="openai-chat",
    read_path=fixed_paths({"/v1/chat/completions": PathInfo(), "/chat/completions": PathInfo()}),
    write_path=lambda model, path: "/chat/completions",
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
    without_foreign=messages.without_foreign,
    with_effort=request.with_effort,
    is_own_error=openai.is_own_error,
    write_error=openai.write_error,
    read_models=openai_catalog.read_models,
    write_models=openai_catalog.write_models,
    write_model=openai_catalog.write_model,
    counting=None,
    routes=(("POST /v1/chat/completions", "a chat completion, whole or streamed"),),
    write_count=lambda tokens: {"input_tokens": tokens},
)

COMPLETIONS = FORMAT._replace(
    name=completions.NAME,
    read_path=fixed_paths({"/v1/completions": PathInfo(), "/completions": PathInfo()}),
    write_path=lambda model, path: "/completions",
    read_request=completions.read_request,
    read_body=completions.read_body,
    write_body=completions.write_body,
    reader=completions.Reader,
    writer=completions.Writer,
    look=completions.look,
    usual=reader.USUAL,
    without_foreign=lambda body: None,
    routes=(("POST /v1/completions", "a text completion: through a chat, or untouched with the quirk completions"),),
    base=FORMAT.name,
    quirk="completions",
)
