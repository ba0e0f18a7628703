"""The tables. Times are UTC, sizes bytes, effects fractions."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Computed,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.functions import FunctionElement

from app.db.clock import UtcTime, now
from app.db.teams import Owned
from app.domain.ids import new_id
from app.domain.teams import SHARED

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


ACTIVE = text("state IN ('queued', 'running')")
"""Jobs that have not ended, as the index of their work keys has it."""

_KEPT = text("files_deleted_at IS NULL")


class Base(DeclarativeBase):
    """All tables, with named constraints so that migrations can name them on SQLite too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcTime,
        dict[str, Any]: Json,
        list[Any]: Json,
    }


class _ZooOf(FunctionElement[str]):
    """The zoo that a reference begins with, as each database says it."""

    inherit_cache = True
    type = String()

    def __init__(self, column: str) -> None:
        self.column = column
        super().__init__()


@compiles(_ZooOf)
def _zoo_of(element: _ZooOf, _compiler: object, **_: object) -> str:
    return f"split_part({element.column}, ':', 1)"


@compiles(_ZooOf, "sqlite")
def _zoo_of_on_sqlite(element: _ZooOf, _compiler: object, **_: object) -> str:
    return f"substr({element.column}, 1, instr({element.column}, ':') - 1)"


class Catalog(Base):
    """When a zoo's listings were last read, and from which version."""

    __tablename__ = "catalogs"

    zoo: Mapped[str] = mapped_column(String(100), primary_key=True)
    version: Mapped[str] = mapped_column(String(200))
    listings: Mapped[int]
    refreshed_at: Mapped[datetime] = mapped_column(default=now)


class Listing(Owned, Base):
    """One published model of a zoo, as its adapter describes it."""

    __tablename__ = "listings"
    __table_args__ = (
        Index("ix_listings_architecture_ref_id", "architecture", "ref", "id"),
        Index("ix_listings_zoo_ref_id", "zoo", "ref", "id"),
        Index("ix_listings_zoo_name_id", "zoo", "name", "id"),
        Index("ix_listings_weights_ref_id", "weights", "ref", "id"),
        # Text within references is looked for in one of these, in the list's order: they hold all that it takes.
        Index("ix_listings_ref_id", "ref", "id", "team"),
        Index("ix_listings_name_id", "name", "id", "ref", "team"),
        Index("ix_listings_team", "team"),
        Index("ix_listings_filtered", "ref", "id", "team", "zoo", "name", "is_default", "label_space"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    ref: Mapped[str] = mapped_column(String(500), unique=True)
    zoo: Mapped[str] = mapped_column(String(100))
    name: Mapped[str] = mapped_column(String(300))
    weights: Mapped[str] = mapped_column(String(200))
    architecture: Mapped[str | None] = mapped_column(String(200))
    is_default: Mapped[bool]
    label_space: Mapped[str | None] = mapped_column(String(100))
    classes: Mapped[int | None]
    contract: Mapped[dict[str, Any] | None]
    claims: Mapped[list[Any]]
    licence: Mapped[str | None] = mapped_column(String(200))
    runtimes: Mapped[list[Any]]


class Structure(Base):
    """One canonical graph by its fingerprint, however many listings have it.

    ``vector`` holds signed bytes, ``length`` its Euclidean length (``app.domain.similarity``); near vectors are near
    architectures.
    """

    __tablename__ = "structures"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    length: Mapped[float]
    nodes: Mapped[int]


class Fingerprint(Owned, Base):
    """Which structure a listing has, or why that could not be told.

    ``subject`` is the reference that was built, which may be another weights tag of the same architecture. ``key``
    identifies subject, protocol and package versions, as that of a measurement does.
    """

    __tablename__ = "fingerprints"
    __table_args__ = (Index("ix_fingerprints_zoo_subject", "zoo", "subject"),)

    listing_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("listings.id", ondelete="CASCADE"), primary_key=True)
    zoo: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(500))
    key: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str | None] = mapped_column(ForeignKey("structures.fingerprint"), index=True)
    measurement_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("measurements.id"))
    error: Mapped[dict[str, Any] | None]
    measured_at: Mapped[datetime] = mapped_column(default=now)


