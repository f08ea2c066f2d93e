"""The OpenAI Chat Completions format, in both roles."""

from ccproxy_lite.formats.format import Format
from ccproxy_lite.formats.openai_chat import answer, catalog, errors, reader, request

FORMAT = Format(
    name="openai-chat",
    default_base_url="https://api.openai.com/v1",
    key_variables=("OPENAI_API_KEY",),
    key_header="authorization",
    messages_path="/chat/completions",
    models_path="/models",
    fixed_headers=(),
    read_request=request.read_request,
    write_request=request.write_request,
    read_body=reader.read_body,
    write_body=answer.write_body,
    reader=reader.Reader,
    writer=answer.Writer,
    watcher=reader.Watcher,
    without_foreign=lambda body: None,
    read_error=errors.read_error,
    write_error=errors.write_error,
    read_models=catalog.read_models,
    write_models=catalog.write_models,
    write_model=catalog.write_model,
    counting=None,
    write_count=None,
)
