"""What the README says is true: its table, its commands, its configuration, its list of keys."""

from __future__ import annotations

import json
import re

import pytest

from ccproxy_lite.cli.arguments import COMMANDS, TOPICS
from ccproxy_lite.cli.load import read_text
from ccproxy_lite.config import file as configfile
from ccproxy_lite.config import upstreams
from tests.readme import with_tables
from tests.support import ROOT

TEXT = (ROOT / "README.md").read_text()


def test_the_table_of_losses_is_the_code_s() -> None:
    assert with_tables(TEXT) == TEXT


def test_every_command_is_there() -> None:
    for command in COMMANDS:
        assert f"| `ccproxy-lite {command}" in TEXT.replace("[serve]", "serve"), command


def test_every_configuration_key_is_there() -> None:
    for key in {*configfile.FIELDS, *upstreams.UPSTREAM_FIELDS, *configfile.MOUNT_FIELDS}:
        assert f"`{key}`" in TEXT or f'"{key}"' in TEXT, key


def test_every_topic_is_there() -> None:
    for topic in TOPICS:
        assert f"`{topic}`" in TEXT, topic


@pytest.mark.parametrize("block", re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))
def test_every_configuration_shown_is_valid(block: str) -> None:
    names = re.findall(r'"\$([A-Z_0-9]+)"', block)
    configfile.read(block, "README.md", {"HOME": "/nonexistent", **dict.fromkeys(names, "some-real-key")}, read_text)
    assert json.loads(block)
