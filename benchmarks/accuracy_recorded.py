"""Importing, comparing and auditing recorded predictions of 50,000 items, each as its users have it.

    python benchmarks/accuracy_recorded.py

Uses the real predictions of ../shared/data/imagenet-recorded and variants of them, each of which answers some items as
another of these models does; without that folder all sets are generated, of models of which some find the same items
hard. Measured are the import jobs from their claim to their commit, the comparison of stored pairs, reading included,
and `zooaudit audit --zoo recorded --json` on the embedded database from the command to the report.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from audit_steps import seconds_by_kind
from sqlalchemy import func, select

from app.db.clock import now
from app.db.tables import Job, Measurement
from app.domain.states import FINAL
from app.domain.storage import file_path
from app.inprocess import InProcess
from app.services import predictions
from app.settings import Settings
from workers.engine.operations import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RECORDED = Path(__file__).parents[2] / "shared/data/imagenet-recorded"
DATASET = "imagenet-val"
MODELS, ITEMS, CLASSES, RANKED = 34, 50_000, 1000, 5
SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Items that a variant answers as another model does."""

COMPARED = 8
"""Sets of which each pair is compared by itself."""

Arrays = dict[str, "NDArray[Any]"]


def variants(known: dict[str, Arrays], number: int) -> Iterator[tuple[str, Arrays]]:
    """Yield so many sets that are each one of the known ones but for some items."""
    names = sorted(known)
    ordered = [(a, b) for a in names for b in names if a != b]
    random = np.random.default_rng(0)
    for index, place in enumerate(random.permutation(len(ordered))[:number]):
        (first, other), share = ordered[place], SHARES[index % len(SHARES)]
        changed = random.random(len(known[first]["labels"])) < share
        rows = {
            name: np.where(changed[:, None], known[other][name], known[first][name]) for name in ("classes", "scores")
        }
        yield f"{first}-{share:g}-{other}", {"labels": known[first]["labels"], **rows}


