"""Fingerprint every architecture of the zoos without weights: one child process a model, one JSON line a model.

    python benchmarks/architecture_index.py [--zoo timm --zoo torchvision --zoo keras] [--sample N --seed S]
                                            [--out FILE.jsonl] [--timeout SECONDS] [--jobs N]

A crash, a hang or a model that needs too much memory costs its own row. Rows that FILE already holds are kept, so an
interrupted run goes on where it stopped. Prints total and median time, peak memory and the failures by reason.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import select
import signal
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # read when the libraries are loaded
os.environ.update({"HF_HUB_OFFLINE": "1", "KERAS_BACKEND": "torch"})

# The imports below load the libraries that read those variables.
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: E402

from workers.engine import template  # noqa: E402
from workers.engine.operations.structure import graph_of  # noqa: E402
from workers.engine.protocol import EngineError  # noqa: E402
from workers.engine.zoos.base import NO_WEIGHTS  # noqa: E402
from workers.engine.zoos.registry import open_zoo  # noqa: E402

ZOOS = ("timm", "torchvision", "keras")


def names(zoo: str) -> list[str]:
    """Return the names of a zoo's architectures."""
    return list(dict.fromkeys(listing.name for listing in open_zoo(zoo).listings()))


def index(zoo_name: str, name: str) -> dict[str, Any]:
    """Return the row of one architecture."""
    start = time.monotonic()
    zoo = open_zoo(zoo_name)
    listing = zoo.describe(name, NO_WEIGHTS)
    try:
        found = zoo.structure(listing)
        graph = graph_of(zoo, listing, found)
        row: dict[str, Any] = {
            "fingerprint": graph.fingerprint,
            "weights": found.weights,
            "notes": found.notes,
            "counts": graph.counts,
            "published_parameters": found.parameters,
        }
    except EngineError as error:
        row = {"error": error.to_json()}
    except Exception as error:  # noqa: BLE001  (whatever a model raises is its row)
        row = {"error": {"code": type(error).__name__, "message": str(error)[:300]}}
    return row | {"seconds": round(time.monotonic() - start, 3)}


