"""Real clients in front of the clouds: a tool is really run, and nothing that a cloud refuses has reached it.

The hosts are those of ``tests.clouds``, in a namespace with loopback only (see ``test_clis``).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.clouds import AWS, ENTRA, KEY, TOKEN
from tests.e2e.test_clis import CLAUDE, CODEX, CODEX_IN_CODE, GEMINI, Client, home, inside

__all__ = ["home"]
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare"),
]
pytest.importorskip("botocore", reason="botocore is not installed: it judges signatures")

HELPER = f"cmd:echo '{json.dumps(AWS)}'"
GOOGLE = {"provider": "vertex", "project": "p-1", "location": "us-east5", "keys": [f"cmd:echo {TOKEN}"]}
HOSTS: dict[str, dict[str, Any]] = {
    "bedrock": {"format": "anthropic", "provider": "bedrock", "region": "us-east-1", "keys": [HELPER]},
    "mantle": {"format": "anthropic", "base_url": "bedrock-mantle", "region": "us-east-1", "keys": [HELPER]},
    "vertex": {"format": "anthropic", **GOOGLE},
    "foundry": {"format": "anthropic", "base_url": "https://contoso.services.ai.azure.com", "keys": [KEY]},
    "databricks": {"format": "anthropic", "base_url": "https://contoso.cloud.databricks.com/serving-endpoints/anthropic", "keys": [KEY]},
    "snowflake": {"format": "anthropic", "base_url": "https://contoso.snowflakecomputing.com/api/v2/cortex", "keys": [KEY]},
    "azure": {"format": "openai-responses", "base_url": "https://contoso.openai.azure.com", "keys": [KEY]},
    "azure-entra": {"format": "openai-chat", "base_url": "https://contoso.openai.azure.com", "keys": [ENTRA]},
    "azure-older": {"format": "openai-chat", "base_url": "https://contoso.openai.azure.com", "api_version": "2024-10-21", "keys": [KEY]},
    "mantle-openai": {"format": "openai-responses", "base_url": "bedrock-mantle", "region": "us-east-1", "keys": [HELPER]},
    "runtime-openai": {"format": "openai-responses", "provider": "bedrock", "region": "us-east-1", "keys": [HELPER]},
    "vertex-gemini": {"format": "gemini", **GOOGLE},
}  # fmt: skip
LOOPS = [
    # its own format
    *((CLAUDE, name) for name in ("bedrock", "mantle", "vertex", "foundry", "databricks", "snowflake")),
    *((CODEX, name) for name in ("azure", "mantle-openai", "runtime-openai")),
    (GEMINI, "vertex-gemini"),
    # converted
    *((CLAUDE, name) for name in ("azure-older", "azure-entra", "runtime-openai")),
    *((CODEX, name) for name in ("bedrock", "vertex-gemini")),
    (GEMINI, "vertex"),
]


def checked(client: Client, name: str, folder: Path) -> dict[str, Any]:
    if not client.path:
        pytest.skip(f"{client.program} is not installed")
    words = [client.path, *client.words, client.prompt]
    result = inside(client, folder, "hosted", json.dumps(HOSTS[name]), str(folder), *words)
    assert result["refused"] == []
    assert (folder / "work" / "proof.txt").read_text() == "really-run\n"
    assert "The tool said: " in client.said(result["out"]) and "done" in client.said(result["out"])
    assert len(result["seen"]) == 2, "nothing was asked twice"
    return result


@pytest.mark.parametrize(("client", "name"), LOOPS, ids=[f"{client.program}-{name}" for client, name in LOOPS])
def test_a_tool_loop_in_a_cloud(client: Client, name: str, home: Path) -> None:
    result = checked(client, name, home)
    if client is CLAUDE and name == "bedrock":
        assert all(target.endswith("/invoke-with-response-stream") for target in result["seen"])
        assert all(body["anthropic_beta"] for body in result["bodies"]) and not any(result["betas"])
    if client is CLAUDE and name in ("vertex", "mantle"):
        assert all("claude-code" in betas and "prompt-caching-scope" not in betas for betas in result["betas"])


@pytest.mark.parametrize("name", ["azure", "mantle-openai", "runtime-openai"])
def test_codex_with_free_text_tools_in_a_cloud(name: str, home: Path) -> None:
    checked(CODEX_IN_CODE, name, home)
