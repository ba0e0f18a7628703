"""Runs one claimed job from its claim to its commit."""

from __future__ import annotations

import os
import platform
import shutil
import threading
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.exc import OperationalError
from structlog.contextvars import bound_contextvars

from app import tracing
from app.db import jobs, retention
from app.db.jobs import LeaseLostError
from app.domain.states import FailureClass, JobKind
from app.errors import ServiceError
from workers import commit, devices
from workers.failures import AttemptFailedError, CancelledError, StoppingError
from workers.files import Attempt, FileStore, Scratch
from workers.lease import Lease
from workers.preparation import earlier, prepare
from workers.ringing import ring_released
from workers.watch import Limits, Watch

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from app.db.jobs import Claim
    from app.db.session import Database
    from app.settings import Settings
    from workers.engines import Engines
    from workers.preparation import Work
    from workers.stopping import Stop
    from workers.watch import Reply

_BLOCK_MEMORY = 0.9
"""Share of the memory of a measurement beyond which one block of a latency session is ended."""

_log = structlog.get_logger()

_WITHOUT_ENGINE: dict[str, Callable[[Session, Claim], None]] = {
    JobKind.INDEX: commit.indexed,
    JobKind.EXPAND: commit.expanded,
    JobKind.CONCLUDE: commit.concluded,
}
"""Jobs that only read and write the database."""


