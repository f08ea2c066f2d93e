"""The services that are known by name or by host: their base URLs, keys, dialects, and whether they list models. Pure.

One table, for ``init``, ``check``, ``help providers`` and the documentation. A name from it may stand as an upstream's
``base_url``; a base URL whose host is in it gets the same provider, credential and quirks.

>>> host = named("kimi")
>>> host.name, host.urls["anthropic"]
('moonshot', 'https://api.moonshot.ai/anthropic')
>>> at("https://bedrock-runtime.eu-west-1.amazonaws.com").provider, region_of("https://bedrock-mantle.us-east-1.api.aws/v1")
('bedrock', 'us-east-1')

Sources: the services' own documentation, and the cloud clients in the official SDKs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

CHAT, RESPONSES, ANTHROPIC, GEMINI = "openai-chat", "openai-responses", "anthropic", "gemini"
_SUFFIXES = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "us-isof-": "csp.hci.ic.gov",
}
"""How the host names of AWS end outside of the usual partition. Source: ``openai.providers.bedrock``."""
_REGION = r"(?:^|\.)([a-z]{2,8}(?:-[a-z0-9]+)+-\d+)\."


def _aws(service: str, *more: str) -> str:
    """The host names of a service of AWS: in every region, and at the endpoints inside a company's network."""
    ends = ("amazonaws.com", *_SUFFIXES.values(), *more)
    return " ".join(f"{begin}.*.{end}" for end in ends for begin in (service, f"{service}-fips", f"*.{service}"))


class Host(NamedTuple):
    """One service.

    :ivar hosts: globs of its host names; empty for a local server, whose port may be anybody's
    :ivar urls: the base URL for each format that it speaks, the usual one first; braces stand for fields of the
        configuration, capitals for a part of the address that only the user knows
    :ivar variables: the environment variables that usually hold a key
    :ivar provider: the kind of host
    :ivar auth: how it wants a key for Anthropic's and Google's formats, if not as their makers do; those of OpenAI
        always take a bearer
    :ivar lists: whether it lists the models that it serves; ``unlisted``: formats whose paths have no list all the same
    :ivar signs: the name of the service in AWS signatures, for hosts that take them
    :ivar tokens: whether it takes Google's tokens (``google:``)
    :ivar remark: what else its user must know, and ``remedy`` how to get a key that is no key in a variable
    :ivar header: one that each request needs
    """

    name: str
    hosts: str
    urls: Mapping[str, str]
    variables: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    provider: str = "direct"
    auth: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()
    lists: bool = True
    unlisted: tuple[str, ...] = ()
    signs: str = ""
    tokens: bool = False
    remark: str = ""
    remedy: str = ""
    header: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it usually runs on the user's machine, without a key."""
        return not self.hosts

    def fields(self, kind: str) -> list[str]:
        """What must be said for its base URL in a format."""
        return re.findall(r"{(\w+)}", self.urls.get(kind, ""))

    def address(self, kind: str) -> str:
        """The base URL of a format with capitals for all that is to be filled in."""
        return re.sub(r"{(\w+)}", lambda match: match[1].upper(), self.shown(kind))

    def shown(self, kind: str) -> str:
        """The base URL of a format for users."""
        host = "{location}-aiplatform.googleapis.com"
        return self.urls[kind].replace("{suffix}", "amazonaws.com").replace("{host}", host)

    def starting_formats(self) -> list[str]:
        """The formats that a starting configuration has: of a cloud's each but the lesser of OpenAI's, else one."""
        if self.provider == "direct":
            return list(self.urls)[:1]
        return [kind for kind in self.urls if kind != CHAT or RESPONSES not in self.urls]

    def variables_for(self, kind: str) -> tuple[str, ...]:
        """The variables, those of the format's maker first."""
        is_claudes = kind == ANTHROPIC
        return tuple(sorted(self.variables, key=lambda name: ("ANTHROPIC" in name) != is_claudes))

    def lists_in(self, kind: str) -> bool:
        """Whether it lists its models at the path of a format."""
        return self.lists and kind not in self.unlisted

    def usable(self, kind: str) -> bool:
        """Whether its name alone leads to it: nothing in its base URL is only known to the user."""
        return kind in self.urls and re.search(_YOURS, self.urls[kind]) is None


