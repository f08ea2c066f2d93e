"""A prompt that is too long, as each service says it, and what only looks like it. Sources: recorded answers, the services'
documentation, the source of the open-source servers."""

from __future__ import annotations

import pytest

from ccproxy_lite.formats import FORMATS, failures
from ccproxy_lite.formats.neutral import overflow

SENTENCES = [
    ("prompt is too long: 210000 tokens > 200000 maximum", 210000, 200000),
    (
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, decrease input length or `max_tokens`"
        " and try again",
        222000,
        200000,
    ),
    ("Input is too long for requested model.", 0, 0),
    ("The model returned the following errors: prompt is too long: 210000 tokens > 200000 maximum", 210000, 200000),
    ("Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input to try again.", 0, 0),
    ("400 Bad Request: Too many input tokens. Max input tokens: 8192, request input token count: 9000", 9000, 8192),
    ("This model's maximum context length is 8192 tokens. Please reduce the length of the prompt", 0, 0),
    ("prompt tokens (9000) exceed model maximum (8192) for m", 9000, 8192),
    ("The engine prompt length 9000 exceeds the max_model_len 8192. Please reduce prompt.", 9000, 8192),
    (
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens (8500 in the"
        " messages, 500 in the functions). Please reduce the length of the messages or functions.",
        9000,
        8192,
    ),
    (
        "This model's maximum context length is 200000 tokens. However, you requested 205000 tokens (204990 in the messages,"
        " 10 in the completion). Please reduce the length of the messages or completion.",
        205000,
        200000,
    ),
    (
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens. Please reduce"
        " the length of the messages.",
        300000,
        272000,
    ),
    ("Your input exceeds the context window of this model. Please adjust your input and try again.", 0, 0),
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1200000, 1048576),
    ("The input token count exceeds the maximum number of tokens allowed 1048576.", 0, 0),
    (
        "Unable to submit request because the input token count is 40000 but model only supports up to 32768. Reduce the"
        " input token count and try again.",
        40000,
        32768,
    ),
    (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        40000,
        32768,
    ),
    ("Prompt 40000 > 32768 maximum context length", 40000, 32768),
    ("Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)", 140000, 131072),
    ("Input token length too long", 0, 0),
    ("Prompt too long", 0, 0),
    ("Prompt exceeds max length", 0, 0),
    ("Prompt 超长", 0, 0),
    ("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]", 0, 0),
    ("invalid params, context window exceeds limit (2013)", 0, 0),
    ("This model's maximum prompt length is 131072 but the request contains 537812 tokens.", 537812, 131072),
    ("Please reduce the length of the messages or completion.", 0, 0),
    ("Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192", 9000, 8192),
    ("The input (9000 tokens) is longer than the model's context length (8192 tokens).", 9000, 8192),
    ("The prompt is too long: 40000, model maximum context length: 32767", 40000, 32767),
    (
        "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000 tokens (8500 of text"
        ' input, 500 in the output). Please reduce the length of either one, or use the "middle-out" transform.',
        9000,
        8192,
    ),
    ("Input length 9000 exceeds the maximum allowed input length of 8192 tokens.", 9000, 8192),
    ("too many tokens: size limit exceeded by 100 tokens. The limit for this model is 4096 tokens.", 0, 0),
    ("too many tokens: total number of tokens in the prompt cannot exceed 4096 - received 5000.", 5000, 4096),
    ("The total length of all messages is too long.", 0, 0),
    ("User input tokens exceeds 8000 tokens", 0, 0),
    (
        "This model's maximum context length is 8192 tokens. However, your request has 9000 input tokens. Please reduce the"
        " length of the input messages.",
        9000,
        8192,
    ),
    (
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192. Make sure that `max_model_len` is"
        " no smaller than the number of text tokens.",
        9000,
        8192,
    ),
    (
        "You passed 9000 input tokens and requested 100 output tokens. However, the model's context length is only 8192"
        " tokens, resulting in a maximum input length of 8092 tokens.",
        9000,
        8092,
    ),
    (
        "This model's maximum context length is 8192 tokens. However, you requested 4000 output tokens and your prompt"
        " contains at least 4193 input tokens, for a total of at least 8193 tokens. (parameter=input_tokens, value=4193)",
        8193,
        8192,
    ),
    (
        "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 9000"
        " tokens: 8000 tokens from the input messages and 1000 tokens for the completion.",
        9000,
        8192,
    ),
    ("Input length (9000 tokens) exceeds the maximum allowed length (8192 tokens). Use a shorter input.", 9000, 8192),
    ("request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it", 9000, 8192),
    ("the request exceeds the available context size. try increasing the context size or enable context shift", 0, 0),
    ("Context size has been exceeded.", 0, 0),
    ("the input length exceeds the context length", 0, 0),
    ("prompt too long; exceeded max context length by 12 tokens", 0, 0),
    (
        "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 9000>= n_ctx:"
        " 8192). Try to load the model with a larger context length, or provide a shorter input.",
        9000,
        8192,
    ),
    (
        "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length"
        " of only 4096 tokens, which is not enough.",
        9000,
        4096,
    ),
    ("Input validation error: `inputs` must have less than 4096 tokens. Given: 5000", 5000, 4096),
    (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100"
        " `max_new_tokens`",
        5000,
        4096,
    ),
    (
        "litellm.ContextWindowExceededError: litellm.BadRequestError: AnthropicException - prompt is too long: 210000 tokens"
        " > 200000 maximum",
        210000,
        200000,
    ),
    ("prompt token count of 130000 exceeds the limit of 128000", 130000, 128000),
    ("max tokens of 4096 exceeded", 0, 0),
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length is 32768 tokens and"
        " your request has 30000 input tokens (8192 > 32768 - 30000).",
        38192,
        32768,
    ),
    ("Malformed input request: expected maxLength: 42000, actual: 150180, please reformat your input", 0, 0),
    ("Requested generation length 9000 is not possible! maximum supported sequence length is just 8192", 9000, 8192),
    ("Total tokens of image and text exceed max message tokens", 0, 0),
    ("the sum of prompt length (9000) and query length should not exceed max_num_tokens (8192)", 9000, 8192),
    ("Prompt length exceeds limit", 0, 0),
    ("prompt tokens too long", 0, 0),
    ("Context too long", 0, 0),
    ("Input too long", 0, 0),
    ("The estimated number of input and maximum output tokens (9000) exceeded this model context window limit (8192)", 9000, 8192),
]  # fmt: skip