class Supervisor:
    """Claims and runs jobs, one at a time. Several may share a database and engines, each on its own thread.

    When ``stop`` is due, the job at hand is ended and queued again.
    """

    def __init__(self, settings: Settings, database: Database, engines: Engines, stop: Stop) -> None:
        self._settings = settings
        self._database = database
        self._engines = engines
        self._stop = stop
        self._files = FileStore(settings.data_dir)
        self._scratch = Scratch(settings.data_dir)
        self._places = devices.places(settings)
        self._name = f"{platform.node()} {os.getpid()} {threading.get_ident()}"[:200]

    def claim(self, job_id: uuid.UUID) -> Claim | None:
        """Claim one job if it is ready."""
        with self._database.write() as session:
            return jobs.claim(session, job_id, worker=self._name, places=self._places, lease_s=self._settings.lease_s)

    def claim_next(self, device: str) -> Claim | None:
        """Claim the most urgent ready job of a device class."""
        with self._database.write() as session:
            return jobs.claim_next(
                session, worker=self._name, device=device, places=self._places, lease_s=self._settings.lease_s
            )

    def run(self, claim: Claim) -> None:
        """Run a claimed job and store how it ended; a lost lease stores nothing. Never raises for a job's sake.

        What it reads and stores is what the job's team may.
        """
        told = _told(claim)
        attributes = {f"zooaudit.{name}": value for name, value in told.items()}
        with (
            tracing.span(f"job {claim.kind}", kind="CONSUMER", parent=claim.traceparent, attributes=attributes),
            bound_contextvars(**told),
        ):
            self._run_to_end(claim)
            ring_released(self._database, self._settings, claim)

    def _run_to_end(self, claim: Claim) -> None:
        _log.info("job claimed")
        try:
            self._run(claim)
        except LeaseLostError:
            _log.warning("lease lost; nothing stored")
            tracing.failed("lease lost")
        except CancelledError:
            _log.info("job cancelled")
            self._end(claim, lambda session: commit.cancelled(session, claim))
        except StoppingError:
            _log.info("job given back: this worker stops")
            self._end(claim, lambda session: jobs.give_back(session, claim))
        except AttemptFailedError as error:
            _log.info("job failed", failure=error.to_json())
            tracing.failed(str(error))
            self._fail(claim, error)
        except OperationalError as error:
            _log.warning("job given back: the database failed", error=str(error))
            self._end(claim, lambda session: jobs.give_back(session, claim, after_s=jobs.BACK_OFF_S))
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not end the worker
            _log.exception("worker failed")
            tracing.failed("worker failed")
            message = f"The worker failed on this job ({type(error).__name__}: {error}); its log has the details."
            self._fail(claim, AttemptFailedError(FailureClass.TRANSIENT, "worker-failed", message[:1000]))
        else:
            _log.info("job ended")

    def _run(self, claim: Claim) -> None:
        with Lease(self._database, claim, lease_s=self._settings.lease_s, stop=self._stop) as lease:
            if store := _WITHOUT_ENGINE.get(claim.kind):
                with self._database.of(claim.team).write() as session:
                    store(session, claim)
                return
            with self._database.of(claim.team).read() as session:
                work = prepare(session, claim, self._files)
            if self._reuse(claim, work):
                return
            scratch = self._scratch.make(Attempt(claim.id, claim.attempt))
            try:
                self._measure(claim, work, lease, scratch)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def _reuse(self, claim: Claim, work: Work) -> bool:
        """End the job with an earlier measurement of the same thing, if there is one."""
        with self._database.of(claim.team).write() as session:
            found = earlier(session, work, claim.kind, self._files)
            if found is None:
                return False
            jobs.take_to_finish(session, claim)
            retention.used(session, found)
            if claim.kind == JobKind.STRUCTURE:
                commit.keep_structure(session, claim, found)
            jobs.succeed(session, claim, measurement_id=found.id)
        return True

    def _measure(self, claim: Claim, work: Work, lease: Lease, scratch: Path) -> None:
        if work.fetch is not None:
            self._ask("fetch", {"subject": work.fetch}, work, lease, scratch, network=True)
        reply = None
        if work.request is not None:
            reply = self._ask(work.operation or claim.kind, work.request, work, lease, scratch)
        attempt = Attempt(claim.id, claim.attempt)
        files = {role: self._files.put(path, attempt) for role, path in reply.files.items()} if reply else {}
        lease.check()
        try:
            with self._database.of(claim.team).write() as session:
                self._store(session, claim, work, reply.result if reply else {}, files)
        except ServiceError as error:
            raise AttemptFailedError(FailureClass.USAGE, error.slug, error.message, error.extra) from error

    @staticmethod
    def _store(session: Session, claim: Claim, work: Work, result: dict[str, Any], files: dict[str, str]) -> None:
        if claim.kind == JobKind.CATALOG:
            commit.catalog(session, claim, result)
        elif claim.kind == JobKind.COMPARE:
            commit.compared(session, claim, work, result, files)
        elif claim.kind == JobKind.COMPARE_MANY:
            commit.compared_many(session, claim, result)
        elif claim.kind == JobKind.PREDICT and "predictions" not in files:
            commit.divided(session, claim, items=result["items"])
        else:
            commit.measurement(session, claim, work, result, files)

    def _ask(  # noqa: PLR0917 - one call site each
        self,
        operation: str,
        request: dict[str, Any],
        work: Work,
        lease: Lease,
        scratch: Path,
        network: bool = False,  # noqa: FBT001, FBT002
    ) -> Reply:
        """Run one operation of the engine to its reply."""
        if operation == JobKind.LATENCY:
            # A block that takes too much is ended by the session itself, which keeps the others; it must be first.
            request = request | {"memory_bytes": int(_BLOCK_MEMORY * self._settings.engine_memory_bytes)}
        chosen = self._settings
        limits = Limits(
            wall_s=chosen.engine_timeout_s + work.budget_s,
            memory_bytes=chosen.engine_memory_bytes,
            cpu_s=chosen.engine_cpu_s + work.budget_s * (os.cpu_count() or 1),
            disk_bytes=chosen.engine_disk_bytes,
            processes=chosen.engine_processes,
        )
        document = {
            "op": operation,
            "scratch": str(scratch),
            "network": network,
            "request": request,
            "confinement": {
                "required": chosen.confinement == "require",
                "hidden": str(chosen.data_dir),
                "by_name": str(self._files.root),
                "limits": limits.of_a_process(),
            },
        }
        stderr = scratch / "engine.log"
        # The engine has no network to tell of itself; this span is its life as seen from outside.
        with tracing.span(f"engine {operation}", attributes={"zooaudit.subject": work.what}):
            engine = self._engines.start(document, stderr)
            tracing.named(f"engine {operation}", **{"process.pid": engine.pid})
            reply = Watch(engine, work.what, limits, scratch, stderr).wait(check=lease.check, report=lease.report)
        if missing := reply.result["confinement"]["missing"]:
            _log.warning("measured without full confinement", missing=missing)
        return reply

    def _fail(self, claim: Claim, error: AttemptFailedError) -> None:
        attempts = self._settings.max_attempts
        self._end(claim, lambda session: commit.failed(session, claim, error, max_attempts=attempts))

    def _end(self, claim: Claim, store: Callable[[Session], Any]) -> None:
        """Store an end without a result; what cannot be stored is left to the reaper."""
        try:
            with self._database.of(claim.team).write() as session:
                store(session)
        except LeaseLostError:
            _log.warning("lease lost; nothing stored")
        except Exception:  # noqa: BLE001 - the lease runs out, and the reaper deals with the job
            _log.exception("the end of a job could not be stored")


def _told(claim: Claim) -> dict[str, Any]:
    """Return what every line that is logged for a job says of it.

    The lines of the request that made it have the same request id.
    """
    owners = {"comparison": claim.comparison_id, "audit": claim.audit_id}
    of = {name: str(owner) for name, owner in owners.items() if owner is not None}
    if claim.request_id is not None:
        of["request_id"] = claim.request_id
    return {"job": str(claim.id), "kind": claim.kind, "attempt": claim.attempt, **of}
