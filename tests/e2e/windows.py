"""Real clients and the windows of the models behind the proxy, in a namespace with loopback only.

A service reports how many tokens it has taken, more with every turn, and keeps the client busy with a tool, until the
client asks for a summary. ``python -m tests.e2e.windows`` (as root) prints when each client did so.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests import support
from tests.e2e.searching import WIRES, Body, Wire, encoded
from tests.e2e.test_clis import CLAUDE, CODEX, Client, prepare
from tests.support import LAST, PROGRAM_S, ROOT, STREAM_HEAD, Seen, Step, http, sse, upstream

MODEL = "zork-9"
"""A model that no client knows."""
PROMPT = "Please run the tool again and again."
TOOLS: dict[str, dict[str, Any]] = {
    "Bash": {"command": "true", "description": "does nothing"},
    "exec_command": {"cmd": "true"},
    "functions__exec": {"input": "text((await tools.exec_command({cmd: 'true'})).output)"},
}
TOLD = ("CLAUDE_CODE_MAX_", "CLAUDE_CODE_AUTO_", "CLAUDE_CODE_ATTRIBUTION", "ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_")
"""How the variables begin by which Claude Code is told of a model."""
SUMMARY = "<summary>Zork was explored.</summary>"
ENDING = "That was all."
_ASKS_FOR_SUMMARY = ("create a detailed summary", "CONTEXT CHECKPOINT COMPACTION")
"""What Claude Code and Codex say when they compact."""
_COUNTS = ("input_tokens", "prompt_tokens", "promptTokenCount")
_TOTALS = ("total_tokens", "totalTokenCount")
_IDS = ("msg_1", "resp_1", "c", "toolu_1", "call_1", "fc_1")
"""What must be another in every answer, or clients take the answers for one."""
_WINDOWS = {
    "anthropic": ("max_input_tokens", "max_tokens"),
    "gemini": ("inputTokenLimit", "outputTokenLimit"),
}
"""What the window and the longest answer are called in a list; elsewhere as OpenRouter has it."""


def growing(limit: int, below: int = 2000, step: int = 1000) -> list[int]:
    """What a service reports, turn by turn, around the point at which its client should compact."""
    return [limit // 4, limit // 2, *range(limit - below, limit + below + 1, step)]


def counted(value: Any, tokens: int, number: int) -> Any:
    """An answer, or an event of one, with another number of tokens taken, and ids that occur only once."""
    if isinstance(value, list):
        return [counted(one, tokens, number) for one in value]
    if not isinstance(value, dict):
        return f"{value}{number}" if value in _IDS else value
    told = {name: counted(one, tokens, number) for name, one in value.items()}
    told |= {name: tokens for name in _COUNTS if isinstance(told.get(name), int)}
    return told | {name: tokens + 9 for name in _TOTALS if isinstance(told.get(name), int)}


# ---------------------------------------------------------------- the service, and what runs behind the proxy


@dataclass
class Service:
    """A service whose model calls a tool until it has made all its reports, or is asked for a summary.

    ``started_by`` is the process that has started the client, and ``programs`` are its children at the first request.
    """

    wire: Wire
    reports: list[int]
    models: list[Body]
    calls: list[dict[str, Any]] = field(default_factory=list)
    ends_after: int = 0
    lists: list[str] = field(default_factory=list)
    started_by: int = 0
    programs: list[dict[str, Any]] = field(default_factory=list)

    def choose(self, seen: Seen) -> list[Step]:
        method, target, _ = seen.head.split(" ", 2)
        if method != "POST":
            self.lists.append(target)
            return [http(200, {"data": self.models, "models": self.models})]
        if "count" in target:
            return [http(200, {"input_tokens": 300})]
        if not self.programs:
            self.programs = list(children(self.started_by))
        body = seen.json
        kind = self._kind(body)
        reported = self.reports[len(self.asked("work"))] if kind == "work" else 300
        number = len(self.calls)
        self.calls.append({"kind": kind, "reported": reported, "body": body, "target": target})
        if len(self.calls) == self.ends_after:
            os.kill(self.started_by, signal.SIGTERM)
        parts = {
            "work": lambda: self.wire.call(*self._tool(body)),
            "summary": lambda: self.wire.text(SUMMARY),
            "over": lambda: self.wire.text(ENDING),
            "other": lambda: self.wire.text("hello"),
        }[kind]()
        if body.get("stream") is not True and ":stream" not in target:
            return [http(200, encoded(counted(self.wire.whole(parts), reported, number)).encode())]
        data = b"".join(
            sse(event if isinstance(event, str) else encoded(counted(event, reported, number)), name)
            for name, event in self.wire.events(parts)
        )
        return [STREAM_HEAD + data + LAST]

    def asked(self, kind: str) -> list[dict[str, Any]]:
        return [call for call in self.calls if call["kind"] == kind]

    def _tool(self, body: Body) -> tuple[str, dict[str, Any]]:
        return next((name, TOOLS[name]) for name in TOOLS if name in self.wire.functions(body))

    def _kind(self, body: Body) -> str:
        if self.asked("summary") or len(self.asked("work")) == len(self.reports):
            return "over"
        if any(words in encoded(body) for words in _ASKS_FOR_SUMMARY):
            return "summary"
        return "work" if self.wire.functions(body) & {*TOOLS} else "other"


def children(number: int) -> Iterator[dict[str, Any]]:
    """The programs that a process has started: their words, variables, and the catalogue that they are given."""
    for task in Path(f"/proc/{number}/task").glob("*/children"):
        for child in task.read_text().split():
            place = Path("/proc", child)
            words = place.joinpath("cmdline").read_text().split("\0")[:-1]
            pairs = (line.split("=", 1) for line in place.joinpath("environ").read_text().split("\0") if "=" in line)
            name = next((word.split("=", 1)[1].strip('"') for word in words if word.startswith("model_catalog_")), "")
            catalogue = json.loads(Path(name).read_text()) if name else None
            yield {"words": words, "environ": dict(pairs), "file": name, "catalogue": catalogue}


def others_here() -> list[str]:
    """The commands of all other processes in this namespace."""
    here, found = os.readlink("/proc/self/ns/net"), []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(place / "ns/net") == here and int(place.name) != os.getpid():
                found.append(place.joinpath("cmdline").read_text().replace("\0", " "))
    return found


def within(plan: dict[str, Any]) -> dict[str, Any]:
    """Inside a namespace: a service, and a client behind the proxy in front of it."""
    home = Path(plan["home"])
    service = Service(WIRES[plan["form"]], plan["reports"], plan["listed"], ends_after=plan["ends_after"])
    with upstream(choose=service.choose) as up:
        for name in plan["files"]:
            (home / name).write_text((home / name).read_text().replace("PORT", str(up.port)))
        config = home / "proxy.json"
        settings = support.behind(up, plan["form"]) | {"capture": {"dir": str(home / "captures")}}
        config.write_text(json.dumps({**settings, **plan["settings"]}))
        command = [sys.executable, "-m", "ccproxy_lite", "run", "--config", str(config), *plan["flags"]]
        process = subprocess.Popen(
            [*command, "--", *plan["words"]],
            cwd=home / "work", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        service.started_by = process.pid
        try:
            out, err = process.communicate(timeout=PROGRAM_S - 20)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate(timeout=10)
    told = {"code": process.returncode, "out": out, "err": err, "calls": service.calls, "lists": service.lists}
    return {**told, "programs": service.programs, "others": others_here()}


# ---------------------------------------------------------------- the clients, and what they are told


_CLAUDE_WORDS = "--output-format json --dangerously-skip-permissions -p".split()
AGENT = replace(CLAUDE, words=_CLAUDE_WORDS)
"""Claude Code with the models that it asks for by itself."""
CODER = replace(CODEX, words=CODEX.words[:-2])
"""The same of Codex."""


@dataclass(frozen=True)
class Case:
    """A client in front of a service of some format: what the service says of its model, and what the user has set.

    ``window`` and ``output`` stand in the service's list, or, ``in_config``, beside the target of ``name``, which is a
    model's name, or a pattern. ``asked`` is what ``run`` is given as ``--model``. ``limit`` is what must be reported
    before the client compacts, 0 if it never does, and ``answer`` the longest answer that it then asks for.
    ``files`` are the user's own, from their home; ``program`` is one of them, and takes the place of the client.
    With ``ends_after``, the run is told to end when the service has been asked so often.
    """

    client: Client
    form: str
    limit: int
    window: int = 0
    output: int = 0
    asked: str = ""
    name: str = ""
    in_config: bool = False
    answer: int = 0
    words: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    program: str = ""
    model: str = MODEL
    reports: tuple[int, ...] = ()
    ends_after: int = 0

    @property
    def reported(self) -> list[int]:
        return list(self.reports) or growing(self.limit)

    def config(self) -> Body:
        """The names of models in the configuration."""
        target: Body = {"to": f"up/{self.model}", "name": "Zork the Great"}
        if self.in_config:
            target |= {"context_tokens": self.window, "output_tokens": self.output}
        return {"models": {self.name: {name: one for name, one in target.items() if one}}} if self.name else {}

    def listed(self) -> Body:
        """The model in the service's list."""
        names = _WINDOWS.get(self.form, ("context_length", "max_completion_tokens"))
        told = {} if self.in_config else dict(zip(names, (self.window, self.output), strict=True))
        key, name_there = ("name", f"models/{self.model}") if self.form == "gemini" else ("id", self.model)
        return {key: name_there, **{name: one for name, one in told.items() if one}}

    def plan(self, home: Path) -> dict[str, Any]:
        """What is to be done inside the namespace."""
        program = str(home / self.program) if self.program else self.client.path
        return {
            "form": self.form, "home": str(home), "reports": self.reported, "listed": [self.listed()],
            "ends_after": self.ends_after, "files": [name for name, _ in self.files],
            "settings": self.config(), "flags": ["--model", self.asked] if self.asked else [],
            "words": [program, *self.client.words[:-1], *self.words, *self.client.words[-1:], PROMPT],
        }  # fmt: skip

    def write_files(self, home: Path) -> None:
        """The user's own files; ``REAL`` in them becomes the real program, and later ``PORT`` the service's."""
        for name, text in self.files:
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # What a file already says follows: the settings that keep a client quiet.
            path.write_text(text.replace("REAL", self.client.path) + (path.read_text() if path.exists() else ""))
            path.chmod(0o755 if text.startswith("#!") else 0o600)


