"""A stand-in for the agent CLI: speaks its JSON lines, and misbehaves on request. Run as a program by the tests.

What it does stands in its environment: ``MODE``, and ``NOTES``, a file in which it notes how it was run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def event(kind: str, **more: object) -> None:
    say(type="stream_event", event={"type": kind, **more}, session_id="s", parent_tool_use_id=None, uuid="u")


def note(**facts: object) -> None:
    with open(os.environ["NOTES"], "a") as file:
        file.write(json.dumps(facts) + "\n")


def result(text: str = "", **more: object) -> None:
    usage = {"input_tokens": 11, "output_tokens": 7}
    line = {"is_error": False, "subtype": "success", "num_turns": 1, "result": text, "usage": usage, "type": "result"}
    say(**{**line, **more})


def error(status: int | None, kind: str, text: str) -> None:
    say(type="assistant", message={"model": "<synthetic>", "content": [{"type": "text", "text": text}]}, error=kind)
    result(text, is_error=True, api_error_status=status)
    sys.exit(1)


def message(text: str, stop: str = "end_turn", pause_s: float = 0.0) -> None:
    usage = {"input_tokens": 11, "output_tokens": 1}
    event(
        "message_start",
        message={
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "usage": usage,
        },
    )
    event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for word in text.split(" "):
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": f"{word} "})
        time.sleep(pause_s)
    event("content_block_stop", index=0)
    event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": 7})
    event("message_stop")


def with_tools(question: str) -> None:
    """Two turns, with a call of its own in between."""
    event(
        "message_start",
        message={"id": "msg_1", "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 5}},
    )
    event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "I look. "})
    event("content_block_stop", index=0)
    event("content_block_start", index=1, content_block={"type": "tool_use", "id": "t1", "name": "Bash", "input": {}})
    event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": "{}"})
    event("content_block_stop", index=1)
    event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 3})
    event("message_stop")
    say(
        type="user", message={"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "x"}]}
    )
    say(type="stream_event", event={"type": "message_start", "message": {"id": "sub"}}, parent_tool_use_id="t1")
    message("It is done.")
    result("It is done.")


def misbehave(mode: str, question: str) -> None:
    if mode == "garbage":
        print("this is no JSON\n\x00\xff{", flush=True)
    elif mode == "half":
        event("message_start", message={"id": "msg_1", "role": "assistant", "model": "m", "content": [], "usage": {}})
        event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "half"})
        sys.exit(3)
    elif mode == "exit":
        print("first line\nsomething is wrong here", file=sys.stderr)
        sys.exit(1)
    elif mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif mode == "hang":
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)  # as the CLI starts its shells
        note(pid=os.getpid(), child=child.pid)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    elif mode == "broken":  # an error in its stream, and then nothing
        event("message_start", message={"id": "msg_1", "role": "assistant", "model": "m", "content": [], "usage": {}})
        event("content_block_start", index=0, content_block={"type": "text", "text": "x"})
        event("error", error={"type": "overloaded_error", "message": "too busy"})
        note(pid=os.getpid())
        time.sleep(600)
    elif mode == "unending":
        note(pid=os.getpid())
        event("message_start", message={"id": "msg_1", "role": "assistant", "model": "m", "content": [], "usage": {}})
        event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        while True:
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * 10_000})
    elif mode == "linger":
        note(pid=os.getpid())
        message(f"you said {question}")
        time.sleep(600)
    elif mode in ("daemon", "daemon after"):
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)  # which holds the output open
        note(child=child.pid)
        if mode == "daemon":
            print("it is broken", file=sys.stderr)
            sys.exit(1)
        message(f"you said {question}")
        result()
    elif mode == "noise":
        while True:
            say(type="system", subtype="status")
            time.sleep(0.05)
    elif mode == "leak":
        print(f"the token {os.environ['A_TOKEN_OF_MINE']} is wrong", file=sys.stderr)
        sys.exit(1)
    elif mode.startswith("odd "):
        print(mode[4:], flush=True)
    elif mode == "large":
        message("x" * 10_000_000)
        result()
    elif mode == "endless":
        sys.stdout.write("x" * 50_000_000)
        sys.stdout.flush()
    elif mode == "max_tokens":
        message("cut off", "max_tokens")
        time.sleep(1)
        note(went_on=True)
        message("and on")
        result()
    elif mode == "slow":
        message(" ".join(["word"] * 1000), pause_s=0.05)
        result()
    elif mode == "tools":
        with_tools(question)
    elif mode == "limit":
        say(type="rate_limit_event", rate_limit_info={"status": "rejected", "resetsAt": time.time() + 40})
        error(429, "rate_limit", "You've hit your limit")
    elif mode.startswith("error"):
        _, status, kind = mode.split(" ")
        error(int(status) or None, kind, f"API Error: {kind}")


def main() -> None:
    mode, turns = os.environ.get("MODE", ""), []
    options = dict(word.partition("=")[::2] for word in sys.argv[1:])
    system = Path(options["--system-prompt-file"]).read_text() if "--system-prompt-file" in options else None
    environment = {name: value for name, value in os.environ.items() if name not in ("LC_CTYPE", "NOTES")}
    note(argv=sys.argv[1:], env=environment, cwd=os.getcwd(), system=system, began=time.monotonic())
    if mode == "forgets" and "--resume" in options:
        result("", is_error=True, subtype="error_during_execution", errors=["No conversation found with session ID: x"])
        sys.exit(1)
    for text in sys.stdin:
        line = json.loads(text)
        turns.append(line)
        if line["type"] == "user" and line.get("shouldQuery", True):
            break
        if line["type"] == "user":
            result("", num_turns=0)
    question = turns[-1]["message"]["content"][-1]["text"]
    note(turns=turns)
    say(type="system", subtype="init", session_id="s", tools=[])
    misbehave(mode, question)
    if mode in ("", "forgets"):
        message(f"you said {question}")
        result(f"you said {question}")
    elif mode == "wait":
        while not os.path.exists(question):  # until a test makes this file
            time.sleep(0.005)
        message("waited")
        result()
    note(ended=time.monotonic())


if __name__ == "__main__":
    main()
