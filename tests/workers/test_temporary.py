"""Folders for temporary files, of processes that are really killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from workers import temporary

ROOT = Path(__file__).parents[2]

WORKER = """
import os, subprocess, sys, tempfile, time
from pathlib import Path
from workers import temporary

temporary.use_own(Path(sys.argv[1]))
made = tempfile.mkdtemp(prefix="pymp-")
said = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir(), end='')"]
assert subprocess.check_output(said, text=True) == tempfile.gettempdir()
fork = 0
if sys.argv[2] == "fork" and not (fork := os.fork()):
    os.close(0)
    time.sleep(600)
print(made, fork, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def worker(tmp_path):
    def start(*, fork=False):
        words = [sys.executable, "-c", WORKER, str(tmp_path), "fork" if fork else "alone"]
        process = open_.enter_context(
            subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        open_.callback(process.kill)
        made, forked = process.stdout.readline().rsplit(maxsplit=1)
        return process, Path(made), int(forked)

    with ExitStack() as open_:
        yield start


def test_what_a_killed_worker_left_is_swept_and_no_more(tmp_path, worker):
    (killed, left, _), (alive, kept, _) = worker(), worker()
    assert left.parent.parent == kept.parent.parent == tmp_path / "scratch"
    temporary.sweep(tmp_path)
    assert (left.exists(), kept.exists()) == (True, True)
    killed.kill()
    killed.wait()
    temporary.sweep(tmp_path)
    assert list((tmp_path / "scratch").iterdir()) == [kept.parent]
    alive.stdin.close()
    assert alive.wait(timeout=30) == 0
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_worker_sweeps_when_it_starts(tmp_path, worker):
    killed, left, _ = worker()
    killed.kill()
    killed.wait()
    _, kept, _ = worker()
    assert not left.exists()
    assert list((tmp_path / "scratch").iterdir()) == [kept.parent]


def test_a_folder_stays_for_what_was_forked_from_its_worker(tmp_path, worker):
    killed, left, fork = worker(fork=True)
    killed.kill()
    killed.wait()
    temporary.sweep(tmp_path)
    assert left.exists()
    os.kill(fork, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while left.exists() and time.monotonic() < deadline:
        temporary.sweep(tmp_path)
    assert not left.exists()


def test_a_folder_that_is_swept_while_it_is_made_is_made_again(tmp_path):
    done = threading.Event()

    def sweep():
        while not done.is_set():
            temporary.sweep(tmp_path)

    sweeping = [threading.Thread(target=sweep) for _ in range(2)]
    for thread in sweeping:
        thread.start()
    try:
        made = [temporary._make(tmp_path / "scratch") for _ in range(100)]
    finally:
        done.set()
        for thread in sweeping:
            thread.join()
    assert [folder for folder, _ in made if not (folder / "lock").exists()] == []
    for _, lock in made:
        lock.close()
    temporary.sweep(tmp_path)
    assert list((tmp_path / "scratch").iterdir()) == []
