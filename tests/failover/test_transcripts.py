"""The table of what happens when keys and services fail, through real sockets: tests/failover/*.txt, one case a paragraph.

A case names the upstreams and what they say to which key, asks, and then looks at what the client got, which keys were
used in which order, how long the proxy would have waited, and what ``/status`` shows:

    case: a rate limit without a hint is waited out
    a: 429 | ok
    ask -> 200
    calls a a
    waits 1
    cooldowns -

``upstream NAME FORMAT KEY ...`` (default ``upstream up anthropic a``; ``a*3`` has weight 3), ``set NAME=JSON``,
``models NAME -> TARGET, TARGET``, ``KEY[/MODEL]: ANSWER | ANSWER`` (``NAME.KEY`` for other upstreams than the first;
answers are explained in ``services.py``, and the last one is repeated), ``ask [stream] [as FORMAT] [model M] [session S]
-> STATUS [retry-after=N] [should-retry=false] [by TARGET] ["WORDS"]``, ``calls``, ``waits``, ``cooldowns``, ``sessions KEY=N``,
``advance SECONDS``, ``reset KEY``, ``reload``. ``in FORMAT ...`` runs the case with upstreams of each of these formats.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.services import Service, secret, service
from tests.support import (
    WIRES,
    Answer,
    FakeClock,
    Proxy,
    ask,
    connect,
    proxy,
    read_answer,
    request_bytes,
    settings_of,
)

FOLDER = Path(__file__).parent


@dataclass
class Case:
    name: str
    lines: list[str]
    form: str = "anthropic"

    def __str__(self) -> str:
        return f"{self.name} [{self.form}]"


def cases() -> list[Case]:
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        for paragraph in re.split(r"\n\s*\n", path.read_text()):
            lines = [line for line in paragraph.strip().splitlines() if not line.startswith("#")]
            if not lines:
                continue
            assert lines[0].startswith("case: "), lines[0]
            forms = next((line.split()[1:] for line in lines if line.startswith("in ")), ["anthropic"])
            rest = [line for line in lines[1:] if not line.startswith("in ")]
            found += [Case(lines[0][6:], rest, form) for form in (list(WIRES) if forms == ["all"] else forms)]
    return found


CASES = cases()


def test_there_are_enough_cases_and_each_has_a_name_of_its_own() -> None:
    names = [str(case) for case in CASES]
    assert len(set(names)) == len(names)
    assert len(CASES) >= 120


def test_every_case_looks_at_everything() -> None:
    for case in CASES:
        words = {line.split()[0] for line in case.lines}
        assert {"ask", "calls", "cooldowns"} <= words, case.name


@dataclass
class Stage:
    """A case while it runs."""

    case: Case
    stack: contextlib.ExitStack
    clock: FakeClock = field(default_factory=FakeClock)
    config: dict[str, Any] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    served: Proxy | None = None
    told: dict[str, int] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def run(self) -> None:
        if not any(line.startswith("upstream ") for line in self.case.lines):
            self.upstream(f"up {self.case.form} a")
        for line in self.case.lines:
            word, _, rest = line.partition(" ")
            rule = re.match(r"(?:([\w-]+)\.)?([a-z]|any)(?:/(\w+))?: (.*)", line)
            if rule is not None:
                upstream = rule[1] or next(iter(self.services))
                answers = [answer.strip() for answer in rule[4].split("|")]
                self.services[upstream].say("" if rule[2] == "any" else rule[2], rule[3] or "", answers)
            else:
                getattr(self, word.replace("-", "_"))(rest)

    # --- the stage is set

    def upstream(self, rest: str) -> None:
        name, form, *keys = rest.split()
        form = self.case.form if form == "same" else form
        if name not in self.services:
            self.services[name], up = self.stack.enter_context(service(form))
            self.ports[name] = up.port
            calls, order = self.services[name].calls, self.order
            choose = self.services[name].choose

            def chosen(seen: Any) -> Any:
                steps = choose(seen)
                if seen.head.startswith("GET "):  # a list of models
                    return steps
                order.append(calls[-1] if name == next(iter(self.services)) else f"{name}.{calls[-1]}")
                return steps

            up.choose = chosen
        suffix = "/v1" if form.startswith("openai") else ""
        entries: Any = []
        for key in keys:
            letter, _, weight = key.partition("*")
            entries.append({"key": secret(letter), "label": letter, "weight": int(weight or 1)})
        if keys == ["from-client"]:
            entries = "from-client"
        url = f"http://127.0.0.1:{self.ports[name]}{suffix}"
        self.config.setdefault("upstreams", {})[name] = {"format": form, "base_url": url, "keys": entries}

    def set(self, rest: str) -> None:
        for setting in rest.split():
            name, _, value = setting.partition("=")
            self.config[name] = json.loads(value)

    def models(self, rest: str) -> None:
        name, _, targets = rest.partition(" -> ")
        self.config.setdefault("models", {})[name] = [target.strip() for target in targets.split(",")]

    def proxy(self) -> Proxy:
        if self.served is None:
            self.served = self.stack.enter_context(proxy(self.config, clock=self.clock))
        return self.served

    # --- what happens

    def advance(self, rest: str) -> None:
        self.clock.time += float(rest)

    def reload(self, rest: str) -> None:
        settings = settings_of(self.config)
        self.proxy().run(self.proxy().parts.use, settings)

    def reset(self, rest: str) -> None:
        assert ask(self.proxy().port, "/status", {"reset": rest}).status == 200

    def ask(self, rest: str) -> None:
        how, _, expected = rest.partition("-> ")
        words = how.split()
        form = words[words.index("as") + 1] if "as" in words else self.case.form
        model = words[words.index("model") + 1] if "model" in words else "m"
        headers = {"x-session-id": words[words.index("session") + 1]} if "session" in words else {}
        if "key" in words:
            headers["authorization"] = f"Bearer {secret(words[words.index('key') + 1])}"
        path, body = WIRES[form].asked("stream" in words)
        body = {**body, **({"model": model} if form != "gemini" else {})}
        with connect(self.proxy().port) as sock:
            sock.sendall(request_bytes(path.replace("/m:", f"/{model}:"), body, **headers))
            got = b""
            while "broken" in expected and b"hel" not in got:
                got += sock.recv(65536)
            for one in self.services.values():
                one.heard.set()
            self._check(read_answer(sock, got), expected)

    def _check(self, answer: Answer, expected: str) -> None:
        status, *words = re.sub(r'"[^"]*"', "", expected).split()
        text = answer.body.decode()
        assert answer.status == int(status), (answer.status, text)
        for words_said in re.findall(r'"([^"]*)"', expected):
            assert words_said in text, (words_said, text)
        expects = dict(word.split("=") for word in words if "=" in word)
        assert answer.headers.get("retry-after") == expects.get("retry-after")
        assert answer.headers.get("x-should-retry") == expects.get("should-retry")
        if "by" in words:
            assert answer.headers["x-ccproxy-upstream"] == words[words.index("by") + 1]
        if answer.status == 200 and "broken" not in words:
            assert "hel" in text and "error" not in text.replace('"error":null', "").replace('"error": null', ""), text
        for key in "abcdefgh":
            assert secret(key) not in text

    # --- what is seen

    def calls(self, rest: str) -> None:
        told = self.order[self.told.get("calls", 0) :]
        self.told["calls"] = len(self.order)
        assert " ".join(told) == rest.replace("-", ""), (told, rest)

    def waits(self, rest: str) -> None:
        told = self.clock.waits[self.told.get("waits", 0) :]
        self.told["waits"] = len(self.clock.waits)
        assert [round(seconds, 2) for seconds in told] == [float(word) for word in rest.replace("-", "").split()]

    def status(self) -> dict[str, Any]:
        answer = ask(self.proxy().port, "/status", method="GET")
        assert answer.status == 200
        for key in "abcdefgh":
            assert secret(key) not in answer.body.decode()
        found: dict[str, Any] = answer.json["upstreams"]
        return found

    def cooldowns(self, expected: str) -> None:
        first = next(iter(self.services))
        clients = {f"client-{sha256(secret(key).encode()).hexdigest()[:8]}": key for key in "abcdefgh"}
        seen = []
        for name, upstream in self.status().items():
            for key in upstream["keys"]:
                label = clients.get(key["label"], key["label"])
                label = label if name == first else f"{name}.{label}"
                for one in key["cooldowns"]:
                    place = label + (f"/{one['model']}" if one["model"] else "")
                    seen.append(
                        f"{place} {one['reason']} {one['left_s']:g}"
                        + (" retry_after" if one["source"] == "retry_after" else "")
                    )
        assert sorted(seen) == sorted(line.strip() for line in expected.replace("-", "").split(",") if line.strip())

    def sessions(self, rest: str) -> None:
        seen = {key["label"]: key["sessions"] for upstream in self.status().values() for key in upstream["keys"]}
        for word in rest.split():
            label, _, number = word.partition("=")
            assert seen[label] == int(number), seen


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccproxy_lite.relay.exchange.random", lambda: 0.5)
    with contextlib.ExitStack() as stack:
        Stage(case, stack).run()