LOOK_ALIKES = [
    "Rate limit reached for m on tokens per min (TPM): Limit 6000, Used 5000, Requested 2000. Please try again in 5s",
    "Request too large for model m on tokens per minute (TPM): Limit 6000, Requested 9000, please reduce your message size",
    "Too many tokens, please wait before trying again.",
    "max_tokens is too large: 9000. This model supports at most 4096 completion tokens, whereas you provided 9000.",
    "max_tokens: 9000 > 4096, which is the maximum allowed number of output tokens for m",
    "Range of max_tokens should be [1, 8192]",
    "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
    "'max_tokens' or 'max_completion_tokens' is too large: 9000. This model's maximum context length is 8192 tokens and your"
    " request has 100 input tokens (9000 > 8192 - 100).",
    "too many tokens: max tokens must be less than or equal to 4096, the maximum output length for this model - received 9000.",
    "Request payload size exceeds the limit: 20971520 bytes.",
    "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6000000 bytes > 5242880 bytes",
    "media exceeds size limit: max 10485760 bytes (2013)",
    "Invalid 'user': string too long. Expected a string with maximum length 64, but got a string with length 80 instead.",
    "'$.messages' is too long. Maximum length is 2048, but got 3000 items",
    "The maximum tokens you requested exceeds the model limit of 64000. Try again with a maximum tokens value that conforms.",
    "The number of images exceeds the limit of 20",
    "Number of tools exceeds the limit of 128",
    "Audio file exceeds the limit of 25 MB",
    "Request body exceeds the limit of 10 MB",
    "tools.3.custom.name exceeds maximum length of 128",
    "tool_call_id exceeds max length 40",
    "Invalid 'input[3].call_id': exceeds maximum length of 64",
    "Invalid 'user': exceeds maximum length of 64",
    "max_tokens (20000) exceeds model token limit (8192)",
    "The thinking budget exceeds the token limit 32768",
    "You have exceeded your token limit for this month",
    "Number of concurrent requests exceeds the limit of 4",
    "Processing time exceeds the limit of 300 seconds",
]


@pytest.mark.parametrize(("sentence", "sent", "limit"), SENTENCES)
def test_a_prompt_that_is_too_long(sentence: str, sent: int, limit: int) -> None:
    assert overflow.measure(sentence) == (sent, limit)


@pytest.mark.parametrize("sentence", LOOK_ALIKES)
def test_what_only_looks_like_it(sentence: str) -> None:
    assert overflow.measure(sentence) is None
    failed = failures.read_error(400, {"error": {"message": sentence}})
    assert failed.overflow is None


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_its_own_words_again(name: str) -> None:
    form = FORMATS[name]
    for sentence, sent, limit in SENTENCES:
        status, body = form.write_error(failures.read_error(500, {"detail": sentence}))
        assert status == 400 and form.is_own_error(status, body), sentence
        read = failures.read_error(status, body)
        assert read.overflow is not None and (read.overflow == (sent, limit) or not sent), sentence