def generated(number: int) -> Iterator[tuple[str, Arrays]]:
    """Yield so many sets; an item is as hard for all models, and confused with the same few classes."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(ITEMS) % CLASSES).astype(np.int16)
    ease = random.normal(0, 1, ITEMS)
    confused = (labels[:, None] + random.permuted(np.tile(np.arange(1, 21), (ITEMS, 1)), axis=1)[:, :RANKED]) % CLASSES
    for index in range(number):
        ability = 0.14 + 0.8 * index / number
        # Where the right class ranks: first for 55 to 80 % of the items, among the five for 90 to 98 %.
        place = np.clip(np.floor(1 - 3 * (ability + ease + random.normal(0, 0.5, ITEMS))), 0, RANKED).astype(int)
        wrong = np.where(random.random((ITEMS, 1)) < 0.6, confused, confused[:, ::-1])
        answers = np.where(place[:, None] > np.arange(RANKED), wrong, np.roll(wrong, 1, axis=1))
        at = np.minimum(place, RANKED - 1)
        answers[np.arange(ITEMS), at] = np.where(place < RANKED, labels, answers[np.arange(ITEMS), at])
        scores = np.sort(random.dirichlet(np.full(RANKED + 1, 0.4), ITEMS)[:, :RANKED], axis=1)[:, ::-1]
        columns = random.permutation(RANKED)  # not every tool sorts them
        ranked = {"classes": answers, "scores": scores.astype(np.float32)}
        shuffled = {name: np.ascontiguousarray(array[:, columns]) for name, array in ranked.items()}
        yield f"generated-{index:02}", {"labels": labels, **shuffled}


def write(folder: Path) -> list[Path]:
    """Write the sets, and say what they are."""
    known = {path.stem: dict(np.load(path)) for path in sorted(RECORDED.glob("*.npz"))}
    made = variants(known, MODELS - len(known)) if known else generated(MODELS)
    sets = [*known.items(), *made]
    what = f"{len(known)} recorded sets and {MODELS - len(known)} variants of them" if known else "generated sets"
    print(f"{what}: {len(sets)} of {len(sets[0][1]['labels'])} items, {RANKED} classes each")
    for name, arrays in sets:
        np.savez_compressed(folder / f"{name}.npz", **arrays)
    return [folder / f"{name}.npz" for name, _ in sets]


def spread(values: list[float], unit: str) -> str:
    """Return median and largest of some times, in words."""
    return f"{len(values)} times, median {statistics.median(values):.3g} {unit}, largest {max(values):.3g} {unit}"


def imports(service: InProcess, paths: list[Path]) -> None:
    """Import the files with a local worker, and print what each job took."""
    requests = [{"model": f"recorded:{path.stem}", "dataset": DATASET, "path": str(path)} for path in paths]
    with service.worker_beside():
        for request in requests:
            with service.database.write() as session:
                job = predictions.submit(session, service.settings, request).id
            while True:
                with service.database.read() as session:
                    shown = predictions.show_import(session, job)
                if shown["state"] in FINAL:
                    break
                time.sleep(0.05)
            if shown["error"]:
                raise RuntimeError(shown["error"]["message"])
    spent = seconds_by_kind(service.database)["import"]
    print(f"import job: {spread(spent, 's')}, of one file from the claim to the commit")


def comparisons(service: InProcess, scratch: Path) -> None:
    """Compare some pairs of stored sets as the engine does, reading both, and print what each took."""
    with service.database.read() as session:
        stored = session.scalars(select(Measurement).where(Measurement.kind == "import").order_by(Measurement.subject))
        files = [str(file_path(service.settings.data_dir, row.files["predictions"])) for row in stored]
    walls, cpus = [], []
    pairs = list(combinations(files[:COMPARED], 2))
    for number, pair in enumerate([pairs[0], *pairs]):
        request = dict(zip("ab", ({"ref": path, "graph": None, "predictions": path} for path in pair), strict=True))
        wall, cpu = time.perf_counter(), time.process_time()
        compare.run(request, scratch, lambda *_: None)
        if number:  # what is imported at the first use is no part of a comparison
            walls.append(1000 * (time.perf_counter() - wall))
            cpus.append(1000 * (time.process_time() - cpu))
    print(f"comparison: {spread(walls, 'ms')}; processor time: {spread(cpus, 'ms')}")


def audit(service: InProcess, environment: dict[str, str]) -> None:
    """Audit all stored sets from the command to the report, and print what it took and where."""
    words = ["audit", "--zoo", "recorded", "--dataset", DATASET, "--json"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), now()
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *words], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    ended, after = now(), resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = (ended - started).total_seconds()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report = json.loads(done.stdout)
    summary = report["summary"]
    if summary["states"] != {"succeeded": summary["comparisons"]}:
        raise RuntimeError(f"not every pair was compared: {summary['states']}")
    models = {finding[side] for finding in report["findings"] for side in ("a_ref", "b_ref")}
    print(
        f"audit of {len(models)} models with {summary['comparisons']} pairs in {wall:.1f} s, {cpu:.1f} s of processor "
        f"time: {len(report['findings'])} findings, {len(summary['accuracy_groups'])} groups, "
        f"{len(done.stdout) / 1e6:.1f} MB of JSON"
    )
    with service.database.read() as session:
        first, last = session.execute(
            select(func.min(Job.started_at), func.max(Job.finished_at)).where(Job.audit_id == uuid.UUID(report["id"]))
        ).one()
    if first is None or last is None:
        raise RuntimeError("the audit has no job that has run")
    print(f"  {(first - started).total_seconds():6.1f} s until the first job, two at a time from there")
    for kind, spent in sorted(seconds_by_kind(service.database).items()):
        if kind != "import":
            print(f"  {sum(spent):6.1f} s in {len(spent)} {kind} jobs, longest {max(spent):.1f} s")
    print(f"  {(ended - last).total_seconds():6.1f} s from the last job to the report")


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory(prefix="zooaudit-benchmark-") as folder:
        files, data = Path(folder) / "files", Path(folder) / "data"
        files.mkdir()
        paths = write(files)
        # What this process and the ones that it starts share.
        os.environ["ZOOAUDIT_DATA_DIR"] = str(data)
        with InProcess(Settings()) as service:
            imports(service, paths)
            comparisons(service, Path(folder))
            audit(service, dict(os.environ))


if __name__ == "__main__":
    main()