@dataclass
class Run:
    """What came of a run."""

    code: int
    out: str
    err: str
    calls: list[dict[str, Any]]
    lists: list[str]
    programs: list[dict[str, Any]]
    others: list[str]
    exchanges: list[dict[str, Any]] = field(default_factory=list)

    @property
    def compacted(self) -> tuple[int, int]:
        """After how many turns a summary was asked for, and what had been reported then; zeros if never."""
        kinds = [call["kind"] for call in self.calls]
        if "summary" not in kinds:
            return 0, 0
        before = [call for call in self.calls[: kinds.index("summary")] if call["kind"] == "work"]
        return len(before), before[-1]["reported"] if before else 0

    @property
    def before(self) -> int:
        """The largest report to which the client did not react."""
        turn = self.compacted[0]
        reports = [call["reported"] for call in self.calls if call["kind"] == "work"]
        return max(reports[: turn - 1] if turn else reports, default=0)

    @property
    def program(self) -> dict[str, Any]:
        """The client as it was started, if it has asked for anything."""
        return self.programs[0] if self.programs else {"words": [], "environ": {}, "file": "", "catalogue": None}

    def set(self, *beginnings: str) -> dict[str, str]:
        """The variables of the client whose names begin so."""
        return {name: text for name, text in sorted(self.program["environ"].items()) if name.startswith(beginnings)}

    def flags(self) -> list[str]:
        """What stands behind each ``-c`` of the client, without the provider."""
        given = [word for option, word in pairwise(self.program["words"]) if option == "-c"]
        return [word for word in given if not word.startswith("model_provider")]

    @property
    def window(self) -> int:
        """The window that Codex is told, by a flag or in its catalogue; 0 if none."""
        given = [int(flag.partition("=")[2]) for flag in self.flags() if flag.startswith("model_context_window=")]
        listed = [entry["context_window"] for entry in (self.program["catalogue"] or {}).get("models", ())]
        return min([*given, *listed], default=0)

    def sent(self, kind: str = "work") -> list[Body]:
        """What the client itself sent, before any conversion."""
        numbers = [number for number, call in enumerate(self.calls) if call["kind"] == kind]
        bodies = [json.loads(exchange["client"]["body"]) for exchange in self.exchanges]
        return [bodies[number] for number in numbers if number < len(bodies)]

    def asked(self, kind: str = "work") -> list[Body]:
        """What reached the service."""
        return [call["body"] for call in self.calls if call["kind"] == kind]


