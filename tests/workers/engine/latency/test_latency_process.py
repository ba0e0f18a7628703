import faulthandler
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from workers.engine.latency.process import Limits, run_forked
from workers.engine.protocol import SubjectError


def test_a_result_and_the_stages_come_back_from_another_process() -> None:
    def body(send: Any) -> dict[str, Any]:
        send({"doing": "loading", "entry": 1})
        send({"entry": 2})
        return {"pid": os.getpid(), "bulk": "x" * 300_000}

    outcome = run_forked(body, Limits(10, 10))
    assert outcome.reason is None
    assert outcome.result is not None
    assert outcome.result["pid"] != os.getpid()
    assert len(outcome.result["bulk"]) == 300_000
    assert outcome.stage == {"doing": "loading", "entry": 2}
    assert outcome.seconds < 2


def abort() -> None:
    faulthandler.disable()  # pytest's own would print a page
    os.abort()


def refuse() -> None:
    raise SubjectError("x", "the model has no input")


def divide() -> None:
    1 / 0  # noqa: B018


def starve() -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (abort, "its process was killed by SIGABRT"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "memory runs out"),
        (lambda: os._exit(3), "exit code 3"),
        (refuse, "the model has no input"),
        (divide, "ZeroDivisionError"),
        (starve, "out of memory"),
    ],
)
def test_every_way_to_die_has_its_sentence(end: Any, reason: str) -> None:
    outcome = run_forked(lambda _: end() or {}, Limits(10, 10))
    assert outcome.result is None
    assert outcome.reason is not None
    assert reason in outcome.reason


def test_silence_and_endlessness_are_both_bounded() -> None:
    def chatter(send: Any) -> dict[str, Any]:
        while True:
            send({"doing": "talking"})
            time.sleep(0.01)

    silent = run_forked(lambda _: time.sleep(60) or {}, Limits(0.3, 30))
    endless = run_forked(chatter, Limits(30, 0.3))
    assert silent.reason == "it gave no sign of life for 0.3 s"
    assert endless.reason == "it ran longer than 0.3 s"
    assert silent.seconds < 2
    assert endless.seconds < 2


SCRIPT = """
import os, sys, time
from workers.engine.latency.process import Limits, run_forked
def body(send):
    print("noise from a model", flush=True)
    send({"doing": "loading"})
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(float(sys.argv[2]))
    return {}
print(run_forked(body, Limits(60, 60)).result, flush=True)
"""


def test_what_a_block_prints_stays_out_of_standard_output(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "pid"), "0"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "{}\n"
    assert "noise from a model" in done.stderr


def test_a_block_dies_with_the_process_that_started_it(tmp_path: Any) -> None:
    pid_file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT, str(pid_file), "60"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    block = int(pid_file.read_text())
    parent.kill()
    parent.wait()
    while time.monotonic() < deadline:
        try:
            os.kill(block, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("the block outlived its parent")


def test_a_child_that_takes_too_much_memory_is_killed_and_says_how_much() -> None:
    def hog(_: Any) -> dict[str, Any]:
        kept = []
        while True:
            kept.append(bytearray(b"x" * 32 * 2**20))
            time.sleep(0.02)

    before = psutil.Process().memory_info().rss
    allowed = 2 * before + 512 * 2**20  # what was forked counts for both
    outcome = run_forked(hog, Limits(30, 30, memory_bytes=allowed))
    assert outcome.result is None
    assert outcome.reason is not None
    used, most = map(int, re.findall(r"(\d+) MiB", outcome.reason))
    assert most == allowed // 2**20 <= used < most + 1024  # it is above by less than a MiB at times