_GCLOUD = 'run "gcloud auth application-default login", add "keys": ["cmd:gcloud auth print-access-token"]'
_AWS_CLI = 'run "aws configure", add "keys": ["cmd:aws configure export-credentials --format process"]'
_AZURE_CLI = (
    'add "keys": ["cmd:az account get-access-token --scope https://ai.azure.com/.default --query accessToken -o tsv"]'
)
_PARENT = "projects/{project}/locations/{location}"
_BEARER = ("bearer",)
_REASONS = ("reasoning_content",)
_OPENAI = ("max_completion_tokens", "system_turns", "prompt_cache_key")


def _openai(base_url: str) -> dict[str, str]:
    """Both of OpenAI's formats at one base URL; Chat is the one that all models know."""
    return {CHAT: base_url, RESPONSES: base_url}


# fmt: off
HOSTS: tuple[Host, ...] = (
    Host("anthropic", "api.anthropic.com",
         {ANTHROPIC: "https://api.anthropic.com", CHAT: "https://api.anthropic.com/v1"}, ("ANTHROPIC_API_KEY",),
         aliases=("claude",), quirks=("automatic_caching",)),
    Host("openai", "api.openai.com",
         {RESPONSES: "https://api.openai.com/v1", CHAT: "https://api.openai.com/v1"}, ("OPENAI_API_KEY",),
         quirks=_OPENAI),
    Host("google", "generativelanguage.googleapis.com",
         {GEMINI: "https://generativelanguage.googleapis.com",
          CHAT: "https://generativelanguage.googleapis.com/v1beta/openai"},
         ("GEMINI_API_KEY", "GOOGLE_API_KEY"), aliases=("gemini", "google-ai-studio")),
    # --- clouds
    Host("bedrock", _aws("bedrock-runtime", "api.aws"),
         {ANTHROPIC: "https://bedrock-runtime.{region}.{suffix}",
          **_openai("https://bedrock-runtime.{region}.{suffix}/openai/v1")},
         ("AWS_BEARER_TOKEN_BEDROCK",), aliases=("bedrock-runtime", "aws-bedrock"), provider="bedrock", auth=_BEARER,
         quirks=("bedrock_subset",), lists=False, signs="bedrock", remedy=_AWS_CLI,
         remark="Claude by InvokeModel; others by its OpenAI surface. Model: an id or an inference profile"),
    Host("bedrock-mantle", _aws("bedrock-mantle", "api.aws"),
         {ANTHROPIC: "https://bedrock-mantle.{region}.api.aws/anthropic",
          RESPONSES: "https://bedrock-mantle.{region}.api.aws/openai/v1",
          CHAT: "https://bedrock-mantle.{region}.api.aws/v1"},
         ("AWS_BEARER_TOKEN_BEDROCK",), aliases=("mantle",), provider="bedrock", auth=_BEARER,
         quirks=("mantle_subset",), signs="bedrock-mantle", remedy=_AWS_CLI,
         remark="openai-responses reaches GPT, openai-chat the open models; GPT by Chat: base_url .../openai/v1"),
    Host("claude-aws", "aws-external-anthropic.*.api.aws",
         {ANTHROPIC: "https://aws-external-anthropic.{region}.api.aws"}, ("ANTHROPIC_AWS_API_KEY",), auth=_BEARER,
         quirks=("automatic_caching",), signs="aws-external-anthropic", remedy=_AWS_CLI,
         remark='needs "headers": {"anthropic-workspace-id": ...}', header="anthropic-workspace-id"),
    Host("claude-google", "claude.googleapis.com",
         {ANTHROPIC: f"https://claude.googleapis.com/v1/{_PARENT}/workspaces/WORKSPACE/invoke"},
         auth=_BEARER, quirks=("automatic_caching",), lists=False, tokens=True, remedy=_GCLOUD),
    Host("vertex", "aiplatform.googleapis.com *-aiplatform.googleapis.com aiplatform.*.rep.googleapis.com",
         {ANTHROPIC: "https://{host}",
          GEMINI: "https://{host}",
          CHAT: f"https://{{host}}/v1/{_PARENT}/endpoints/openapi",
          RESPONSES: f"https://{{host}}/v1/{_PARENT}/publishers/openai/v1"},
         aliases=("vertex-ai", "google-vertex"), provider="vertex", quirks=("exclude_domains", "vertex_subset"),
         lists=False, tokens=True, remedy=_GCLOUD, remark="with an API key (Gemini only) leave project out"),
    Host("azure", "*.openai.azure.com *.cognitiveservices.azure.com *.openai.azure.us *.openai.azure.cn",
         _openai("https://RESOURCE.openai.azure.com/openai/v1"), ("AZURE_OPENAI_API_KEY",), aliases=("azure-openai",),
         provider="azure", quirks=("max_completion_tokens", "prompt_cache_key", "foundry_subset"), lists=False,
         remedy=_AZURE_CLI, remark="model: the name of a deployment; api_version for the older paths"),
    Host("foundry", "*.services.ai.azure.com *.services.ai.azure.us *.services.ai.azure.cn",
         {ANTHROPIC: "https://RESOURCE.services.ai.azure.com/anthropic",
          **_openai("https://RESOURCE.services.ai.azure.com/openai/v1")},
         ("ANTHROPIC_FOUNDRY_API_KEY", "AZURE_OPENAI_API_KEY"), aliases=("azure-foundry",), provider="azure",
         quirks=("max_completion_tokens", "prompt_cache_key", "automatic_caching", "foundry_subset"), lists=False,
         remedy=_AZURE_CLI, remark="model: the name of a deployment"),
    Host("databricks", "*.cloud.databricks.com *.azuredatabricks.net *.gcp.databricks.com *.databricks.azure.us",
         {ANTHROPIC: "https://WORKSPACE.cloud.databricks.com/serving-endpoints/anthropic",
          **_openai("https://WORKSPACE.cloud.databricks.com/serving-endpoints")},
         ("DATABRICKS_TOKEN",), auth=_BEARER, quirks=("databricks_subset",), lists=False,
         remark="behind its AI gateway: https://WORKSPACE/ai-gateway/anthropic, .../ai-gateway/mlflow/v1 (Chat)"),
    Host("snowflake", "*.snowflakecomputing.com *.snowflakecomputing.cn",
         {ANTHROPIC: "https://ACCOUNT.snowflakecomputing.com/api/v2/cortex",
          CHAT: "https://ACCOUNT.snowflakecomputing.com/api/v2/cortex/v1"},
         ("SNOWFLAKE_PAT",), auth=_BEARER, quirks=("max_completion_tokens", "snowflake_subset"), lists=False),
    Host("github", "models.github.ai",
         {CHAT: "https://models.github.ai/inference"}, ("GITHUB_TOKEN", "GH_TOKEN"), aliases=("github-models",),
         lists=False, remark="retired by GitHub on 2026-07-30"),
    # --- gateways
    Host("openrouter", "openrouter.ai",
         {**_openai("https://openrouter.ai/api/v1"), ANTHROPIC: "https://openrouter.ai/api"}, ("OPENROUTER_API_KEY",),
         auth=_BEARER),
    Host("vercel", "ai-gateway.vercel.sh",
         {**_openai("https://ai-gateway.vercel.sh/v1"), ANTHROPIC: "https://ai-gateway.vercel.sh"},
         ("AI_GATEWAY_API_KEY",), aliases=("ai-gateway", "vercel-ai-gateway"), auth=_BEARER),
    Host("huggingface", "router.huggingface.co",
         {**_openai("https://router.huggingface.co/v1"), ANTHROPIC: "https://router.huggingface.co"}, ("HF_TOKEN",),
         aliases=("hf",), auth=_BEARER),
    # --- makers of models, and who serves them
    Host("deepseek", "api.deepseek.com",
         {**_openai("https://api.deepseek.com/v1"), ANTHROPIC: "https://api.deepseek.com/anthropic"},
         ("DEEPSEEK_API_KEY",), auth=("x-api-key",), quirks=_REASONS, unlisted=(ANTHROPIC,)),
    Host("moonshot", "api.moonshot.ai api.moonshot.cn",
         {**_openai("https://api.moonshot.ai/v1"), ANTHROPIC: "https://api.moonshot.ai/anthropic"},
         ("MOONSHOT_API_KEY",), aliases=("kimi",), auth=_BEARER, quirks=_REASONS, unlisted=(ANTHROPIC,)),
    Host("zai", "api.z.ai open.bigmodel.cn",
         {CHAT: "https://api.z.ai/api/paas/v4", ANTHROPIC: "https://api.z.ai/api/anthropic"},
         ("ZAI_API_KEY", "ZHIPU_API_KEY"), aliases=("z.ai", "glm", "zhipu"), auth=_BEARER, quirks=_REASONS,
         unlisted=(ANTHROPIC,), remark="the coding plan's Chat: https://api.z.ai/api/coding/paas/v4"),
    Host("dashscope", "dashscope.aliyuncs.com dashscope-intl.aliyuncs.com dashscope-us.aliyuncs.com",
         {**_openai("https://dashscope-intl.aliyuncs.com/compatible-mode/v1"),
          ANTHROPIC: "https://dashscope-intl.aliyuncs.com/apps/anthropic"},
         ("DASHSCOPE_API_KEY",), aliases=("qwen", "alibaba"), auth=("x-api-key",), unlisted=(ANTHROPIC,),
         remark="in China: dashscope.aliyuncs.com"),
    Host("minimax", "api.minimax.io api.minimaxi.com",
         {**_openai("https://api.minimax.io/v1"), ANTHROPIC: "https://api.minimax.io/anthropic"},
         ("MINIMAX_API_KEY",), auth=("x-api-key",), quirks=("max_completion_tokens",)),
    Host("mistral", "api.mistral.ai",
         _openai("https://api.mistral.ai/v1"), ("MISTRAL_API_KEY",), quirks=("prompt_cache_key",)),
    Host("groq", "api.groq.com",
         _openai("https://api.groq.com/openai/v1"), ("GROQ_API_KEY",)),
    Host("xai", "api.x.ai",
         _openai("https://api.x.ai/v1"), ("XAI_API_KEY",), aliases=("grok", "x.ai")),
    Host("cerebras", "api.cerebras.ai", {CHAT: "https://api.cerebras.ai/v1"}, ("CEREBRAS_API_KEY",)),
    Host("together", "api.together.xyz api.together.ai",
         {**_openai("https://api.together.ai/v1"), ANTHROPIC: "https://api.together.ai"}, ("TOGETHER_API_KEY",),
         aliases=("togetherai",), auth=_BEARER),
    Host("fireworks", "api.fireworks.ai",
         {**_openai("https://api.fireworks.ai/inference/v1"), ANTHROPIC: "https://api.fireworks.ai/inference"},
         ("FIREWORKS_API_KEY",), aliases=("fireworks-ai",), auth=_BEARER, quirks=("top_k", "prompt_cache_key")),
    Host("perplexity", "api.perplexity.ai",
         {**_openai("https://api.perplexity.ai/orchestrator/v1"),
          ANTHROPIC: "https://api.perplexity.ai/orchestrator"},
         ("PERPLEXITY_API_KEY",), aliases=("pplx",), auth=_BEARER, lists=False),
    Host("deepinfra", "api.deepinfra.com",
         {CHAT: "https://api.deepinfra.com/v1/openai",
          RESPONSES: "https://api.deepinfra.com/v1",
          ANTHROPIC: "https://api.deepinfra.com/anthropic"},
         ("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"), auth=_BEARER),
    Host("siliconflow", "api.siliconflow.com api.siliconflow.cn",
         {CHAT: "https://api.siliconflow.com/v1", ANTHROPIC: "https://api.siliconflow.com"}, ("SILICONFLOW_API_KEY",),
         auth=_BEARER),
    Host("nvidia", "integrate.api.nvidia.com",
         {CHAT: "https://integrate.api.nvidia.com/v1"}, ("NVIDIA_API_KEY",), aliases=("nim",)),
    # --- on this machine
    Host("ollama", "",
         {**_openai("http://127.0.0.1:11434/v1"), ANTHROPIC: "http://127.0.0.1:11434"}),
    Host("ollama-cloud", "ollama.com",
         {**_openai("https://ollama.com/v1"), ANTHROPIC: "https://ollama.com"}, ("OLLAMA_API_KEY",), auth=_BEARER),
    Host("vllm", "",
         {**_openai("http://127.0.0.1:8000/v1"), ANTHROPIC: "http://127.0.0.1:8000"}),
    Host("lmstudio", "",
         {**_openai("http://127.0.0.1:1234/v1"), ANTHROPIC: "http://127.0.0.1:1234"}, aliases=("lm-studio",)),
    Host("llamacpp", "",
         {CHAT: "http://127.0.0.1:8080/v1", ANTHROPIC: "http://127.0.0.1:8080"},
         aliases=("llama.cpp", "llama-server")),
)
# fmt: on
_YOURS = r"(?<![A-Za-z0-9])(?:RESOURCE|WORKSPACE|ACCOUNT|TO-BE-SET)(?![A-Za-z0-9])"
_NAMES = {name: host for host in HOSTS for name in (host.name, *host.aliases)}


