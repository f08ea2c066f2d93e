"""The local estimate of tokens, against a real byte pair encoder, and on hostile input."""

from __future__ import annotations

import base64
import inspect
import json
import pydoc_data.topics
import random
import string
import time
from pathlib import Path

import pytest

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.formats.neutral.tokens import estimate, estimate_text

CHINESE = """
春天来了，院子里的桃花开得正盛。孩子们放学以后，总喜欢在树下追逐打闹，直到天色暗下来，母亲们站在门口喊他们回家吃饭。
他在城里工作了十多年，每次回到故乡，都觉得一切既熟悉又陌生：街角的小店换了招牌，老邻居搬走了，只有那条河还在静静地流淌。
人工智能技术近年来发展迅速，大型语言模型已经能够理解复杂的问题，并且给出相当准确的回答。然而，如何保证模型输出的可靠性和安全性，
仍然是研究人员需要解决的重要课题。本文介绍了一种新的方法，通过在训练过程中引入额外的约束条件，有效地减少了错误信息的产生。
请先阅读安装说明，然后在终端中运行以下命令。如果出现错误，请检查网络连接是否正常，或者联系系统管理员获取帮助。
根据最新公布的数据，今年上半年国内生产总值同比增长百分之五点二，其中第三产业增加值占比进一步提高，居民消费持续恢复。
专家指出，虽然外部环境依然复杂严峻，但是经济长期向好的基本面没有改变，下一阶段应当继续实施积极的财政政策和稳健的货币政策。
周末的时候，我和朋友一起去爬山。山路很陡，我们走走停停，花了三个多小时才到达山顶。站在山顶上往下看，整个城市都被云雾笼罩着，
美得像一幅水墨画。我们坐在石头上，喝着热茶，聊着小时候的趣事，不知不觉太阳就落山了。
"""


def code() -> str:
    import argparse
    import asyncio.base_events
    import json.decoder
    import textwrap

    return "".join(
        inspect.getsource(module)[:8000] for module in (argparse, asyncio.base_events, json.decoder, textwrap)
    )


def prose() -> str:
    topics = pydoc_data.topics.topics
    return "".join(topics[name][:6000] for name in ("objects", "exceptions", "execmodel", "try", "with"))


def documents() -> str:
    """Requests and answers of the conversion cases, compact and indented."""
    paths = sorted((Path(__file__).parents[1] / "cases").glob("*tools*.json"))
    values = [json.loads(path.read_text())[:6] for path in paths]
    return "".join(json.dumps(value, separators=(",", ":")) + json.dumps(value, indent=2) for value in values)


def letters(alphabet: str, length: int, words: int = 1) -> str:
    chosen = random.Random(7)
    return " ".join("".join(chosen.choices(alphabet, k=length)) for _ in range(words))


GERMAN = """
Die Entwicklung freier Software beruht auf einer Gemeinschaft von Freiwilligen und Unternehmen, die ihr Wissen teilen.
Kraftfahrzeughaftpflichtversicherung Rechtsschutzversicherungsgesellschaften Donaudampfschifffahrtsgesellschaft
""" * 6  # fmt: skip
TEXTS = {
    "English": prose,
    "code": code,
    "JSON": documents,
    "Chinese": lambda: CHINESE,
    "German": lambda: GERMAN,
    "2,000 random letters": lambda: letters(string.ascii_lowercase, 2000),
    "2,000 random capitals": lambda: letters(string.ascii_uppercase, 2000),
    "2,000 letters of both kinds": lambda: letters(string.ascii_letters, 2000),
    "random words": lambda: letters(string.ascii_lowercase, 8, 200),
    "long random words": lambda: letters(string.ascii_lowercase, 30, 60),
    "base64": lambda: base64.b64encode(random.Random(7).randbytes(1500)).decode(),
    "hexadecimal": lambda: random.Random(7).randbytes(1000).hex(),
    "capitals": lambda: prose()[:6000].upper(),
    **{f"2,000 times {letter}": lambda letter=letter: letter * 2000 for letter in "zgnaoAbX"},  # type: ignore[misc]
}


@pytest.mark.parametrize("name", TEXTS)
def test_within_15_percent_of_a_real_encoder(name: str) -> None:
    bpe = pytest.importorskip("rs_bpe.bpe", reason="rs-bpe, a real encoder with its vocabulary, is not installed")
    text = TEXTS[name]()
    real = bpe.openai.o200k_base().count(text)
    assert real > 100
    assert abs(estimate_text(text) - real) / real < 0.15, (estimate_text(text), real)


@pytest.mark.parametrize(
    "unit", ["a", "A", " ", "\n", "\t\r\v", "1", "-", "é", "漢", "🎉", "\x00", "，漢", "a1", " \n"]
)
def test_linear_in_whatever_comes(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    started = time.process_time()
    assert estimate_text(text) > 0
    assert time.process_time() - started < 2


def test_small_texts() -> None:
    assert [estimate_text(text) for text in ("", "a", "hello there")] == [0, 1, 2]


PARTS = {
    "system": {"system": "Be brief and to the point, always."},
    "tools": {
        "tools": [
            {
                "name": "look_up",
                "description": "Looks a word up.",
                "input_schema": {"type": "object", "properties": {"w": {}}},
            }
        ]
    },
    "output": {
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {"answer": {}}}}}
    },
}
BLOCKS = [
    {"type": "text", "text": "some more words"},
    {"type": "image", "source": {"type": "url", "url": "https://x"}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "the text of a document"}},
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk=" * 100}},
    {"type": "thinking", "thinking": "a long thought about it", "signature": "x"},
    {"type": "redacted_thinking", "data": "x" * 100},
    {"type": "tool_use", "id": "t", "name": "look_up", "input": {"word": "something"}},
    {"type": "tool_result", "tool_use_id": "t", "content": "what was found"},
    {"type": "brand_new", "data": "unknown content"},
]


def counted(**more: object) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    return estimate(FORMATS["anthropic"].read_request(body, PathInfo()))


@pytest.mark.parametrize("name", PARTS)
def test_every_member_counts(name: str) -> None:
    assert counted(**PARTS[name]) >= counted() + 4


@pytest.mark.parametrize("block", BLOCKS, ids=[str(block["type"]) for block in BLOCKS])
def test_every_block_counts(block: dict[str, object]) -> None:
    with_it = [{"role": "user", "content": [{"type": "text", "text": "hi"}, block]}]
    assert counted(messages=with_it) >= counted() + 3