class ZooIndex(Base):
    """The job that last turned a zoo's catalog into structure jobs; it needs them, so that they are found from it."""

    __tablename__ = "zoo_indexes"

    zoo: Mapped[str] = mapped_column(String(100), primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"))
    requested_at: Mapped[datetime] = mapped_column(default=now)


class Dataset(Owned, Base):
    """A data set that predictions are made on. ``digest`` is that of its items, bytes and labels, in order.

    ``options`` is what its format needs besides the path (``app.domain.datasets``).

    One of format ``recorded`` is known by its labels alone, from imported predictions; it has no path.
    """

    __tablename__ = "datasets"
    # Of one name each team may have its own: that there is one says nothing to the others.
    __table_args__ = (UniqueConstraint("team", "name", name="uq_datasets_team_name"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    format: Mapped[str] = mapped_column(String(50))
    path: Mapped[str | None] = mapped_column(String(1000))
    label_space: Mapped[str | None] = mapped_column(String(100))
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    items: Mapped[int | None]
    classes: Mapped[int | None]
    digest: Mapped[str | None] = mapped_column(String(71))
    labels_digest: Mapped[str | None] = mapped_column(String(71))
    created_at: Mapped[datetime] = mapped_column(default=now)

    def spec(self) -> dict[str, Any]:
        """Return what the engine needs to open this data set, and its ``team`` unless it is shared."""
        spec = {
            "name": self.name,
            "format": self.format,
            "path": self.path,
            "label_space": self.label_space,
            "options": self.options,
        }
        return spec if self.team == SHARED else spec | {"team": self.team}


class Artifact(Base):
    """The exact bytes of a model."""

    __tablename__ = "artifacts"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    format: Mapped[str] = mapped_column(String(50))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Measurement(Base):
    """One immutable fact: what was measured, on what, by which protocol, where, with its raw samples as files.

    ``key`` identifies subject, protocol and environment, so that the same thing is measured once. ``files`` maps a
    role to the SHA-256 of a stored file; ``files_used_at`` is when it was last reused, ``files_deleted_at`` when its
    files had been kept long enough (``app.db.retention``).
    """

    __tablename__ = "measurements"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(String(64), index=True)
    subject: Mapped[str] = mapped_column(String(2000))
    artifact_sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    protocol: Mapped[dict[str, Any]]
    environment: Mapped[dict[str, Any]]
    values: Mapped[dict[str, Any]]
    files: Mapped[dict[str, Any]]
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)

    files_used_at: Mapped[datetime | None]
    files_deleted_at: Mapped[datetime | None]

    __table_args__ = (
        # One attempt of one job commits; a second measurement of that job would be a doubled result.
        UniqueConstraint("job_id"),
        Index("ix_measurements_files_kept", "created_at", sqlite_where=_KEPT, postgresql_where=_KEPT),
    )


class Prediction(Owned, Base):
    """What one model answered on a data set, as far as a list shows it; the answers themselves are the measurement's.

    ``recorded`` ones were imported. The latest of a model on a data set counts.
    """

    __tablename__ = "predictions"
    __table_args__ = (
        Index("ix_predictions_dataset_id_ref_id", "dataset_id", "ref", "id"),
        Index("ix_predictions_team", "team"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    ref: Mapped[str] = mapped_column(String(1000), index=True)
    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("datasets.id"))
    recorded: Mapped[bool]
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"))
    measurement_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("measurements.id"))
    items: Mapped[int]
    top1: Mapped[float]
    top5: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class LatencyRun(Owned, Base):
    """What one listing took at one operating point in one session: a point of its history.

    ``point`` is what tells the operating point from others, ``point_key`` its SHA-256. ``hardware`` is the fingerprint
    of the machine without its software, ``fingerprint`` with it, ``machine`` the same in words; ``software`` holds the
    versions and settings by name. ``void``: the session's control moved. Times in ms, ``busy_beside`` in cores.
    """

    __tablename__ = "latency_runs"
    __table_args__ = (
        UniqueConstraint("job_id", "ref", "point_key"),
        Index("ix_latency_runs_ref_created_at_id", "ref", "created_at", "id"),
        Index("ix_latency_runs_team", "team"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    ref: Mapped[str] = mapped_column(String(1000))
    artifact_sha256: Mapped[str | None] = mapped_column(ForeignKey("artifacts.sha256"))
    point: Mapped[dict[str, Any]]
    point_key: Mapped[str] = mapped_column(String(64))
    hardware: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str] = mapped_column(String(64))
    machine: Mapped[str] = mapped_column(String(1000))
    software: Mapped[dict[str, Any]]
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"))
    measurement_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("measurements.id"))
    median_ms: Mapped[float]
    p90_ms: Mapped[float | None]
    samples: Mapped[int]
    blocks: Mapped[int]
    busy_beside: Mapped[float | None]
    void: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Audit(Owned, Base):
    """Many comparisons: zoo against zoo, matched by architecture key."""

    __tablename__ = "audits"
    __table_args__ = (Index("ix_audits_team", "team"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    state: Mapped[str] = mapped_column(String(20), index=True)
    zoos: Mapped[list[Any]]
    models: Mapped[list[Any]]
    weights: Mapped[str] = mapped_column(String(200))
    scope: Mapped[dict[str, Any]]
    summary: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class Comparison(Owned, Base):
    """Two listings, the dimensions asked for, a policy, and the answer once it stands."""

    __tablename__ = "comparisons"
    __table_args__ = (
        *(
            Index("_".join(("ix_comparisons", *columns, "id")), *columns, "id")
            for columns in (
                ("created_at",),
                ("finished_at",),
                ("audit_id", "created_at"),
                ("audit_id", "finished_at"),
                ("state", "created_at"),
                ("verdict", "created_at"),
                ("architecture", "created_at"),
                ("a_ref", "created_at"),
                ("b_ref", "created_at"),
                ("zoo_a", "created_at"),
                ("zoo_b", "created_at"),
            )
        ),
        Index("ix_comparisons_team", "team"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    audit_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("audits.id"))
    state: Mapped[str] = mapped_column(String(20))
    verdict: Mapped[str | None] = mapped_column(String(30))
    architecture: Mapped[str | None] = mapped_column(String(200))
    a_ref: Mapped[str] = mapped_column(String(1000))
    b_ref: Mapped[str] = mapped_column(String(1000))
    # The database's own, so that rows of every version have them; nothing but filters reads them.
    zoo_a: Mapped[str] = mapped_column(String(1000), Computed(_ZooOf("a_ref"), persisted=True), deferred=True)
    zoo_b: Mapped[str] = mapped_column(String(1000), Computed(_ZooOf("b_ref"), persisted=True), deferred=True)
    scope: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class Finding(Owned, Base):
    """One judged difference of a comparison. ``magnitude`` ranks: the effect, alike in both directions."""

    __tablename__ = "findings"
    __table_args__ = (
        # One for each sort, alone and behind each filter that it depends on or that keeps few rows.
        *(
            Index("_".join(("ix_findings", *columns, "id")), *columns, "id")
            for columns in (
                ("magnitude",),
                ("dimension", "magnitude"),
                ("metric", "magnitude"),
                ("verdict", "magnitude"),
                ("architecture", "magnitude"),
                ("audit_id", "magnitude"),
                ("zoo_a", "magnitude"),
                ("zoo_b", "magnitude"),
                ("effect",),
                ("dimension", "effect"),
                ("metric", "effect"),
                ("verdict", "effect"),
                ("architecture", "dimension", "effect"),
                ("audit_id", "effect"),
                ("created_at",),
                ("audit_id", "created_at"),
                ("a_ref", "created_at"),
                ("b_ref", "created_at"),
            )
        ),
        Index("ix_findings_team", "team"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    comparison_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("comparisons.id"), index=True)
    audit_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("audits.id"))
    architecture: Mapped[str | None] = mapped_column(String(200))
    a_ref: Mapped[str] = mapped_column(String(1000))
    b_ref: Mapped[str] = mapped_column(String(1000))
    zoo_a: Mapped[str] = mapped_column(String(100))
    zoo_b: Mapped[str] = mapped_column(String(100))
    dimension: Mapped[str] = mapped_column(String(20))
    metric: Mapped[str] = mapped_column(String(100))
    a: Mapped[float | None]
    b: Mapped[float | None]
    effect: Mapped[float | None]
    ci_low: Mapped[float | None]
    ci_high: Mapped[float | None]
    margin: Mapped[float | None]
    magnitude: Mapped[float]
    verdict: Mapped[str] = mapped_column(String(20))
    severity: Mapped[str] = mapped_column(String(20))
    details: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Job(Base):
    """The unit of queued work. The row is the truth; a message only rings. ``app.db.jobs`` alone writes states.

    ``attempt`` counts claims, ``spent`` those that failed or lost their worker. ``change`` grows with every change of
    the state, null before the first.

    ``team`` is whom it works for: what it reads and stores is what that team may see. A job that any team may share is
    of none in particular. Jobs are not ``Owned``: who cancels one has to know whether another team waits for it.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_state_priority_available", "state", "priority", "available_at"),
        # Active work with the same key is one job; on one device only one exclusive job runs.
        Index(
            "uq_jobs_active_work_key",
            "work_key",
            unique=True,
            sqlite_where=ACTIVE,
            postgresql_where=ACTIVE,
        ),
        Index(
            "uq_jobs_running_exclusive_on",
            "exclusive_on",
            unique=True,
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
        Index(
            "ix_jobs_finished_at",
            "finished_at",
            sqlite_where=text("finished_at IS NOT NULL"),
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(20))
    team: Mapped[str] = mapped_column(String(100), default=SHARED, server_default=SHARED)
    state: Mapped[str] = mapped_column(String(20))
    priority: Mapped[int] = mapped_column(default=0)
    device: Mapped[str] = mapped_column(String(20), default="cpu")
    payload: Mapped[dict[str, Any]]
    work_key: Mapped[str | None] = mapped_column(String(2000))
    exclusive: Mapped[bool] = mapped_column(default=False)
    exclusive_on: Mapped[str | None] = mapped_column(String(200))
    comparison_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("comparisons.id"), index=True)
    audit_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("audits.id"), index=True)
    attempt: Mapped[int] = mapped_column(default=0)
    lease_losses: Mapped[int] = mapped_column(default=0, server_default="0")
    spent: Mapped[int] = mapped_column(default=0, server_default="0")
    available_at: Mapped[datetime] = mapped_column(default=now)
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(String(200))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    # Where the span that added the job goes on (W3C traceparent), when traces are kept.
    traceparent: Mapped[str | None] = mapped_column(String(55))
    measurement_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("measurements.id", use_alter=True))
    failure_class: Mapped[str | None] = mapped_column(String(20))
    error: Mapped[dict[str, Any] | None]
    progress: Mapped[dict[str, Any] | None]
    change: Mapped[int | None] = mapped_column(BigInteger, index=True)
    request_id: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=now)
    rung_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobNeed(Base):
    """That one job starts only after another has ended, and what it needs of it."""

    __tablename__ = "job_needs"

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(1100), primary_key=True)
    needs_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id"), index=True)


class IdempotencyKey(Base):
    """Which request a client's ``Idempotency-Key`` stood for, and what it made."""

    __tablename__ = "idempotency_keys"

    client: Mapped[str] = mapped_column(String(100), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    resource_id: Mapped[uuid.UUID]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