def unknown_part(url: str) -> str:
    """The part of a base URL that its user has to fill in, or the empty string.

    >>> unknown_part("https://RESOURCE.openai.azure.com/openai/v1")
    'RESOURCE'
    """
    match = re.search(rf"{_YOURS}|{{\w+}}|<[^>]*>", url)
    return match[0] if match else ""


def named(name: str) -> Host | None:
    """The service of a name, or None."""
    return _NAMES.get(name.lower())


def names() -> tuple[str, ...]:
    """Every name and alias."""
    return tuple(_NAMES)


@lru_cache(maxsize=256)
def at(base_url: str) -> Host | None:
    """The service at a base URL, or None if it is not known."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    return next((one for one in HOSTS if any(fnmatchcase(host, glob) for glob in one.hosts.split())), None)


def region_of(base_url: str) -> str:
    """The region in a host name of AWS, or the empty string."""
    host = at(base_url)
    match = re.search(_REGION, urlsplit(base_url).hostname or "") if host is not None and host.signs else None
    return match[1] if match else ""


def location_of(base_url: str) -> str:
    """The location in a host name of Vertex AI, or the empty string.

    >>> location_of("https://us-east5-aiplatform.googleapis.com"), location_of("https://aiplatform.eu.rep.googleapis.com")
    ('us-east5', 'eu')
    """
    host = urlsplit(base_url).hostname or ""
    match = re.fullmatch(r"(?:(.+)-aiplatform|aiplatform(?:\.(.+)\.rep)?)\.googleapis\.com", host)
    return (match[1] or match[2] or "global") if match else ""


def url_for(host: Host, kind: str, given: Mapping[str, str]) -> str:
    """A service's base URL for a format.

    :param given: what its user has said: ``project``, ``location``, ``region``
    """
    region, location = given.get("region", ""), given.get("location", "")
    suffix = next((end for begin, end in _SUFFIXES.items() if region.startswith(begin)), "amazonaws.com")
    return host.urls[kind].format(
        project=given.get("project", ""),
        location=location,
        region=region,
        suffix=suffix,
        host=vertex_host(location),
    )


def vertex_host(location: str) -> str:
    """The host of a location of Vertex AI. Source: ``google.genai._api_client`` and ``anthropic.lib.vertex``.

    >>> vertex_host("global"), vertex_host("eu"), vertex_host("us-east5")
    ('aiplatform.googleapis.com', 'aiplatform.eu.rep.googleapis.com', 'us-east5-aiplatform.googleapis.com')
    """
    if location in ("", "global"):
        return "aiplatform.googleapis.com"
    return (
        f"aiplatform.{location}.rep.googleapis.com" if "-" not in location else f"{location}-aiplatform.googleapis.com"
    )