def environment(client: Client, home: Path, **more: str) -> dict[str, str]:
    """The variables of a user who has nothing but the client, and room of their own for temporary files."""
    beside, resolved = Path(client.path).parent, Path(client.path).resolve().parent
    path = f"{beside}:{os.environ['PATH']}:{resolved}"
    return {
        "PATH": path,
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(home / "tmp"),
        **client.environ,
        **more,
    }


def run(case: Case, home: Path) -> Run:
    """A client in a namespace and a home of their own."""
    prepare(case.client, home)
    case.write_files(home)
    (home / "tmp").mkdir()
    plan = json.dumps(case.plan(home))
    command = ["unshare", "-n", sys.executable, "-m", "tests.e2e.windows", plan]
    environ = environment(case.client, home, **dict(case.environ))
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=PROGRAM_S)
    assert done.returncode == 0, done.stderr
    result = Run(**json.loads(done.stdout.splitlines()[-1]))
    files = (json.loads(file.read_text()) for file in (home / "captures").glob("*.json"))
    exchanges = [one for one in files if "count" not in one["client"]["request"]]
    result.exchanges = sorted(exchanges, key=lambda one: int(one["request_id"].rpartition("-")[2]))
    return result


# ---------------------------------------------------------------- what is tried

_OPUS = ("--model", "claude-opus-5-5")
_SMALL = (10_000, 20_000, *range(34_000, 80_000, 2000), 150_000)
_WITHOUT_LIST = '#!/bin/sh\nif [ "$1" = debug ]; then exit 2; fi\nexec REAL "$@"\n'
_SILENT = '#!/bin/sh\nif [ "$1" = debug ]; then exec sleep 600; fi\nexec REAL "$@"\n'