class Child:
    """One forked process for one architecture."""

    def __init__(self, zoo: str, name: str, *, timeout: float, memory: int) -> None:
        self.ref = f"{zoo}:{name}"
        self.reply, write = os.pipe()
        self.deadline = time.monotonic() + timeout
        self._timeout = timeout
        self.read = b""
        gc.freeze()  # children share these pages until a collection would touch them
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.dup2(2, 1)
                sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  (for the child's life)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
                os.write(write, json.dumps(index(zoo, name)).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(write)

    def late(self) -> bool:
        """Whether the time limit has passed; ends the process then."""
        if time.monotonic() < self.deadline:
            return False
        os.kill(self.pid, signal.SIGKILL)
        return True

    def row(self, *, late: bool) -> dict[str, Any]:
        """Reap the process and return its row."""
        os.close(self.reply)
        _, status, usage = os.wait4(self.pid, 0)
        row: dict[str, Any]
        if late:
            row = {"error": {"code": "timeout", "message": f"no answer within {self._timeout:.0f} s"}}
        elif self.read:
            row = json.loads(self.read)
        else:
            row = {"error": {"code": "lost", "message": f"the process ended with wait status {status}"}}
        return (
            {"ref": self.ref}
            | row
            | {
                "peak_mb": usage.ru_maxrss // 1024,
                "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            }
        )


def run(work: list[tuple[str, str]], out: Path, *, jobs: int, timeout: float, memory: int) -> None:
    """Index what ``out`` does not hold yet; appends one line a model as soon as it is known."""
    known = {json.loads(line)["ref"] for line in out.read_text().splitlines()} if out.exists() else set()
    pending = [item for item in reversed(work) if ":".join(item) not in known]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    running: dict[int, Child] = {}
    with Progress(*columns) as progress, out.open("a", encoding="utf-8") as file:
        task = progress.add_task("indexing", total=len(work), completed=len(work) - len(pending))
        while pending or running:
            while pending and len(running) < jobs:
                child = Child(*pending.pop(), timeout=timeout, memory=memory)
                running[child.reply] = child
            ready, _, _ = select.select(list(running), [], [], 1.0)
            for descriptor, child in list(running.items()):
                chunk = os.read(descriptor, 1 << 16) if descriptor in ready else None
                if chunk:
                    child.read += chunk
                late = child.late()
                if chunk == b"" or late:
                    del running[descriptor]
                    file.write(json.dumps(child.row(late=late)) + "\n")
                    file.flush()
                    progress.update(task, advance=1, description=child.ref[:40])


def warm_up() -> None:
    """Export one tiny network, so that what the exporter imports late is there before the processes are forked."""
    from torch import nn  # noqa: PLC0415  (after the environment)

    from workers.engine.graph.export import export_structure  # noqa: PLC0415

    export_structure(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)), (1, 3, 8, 8))


def report(rows: list[dict[str, Any]], wall: float) -> None:
    """Print the figures."""
    good = [row for row in rows if "error" not in row]
    bad = [row for row in rows if "error" in row]
    seconds = sorted(row["seconds"] for row in good)
    print(f"{len(rows)} architectures, {len(good)} indexed, {len(bad)} failed ({len(bad) / len(rows):.1%})")
    print(f"wall time of this run {wall:.0f} s; sum over models {sum(row.get('seconds', 0) for row in rows):.0f} s")
    if good:
        longest = max(good, key=lambda row: row["seconds"])
        largest = max(rows, key=lambda row: row["peak_mb"])
        print(f"seconds a model: median {statistics.median(seconds):.2f}, 90th percentile", end=" ")
        print(f"{seconds[int(0.9 * (len(seconds) - 1))]:.2f}, longest {seconds[-1]:.1f} ({longest['ref']})")
        spent = [row["cpu_seconds"] for row in good if "cpu_seconds" in row]
        print(f"processor seconds a model: median {statistics.median(spent or [0]):.2f}")
        print(f"peak memory of a process: {largest['peak_mb']} MB ({largest['ref']})")
        print(f"weights: {dict(Counter(row['weights'] for row in good))}")
        print(f"different fingerprints: {len({row['fingerprint'] for row in good})}")
    for code, number in Counter(row["error"]["code"] for row in bad).most_common():
        print(f"failed, {code}: {number}")
        for row in [row for row in bad if row["error"]["code"] == code][:20]:
            print(f"    {row['ref']}: {row['error']['message'][:200]}")


def main() -> None:
    """Choose the architectures, index them, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", action="append", choices=ZOOS, help="zoo to index (all of them by default)")
    parser.add_argument("--sample", type=int, help="index this many architectures a zoo, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--out", type=Path, default=Path("architecture-index.jsonl"), help="rows, kept between runs")
    parser.add_argument("--timeout", type=float, default=300, help="seconds a model may take")
    parser.add_argument("--memory", type=float, default=16, help="GiB of data that a process may hold")
    parser.add_argument(
        "--retry", action="store_true", help="forget the rows of models that failed, and try them again"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    chosen = parser.parse_args()
    if chosen.retry and chosen.out.exists():
        lines = chosen.out.read_text().splitlines(keepends=True)
        chosen.out.write_text("".join(line for line in lines if "error" not in json.loads(line)))
    template.preload()
    from workers.engine.graph import shortcuts  # noqa: PLC0415  (after the libraries)

    shortcuts.prepare()
    warm_up()
    work = []
    for zoo in chosen.zoo or ZOOS:
        every = names(zoo)
        some = (
            every
            if chosen.sample is None
            else random.Random(chosen.seed).sample(  # noqa: S311  (no secret)
                every, min(chosen.sample, len(every))
            )
        )
        work += [(zoo, name) for name in some]
    start = time.monotonic()
    run(work, chosen.out, jobs=chosen.jobs, timeout=chosen.timeout, memory=int(chosen.memory * 2**30))
    wanted = {":".join(item) for item in work}
    rows = [json.loads(line) for line in chosen.out.read_text().splitlines()]
    report([row for row in rows if row["ref"] in wanted], time.monotonic() - start)


if __name__ == "__main__":
    main()
