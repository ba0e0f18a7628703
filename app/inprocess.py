"""The services in the caller's own process: what the command line uses where a program would use HTTP.

On the embedded default a local worker is started beside it, and stopped again; with a broker the workers are already
running somewhere, and this only waits.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Self

from app import beside
from app.db.migrate import upgrade
from app.db.paging import MAX_LIMIT, Selection
from app.db.session import Database
from app.domain.states import FINAL, State
from app.errors import ServiceError
from app.queue import ring
from app.render import progress_bar
from app.services import (
    audits,
    catalogs,
    claims,
    comparisons,
    contracts,
    datasets,
    drift,
    findings,
    indexes,
    keys,
    latency_history,
    listings,
    policies,
    predictions,
    similar,
    uploads,
    vettings,
    zoos,
)
from app.services.keyring import Keyring

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from sqlalchemy.orm import Session

    from app.domain.zoos import Zoo
    from app.services.submission import Submitted
    from app.settings import Settings

_POLL_S = 0.2
_LARGEST = 10
_RANKED = {"architecture": "structure", "accuracy": "top1", "latency": None}
"""What ranks the pairs of an audit in each dimension: one metric, or whichever is largest."""


class WorkerDiedError(ServiceError):
    """The local worker ended before the work was done."""

    status = 500
    slug = "worker-died"


class InProcess:
    """An open database with the services on it. Use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.database = Database(settings.url, team=settings.team)

    def __enter__(self) -> Self:
        """Bring the schema up to date."""
        upgrade(self.database)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the database."""
        self.database.dispose()

    def zoos(self) -> list[dict[str, Any]]:
        """Return every zoo, with what its catalog says if it was read."""
        with self.database.read() as session:
            return zoos.show_all(session, self.settings)

    def listings(self, *, zoo: str | None, match: str | None) -> list[dict[str, Any]]:
        """Return the listings of one zoo or all; catalogs that are out of date are read first."""
        known = self._zoos()
        wanted = [zoos.named(known, zoo)] if zoo else list(known.values())
        self._read_catalogs(wanted)
        with self.database.read() as session:
            return every_item(lambda wanted: listings.find(session, wanted), zoo=zoo, match=match)

    def _zoos(self) -> dict[str, Zoo]:
        with self.database.read() as session:
            return zoos.known(session, self.settings)

    def _read_catalogs(self, wanted: Iterable[Zoo]) -> None:
        with self.database.write() as session:
            jobs = catalogs.refresh(session, wanted)
        ids = [job_id for each in jobs.values() for job_id in each]
        read = self._work(jobs, "reading catalogs", lambda session: catalogs.show(session, ids))
        if read.get("error"):
            raise ServiceError(read["error"]["message"])

    def datasets(self) -> list[dict[str, Any]]:
        """Return every data set."""
        with self.database.read() as session:
            return every_item(lambda wanted: datasets.find(session, wanted))

    def add_dataset(self, request: dict[str, Any]) -> dict[str, Any]:
        """Store a data set."""
        with self.database.write() as session:
            return datasets.add(session, request)

    def uploads(self) -> list[dict[str, Any]]:
        """Return every upload, the newest first."""
        with self.database.read() as session:
            return every_item(lambda wanted: uploads.find(session, wanted))

    def add_upload(self, path: Path) -> dict[str, Any]:
        """Store a model file."""
        with self.database.write() as session:
            return uploads.add(session, self.settings, path)

    def claims(self, architecture: str) -> dict[str, Any]:
        """Return what zoos claim of an architecture key; catalogs that are out of date are read first."""
        self._read_catalogs(self._zoos().values())
        with self.database.read() as session:
            return claims.of_architecture(session, architecture)

    def history(self, ref: str, *, fingerprint: str | None, since: datetime | None) -> list[dict[str, Any]]:
        """Return every timed run of a listing, the newest first, with the steps in its history."""
        with self.database.read() as session:
            return every_item(
                lambda wanted: latency_history.find(session, self.settings, ref, wanted),
                fingerprint=fingerprint,
                since=since,
            )

    def contract(self, ref: str) -> dict[str, Any]:
        """Return a listing's input contract; its zoo's catalog is read first if it is out of date."""
        with self.database.read() as session:
            zoo = contracts.zoo_of(session, self.settings, ref)
        if zoo.name in self._zoos():
            self._read_catalogs([zoo])
        with self.database.read() as session:
            return contracts.show(session, self.settings, ref)

    def predictions(self, *, dataset: str | None, model: str | None) -> list[dict[str, Any]]:
        """Return every set of predictions, or those on a data set or of a model."""
        with self.database.read() as session:
            return every_item(lambda wanted: predictions.find(session, wanted), dataset=dataset, model=model)

    def import_predictions(self, request: dict[str, Any]) -> dict[str, Any]:
        """Submit an import of predictions, wait for its end, return it."""
        with self.database.write() as session:
            submitted = predictions.submit(session, self.settings, request)
        return self._work(submitted.ring, "importing", lambda session: predictions.show_import(session, submitted.id))

    def compare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Submit a comparison, wait for its end, return it."""
        with self.database.write() as session:
            submitted = comparisons.submit(session, self.settings, request)
        return self._finish(submitted, "comparing", comparisons.show, comparisons.cancel)

    def vet(self, request: dict[str, Any]) -> dict[str, Any]:
        """Submit a vetting, wait for its end, return it."""
        with self.database.write() as session:
            submitted = vettings.submit(session, self.settings, request)
        return self._finish(submitted, "vetting", vettings.show, vettings.cancel)

    def policies(self) -> list[dict[str, Any]]:
        """Return every policy in its newest version."""
        with self.database.read() as session:
            return every_item(lambda wanted: policies.find(session, wanted))

    def policy(self, name: str) -> dict[str, Any]:
        """Return a policy with its versions."""
        with self.database.read() as session:
            return policies.show(session, name)

    def add_policy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Store a policy; return its newest version."""
        with self.database.write() as session:
            stored, _ = policies.add(session, request)
            return stored

    def diagram(self, comparison_id: str) -> str:
        """Return the picture of a comparison's two graphs, an SVG document."""
        with self.database.read() as session:
            return comparisons.diagram(session, self.settings, uuid.UUID(comparison_id))

    def audit(self, request: dict[str, Any]) -> dict[str, Any]:
        """Submit an audit, wait for its end, return it."""
        with self.database.write() as session:
            submitted = audits.submit(session, self.settings, request)
        return self._finish(submitted, "auditing", audits.show, audits.cancel)

    def index(self, names: Sequence[str], *, retry: bool) -> list[dict[str, Any]]:
        """Fingerprint every architecture of these zoos that is not fingerprinted yet.

        Returns each zoo's index with the listings that could not be, ``not_indexed``. Stopping it keeps what is done.
        """
        wanted: dict[str, list[uuid.UUID]] = {}
        with self.database.write() as session:
            for name in names:
                for device, ids in indexes.submit(session, self.settings, name, retry=retry).items():
                    wanted.setdefault(device, []).extend(ids)

        def look(session: Session) -> dict[str, Any]:
            return _together([indexes.show(session, self.settings, name) for name in names])

        try:
            self._work(wanted, "indexing", look)
        except KeyboardInterrupt:
            with self.database.write() as session:
                for name in names:
                    if indexes.show(session, self.settings, name)["state"] not in FINAL:
                        indexes.cancel(session, self.settings, name)
            raise
        with self.database.read() as session:
            return [
                indexes.show(session, self.settings, name) | {"not_indexed": self._not_indexed(session, name)}
                for name in names
            ]

    def _not_indexed(self, session: Session, zoo: str) -> list[dict[str, Any]]:
        return every_item(lambda wanted: indexes.failures(session, self.settings, zoo, wanted))

    def similar(self, ref: str, *, zoo: str | None, limit: int) -> dict[str, Any]:
        """Return the nearest architectures of what a reference names; it is fingerprinted first if need be."""
        with self.database.read() as session:
            if zoo is not None:
                zoos.named(zoos.known(session, self.settings), zoo)
            if listing_id := similar.known(session, self.settings, ref):
                return similar.of_listing(session, listing_id, zoo=zoo, limit=limit)
        with self.database.write() as session:
            jobs = similar.submit(session, self.settings, ref)
        ids = [job_id for each in jobs.values() for job_id in each]
        self._work(jobs, "fingerprinting", lambda session: catalogs.show(session, ids))
        with self.database.read() as session:
            return similar.of_job(session, ids[0], zoo=zoo, limit=limit)

    def findings(self, audit_id: str) -> list[dict[str, Any]]:
        """Return every finding of an audit, the largest first."""
        with self.database.read() as session:
            return every_item(lambda wanted: findings.find(session, wanted), audit_id=uuid.UUID(audit_id))

    def ranked(self, audit_id: str) -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[str, Any]]]:
        """Return the largest findings of an audit by dimension, and the comparisons they belong to, by id."""
        found: dict[str, list[dict[str, Any]]] = {}
        with self.database.read() as session:
            for dimension, metric in _RANKED.items():
                filters = {"audit_id": uuid.UUID(audit_id), "dimension": dimension, "metric": metric}
                found[dimension] = findings.find(session, Selection(filters, limit=_LARGEST))["items"]
            ids = {item["comparison_id"] for items in found.values() for item in items}
            return found, {each: comparisons.show(session, uuid.UUID(each)) for each in ids}

    def drift(self, audit_id: uuid.UUID, against: uuid.UUID | None) -> dict[str, Any]:
        """Return what changed since another audit, by default the one before of the same schedule."""
        with self.database.read() as session:
            return drift.report(session, audit_id, against)

    def worker_beside(self) -> AbstractContextManager[subprocess.Popen[bytes] | None]:
        """Run a local worker meanwhile; on a database with a broker, none."""
        return beside.worker(self.settings)

    def create_key(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make an API key; return it with the key itself, this once."""
        with self.database.write() as session:
            return keys.create(session, self.settings, request)

    def keys(self) -> list[dict[str, Any]]:
        """Return every API key, without the keys themselves."""
        with self.database.read() as session:
            return every_item(lambda wanted: keys.find(session, wanted))

    def revoke_key(self, key_id: uuid.UUID) -> dict[str, Any]:
        """Revoke an API key."""
        with self.database.write() as session:
            return keys.revoke(session, key_id)

    def has_keys(self) -> bool:
        """Whether an API key was ever made."""
        return Keyring(self.database).any_exist()

    def _finish(
        self,
        submitted: Submitted,
        doing: str,
        show: Callable[[Session, uuid.UUID], dict[str, Any]],
        cancel: Callable[[Session, uuid.UUID], dict[str, Any]],
    ) -> dict[str, Any]:
        try:
            return self._work(submitted.ring, doing, lambda session: show(session, submitted.id))
        except KeyboardInterrupt:
            with self.database.write() as session:
                cancel(session, submitted.id)
            raise

    def _work(
        self,
        jobs: dict[str, list[uuid.UUID]],
        doing: str,
        look: Callable[[Session], dict[str, Any]],
    ) -> dict[str, Any]:
        """Ring for jobs, wait until ``look`` shows a final state, and return what it shows."""
        ring(self.settings, jobs)
        with self.database.read() as session:
            seen = look(session)
        if seen["state"] in FINAL:
            return seen
        with self.worker_beside() as worker, progress_bar(doing) as show:
            while True:
                with self.database.read() as session:
                    seen = look(session)
                if seen["state"] in FINAL:
                    return seen
                now = seen["progress"]
                show(now["done"], now["total"], now["message"] or "")
                if worker is not None and worker.poll() is not None:
                    raise WorkerDiedError(
                        f"The local worker ended with status {worker.returncode} before the work was done; "
                        f"{self.settings.data_dir / 'worker.log'} says why."
                    )
                time.sleep(_POLL_S)


def _together(shown: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the state and progress of several indexes as one."""
    states = {each["state"] for each in shown}
    progress = [each["progress"] for each in shown]
    return {
        "state": State.SUCCEEDED if states <= FINAL else State.RUNNING,
        "progress": {
            "done": sum(each["done"] for each in progress),
            "total": sum(each["total"] for each in progress),
            "message": next((each["message"] for each in progress if each["message"]), None),
        },
    }


def every_item(find: Callable[[Selection], dict[str, Any]], **filters: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return the items of every page that the filters leave."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = find(Selection(filters, cursor=cursor, limit=MAX_LIMIT))
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items