CLAUDES = {
    "unknown name": Case(AGENT, "openai-chat", 35_000, 64_000, asked=MODEL, answer=16_000),
    "unknown name, Responses": Case(AGENT, "openai-responses", 35_000, 64_000, asked=MODEL, answer=16_000),
    "unknown name, Gemini": Case(AGENT, "gemini", 35_000, 64_000, asked=MODEL, answer=16_000),
    "unknown name, its own format": Case(AGENT, "anthropic", 35_000, 64_000, asked=MODEL, answer=16_000),
    "unknown name, short answers": Case(AGENT, "openai-chat", 43_000, 64_000, 8000, asked=MODEL, answer=8000),
    "unknown name, long answers": Case(AGENT, "openai-chat", 367_000, 400_000, 128_000, asked=MODEL, answer=32_000),
    "alias in the configuration": Case(
        AGENT, "openai-chat", 43_000, 64_000, 8000, asked="zork", name="zork", in_config=True, answer=8000
    ),
    "unknown name, a family is asked for": Case(
        AGENT, "openai-chat", 35_000, 64_000, asked=MODEL, answer=16_000, words=("--model", "opus")
    ),
    "window known by the name": Case(
        AGENT, "openai-chat", 98_616, asked="gpt-4o", model="gpt-4o", answer=16_384
    ),
    "known names": Case(AGENT, "openai-chat", 117_000, 150_000, name="claude-*", answer=32_000),
    "known names, one is asked for": Case(
        AGENT, "openai-chat", 117_000, 150_000, name="claude-*", answer=32_000, words=_OPUS
    ),
    "known names, a family is asked for": Case(
        AGENT, "openai-chat", 117_000, 150_000, name="claude-*", answer=32_000, words=("--model", "sonnet")
    ),
    "known names, in the configuration": Case(
        AGENT, "openai-chat", 129_000, 150_000, 8000, name="claude-*", in_config=True, answer=8000
    ),
    "a known name that never compacts by itself": Case(
        AGENT, "openai-chat", 167_000, 200_000, 32_000, asked="vendor/claude-sonnet-4-5",
        model="vendor/claude-sonnet-4-5", answer=32_000,
    ),
    "user's variables": Case(
        AGENT, "openai-chat", 23_000, 64_000, asked=MODEL, answer=4000,
        environ=(("CLAUDE_CODE_MAX_CONTEXT_TOKENS", "40000"), ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "4000")),
    ),
    "user's settings": Case(
        AGENT, "openai-chat", 47_000, 64_000, asked=MODEL, answer=4000,
        files=((".claude/settings.json", '{"env": {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "4000"}}'),),
    ),
    "name in a variable of the user": Case(
        AGENT, "openai-chat", 35_000, 64_000, name="zork", answer=16_000, environ=(("ANTHROPIC_MODEL", "zork"),)
    ),
    "name in the user's settings": Case(
        AGENT, "openai-chat", 35_000, 64_000, name="zork", answer=16_000,
        files=((".claude/settings.json", '{"model": "zork"}'),),
    ),
}  # fmt: skip
CLAUDE_SMALL = Case(AGENT, "openai-chat", 35_000, 64_000, name="claude-*", answer=16_000, reports=_SMALL)
"""Claude Code takes no window below 100,000 tokens for names that it knows."""
CLAUDE_ITS_OWN = Case(AGENT, "anthropic", 967_000, model="claude-opus-5-5", answer=128_000)
CODEXES = {
    "any name": Case(CODER, "anthropic", 57_600, 64_000, asked=MODEL),
    "any name, Chat Completions": Case(CODER, "openai-chat", 57_600, 64_000, asked=MODEL),
    "any name, Gemini": Case(CODER, "gemini", 57_600, 64_000, asked=MODEL),
    "any name, Responses": Case(CODER, "openai-responses", 57_600, 64_000, asked=MODEL, words=("-m", "gpt-5.5")),
    "large": Case(CODER, "anthropic", 360_000, 400_000, asked=MODEL),
    "large, its own names": Case(CODER, "openai-chat", 360_000, 400_000, name="gpt-*", words=("-m", "gpt-5.5")),
    "large, a name with other tools": Case(
        CODER, "anthropic", 360_000, 400_000, name="gpt-*", words=("-m", "gpt-6-sol")
    ),
    "large, no name": Case(CODER, "anthropic", 360_000, 400_000, name="gpt-*"),
    "in the configuration": Case(CODER, "anthropic", 57_600, 64_000, name="gpt-*", in_config=True),
    "only its usual name": Case(CODER, "anthropic", 57_600, 64_000, name="gpt-6*"),
    "name in the user's settings": Case(
        CODER, "anthropic", 360_000, 400_000, name="gpt-*", files=((".codex/config.toml", 'model = "gpt-6-sol"\n'),)
    ),
    "name in a flag of the user": Case(
        CODER, "anthropic", 360_000, 400_000, name="gpt-*", words=("-c", "model=gpt-6-sol")
    ),
    "name in a short flag": Case(CODER, "anthropic", 360_000, 400_000, name="gpt-*", words=("-mgpt-6-sol",)),
    "window in a flag of the user": Case(
        CODER, "anthropic", 45_000, 64_000, asked=MODEL, words=("-c", "model_context_window=50000")
    ),
    "large, window in a flag of the user": Case(
        CODER, "anthropic", 45_000, 400_000, asked=MODEL, words=("-c", "model_context_window=50000")
    ),
    "window in the user's settings": Case(
        CODER, "anthropic", 45_000, 64_000, asked=MODEL,
        files=((".codex/config.toml", "model_context_window = 50000\n"),),
    ),
    "large, a Codex without a list of models": Case(
        CODER, "anthropic", 244_800, 400_000, asked=MODEL, files=(("bin/codex", _WITHOUT_LIST),), program="bin/codex"
    ),
    "large, a Codex that does not answer": Case(
        CODER, "anthropic", 244_800, 400_000, asked=MODEL, files=(("bin/codex", _SILENT),), program="bin/codex"
    ),
}  # fmt: skip
CODEX_ITS_OWN = Case(CODER, "openai-responses", 244_800, model="gpt-5.5", words=("-m", "gpt-5.5"))


def table() -> None:
    """Print when each client compacted, beside when it should, and the longest answer that it asked for."""
    cases = [(f"Claude Code, {name}", case) for name, case in CLAUDES.items()]
    cases += [("Claude Code, known names, small", CLAUDE_SMALL), ("Claude Code, its own service", CLAUDE_ITS_OWN)]
    cases += [(f"Codex, {name}", case) for name, case in CODEXES.items()]
    cases.append(("Codex, its own service", CODEX_ITS_OWN))
    print(f"{'':52} {'window':>8} {'expected':>9} {'not at':>8} {'at':>8} turn  answer  told")
    for name, case in cases:
        if not case.client.path:
            print(f"{name}: not installed")
            continue
        with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".ccproxy-test-") as home:
            try:
                result = run(case, Path(home))
            except (AssertionError, subprocess.TimeoutExpired) as error:
                print(f"{name}: {str(error)[-3000:]}")
                continue
        if result.code:
            print(f"{name}: {result.code}: {result.out[-1000:]} {result.err[-2000:]}")
        turn, reported = result.compacted
        answer = next((body["max_tokens"] for body in result.sent() if "max_tokens" in body), "-")
        told = [f"{key.removeprefix('CLAUDE_CODE_')}={text}" for key, text in result.set(*TOLD).items()]
        told += [flag if "catalog" not in flag else "model_catalog_json" for flag in result.flags()]
        numbers = f"{case.window:>8} {case.limit:>9} {result.before:>8} {reported:>8} {turn:>4}  {answer!s:>6}"
        print(f"{name:52} {numbers}  {' '.join(told)}", flush=True)


def main(arguments: list[str]) -> None:
    if arguments:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        print(json.dumps(within(json.loads(arguments[0]))))
    else:
        table()


if __name__ == "__main__":
    main(sys.argv[1:])
