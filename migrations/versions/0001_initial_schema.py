"""Initial schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_ACTIVE = sa.text("state IN ('queued', 'running')")
_RUNNING = sa.text("state = 'running'")


def _measurement_key() -> list[sa.ForeignKeyConstraint]:
    # Jobs and measurements refer to each other. SQLite takes a reference to a table that comes later, and cannot add
    # one afterwards; Postgres is the other way round.
    if op.get_bind().dialect.name != "sqlite":
        return []
    name = "fk_jobs_measurement_id_measurements"
    return [sa.ForeignKeyConstraint(["measurement_id"], ["measurements.id"], name=name)]


def upgrade() -> None:
    op.create_table(
        "artifacts",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("format", sa.String(length=50), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "audits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("zoos", _JSON, nullable=False),
        sa.Column("models", _JSON, nullable=False),
        sa.Column("weights", sa.String(length=200), nullable=False),
        sa.Column("scope", _JSON, nullable=False),
        sa.Column("summary", _JSON, nullable=True),
        sa.Column("error", _JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audits")),
    )
    with op.batch_alter_table("audits") as batch_op:
        batch_op.create_index(batch_op.f("ix_audits_state"), ["state"], unique=False)
    op.create_table(
        "catalogs",
        sa.Column("zoo", sa.String(length=100), nullable=False),
        sa.Column("version", sa.String(length=200), nullable=False),
        sa.Column("listings", sa.Integer(), nullable=False),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("zoo", name=op.f("pk_catalogs")),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("format", sa.String(length=50), nullable=False),
        sa.Column("path", sa.String(length=1000), nullable=True),
        sa.Column("label_space", sa.String(length=100), nullable=True),
        sa.Column("items", sa.Integer(), nullable=True),
        sa.Column("classes", sa.Integer(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("name", name=op.f("uq_datasets_name")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("client", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "listings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("ref", sa.String(length=500), nullable=False),
        sa.Column("zoo", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("weights", sa.String(length=200), nullable=False),
        sa.Column("architecture", sa.String(length=200), nullable=True),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("label_space", sa.String(length=100), nullable=True),
        sa.Column("classes", sa.Integer(), nullable=True),
        sa.Column("contract", _JSON, nullable=True),
        sa.Column("claims", _JSON, nullable=False),
        sa.Column("licence", sa.String(length=200), nullable=True),
        sa.Column("runtimes", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_listings")),
        sa.UniqueConstraint("ref", name=op.f("uq_listings_ref")),
    )
    with op.batch_alter_table("listings") as batch_op:
        batch_op.create_index("ix_listings_architecture_zoo", ["architecture", "zoo"], unique=False)
        batch_op.create_index(batch_op.f("ix_listings_zoo"), ["zoo"], unique=False)
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("audit_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("verdict", sa.String(length=30), nullable=True),
        sa.Column("architecture", sa.String(length=200), nullable=True),
        sa.Column("a_ref", sa.String(length=1000), nullable=False),
        sa.Column("b_ref", sa.String(length=1000), nullable=False),
        sa.Column("scope", _JSON, nullable=False),
        sa.Column("result", _JSON, nullable=True),
        sa.Column("error", _JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["audit_id"], ["audits.id"], name=op.f("fk_comparisons_audit_id_audits")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
    )
    with op.batch_alter_table("comparisons") as batch_op:
        batch_op.create_index(batch_op.f("ix_comparisons_a_ref"), ["a_ref"], unique=False)
        batch_op.create_index(batch_op.f("ix_comparisons_architecture"), ["architecture"], unique=False)
        batch_op.create_index(batch_op.f("ix_comparisons_audit_id"), ["audit_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_comparisons_b_ref"), ["b_ref"], unique=False)
        batch_op.create_index(batch_op.f("ix_comparisons_state"), ["state"], unique=False)
    op.create_table(
        "findings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("comparison_id", sa.Uuid(), nullable=False),
        sa.Column("audit_id", sa.Uuid(), nullable=True),
        sa.Column("architecture", sa.String(length=200), nullable=True),
        sa.Column("a_ref", sa.String(length=1000), nullable=False),
        sa.Column("b_ref", sa.String(length=1000), nullable=False),
        sa.Column("zoo_a", sa.String(length=100), nullable=False),
        sa.Column("zoo_b", sa.String(length=100), nullable=False),
        sa.Column("dimension", sa.String(length=20), nullable=False),
        sa.Column("metric", sa.String(length=100), nullable=False),
        sa.Column("a", sa.Double(), nullable=True),
        sa.Column("b", sa.Double(), nullable=True),
        sa.Column("effect", sa.Double(), nullable=True),
        sa.Column("ci_low", sa.Double(), nullable=True),
        sa.Column("ci_high", sa.Double(), nullable=True),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("magnitude", sa.Double(), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("severity", sa.String(length=20), nullable=False),
        sa.Column("details", _JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["audit_id"], ["audits.id"], name=op.f("fk_findings_audit_id_audits")),
        sa.ForeignKeyConstraint(
            ["comparison_id"], ["comparisons.id"], name=op.f("fk_findings_comparison_id_comparisons")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
    )
    with op.batch_alter_table("findings") as batch_op:
        batch_op.create_index("ix_findings_architecture_dimension", ["architecture", "dimension"], unique=False)
        batch_op.create_index(batch_op.f("ix_findings_audit_id"), ["audit_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_findings_comparison_id"), ["comparison_id"], unique=False)
        batch_op.create_index("ix_findings_dimension_magnitude_id", ["dimension", "magnitude", "id"], unique=False)
        batch_op.create_index("ix_findings_magnitude_id", ["magnitude", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_findings_zoo_a"), ["zoo_a"], unique=False)
        batch_op.create_index(batch_op.f("ix_findings_zoo_b"), ["zoo_b"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(length=20), nullable=False),
        sa.Column("payload", _JSON, nullable=False),
        sa.Column("work_key", sa.String(length=2000), nullable=True),
        sa.Column("exclusive", sa.Boolean(), nullable=False),
        sa.Column("exclusive_on", sa.String(length=200), nullable=True),
        sa.Column("comparison_id", sa.Uuid(), nullable=True),
        sa.Column("audit_id", sa.Uuid(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("measurement_id", sa.Uuid(), nullable=True),
        sa.Column("failure_class", sa.String(length=20), nullable=True),
        sa.Column("error", _JSON, nullable=True),
        sa.Column("progress", _JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["audit_id"], ["audits.id"], name=op.f("fk_jobs_audit_id_audits")),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_jobs_comparison_id_comparisons")),
        *_measurement_key(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.create_index(batch_op.f("ix_jobs_audit_id"), ["audit_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_comparison_id"), ["comparison_id"], unique=False)
        batch_op.create_index("ix_jobs_state_priority_available", ["state", "priority", "available_at"], unique=False)
        batch_op.create_index(
            "uq_jobs_active_work_key", ["work_key"], unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE
        )
        batch_op.create_index(
            "uq_jobs_running_exclusive_on",
            ["exclusive_on"],
            unique=True,
            sqlite_where=_RUNNING,
            postgresql_where=_RUNNING,
        )
    op.create_table(
        "job_needs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(length=1100), nullable=False),
        sa.Column("needs_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_needs_job_id_jobs")),
        sa.ForeignKeyConstraint(["needs_id"], ["jobs.id"], name=op.f("fk_job_needs_needs_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "role", name=op.f("pk_job_needs")),
    )
    with op.batch_alter_table("job_needs") as batch_op:
        batch_op.create_index(batch_op.f("ix_job_needs_needs_id"), ["needs_id"], unique=False)
    op.create_table(
        "measurements",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=2000), nullable=False),
        sa.Column("artifact_sha256", sa.String(length=64), nullable=True),
        sa.Column("protocol", _JSON, nullable=False),
        sa.Column("environment", _JSON, nullable=False),
        sa.Column("values", _JSON, nullable=False),
        sa.Column("files", _JSON, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_sha256"], ["artifacts.sha256"], name=op.f("fk_measurements_artifact_sha256_artifacts")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_measurements_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurements")),
        sa.UniqueConstraint("job_id", name=op.f("uq_measurements_job_id")),
    )
    with op.batch_alter_table("measurements") as batch_op:
        batch_op.create_index(batch_op.f("ix_measurements_artifact_sha256"), ["artifact_sha256"], unique=False)
        batch_op.create_index(batch_op.f("ix_measurements_key"), ["key"], unique=False)

    if not _measurement_key():
        op.create_foreign_key("fk_jobs_measurement_id_measurements", "jobs", "measurements", ["measurement_id"], ["id"])


def downgrade() -> None:
    """Lose every table."""
    if not _measurement_key():
        op.drop_constraint("fk_jobs_measurement_id_measurements", "jobs", type_="foreignkey")
    with op.batch_alter_table("measurements") as batch_op:
        batch_op.drop_index(batch_op.f("ix_measurements_key"))
        batch_op.drop_index(batch_op.f("ix_measurements_artifact_sha256"))
    op.drop_table("measurements")
    with op.batch_alter_table("job_needs") as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_needs_needs_id"))
    op.drop_table("job_needs")
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.drop_index("uq_jobs_running_exclusive_on", sqlite_where=_RUNNING, postgresql_where=_RUNNING)
        batch_op.drop_index("uq_jobs_active_work_key", sqlite_where=_ACTIVE, postgresql_where=_ACTIVE)
        batch_op.drop_index("ix_jobs_state_priority_available")
        batch_op.drop_index(batch_op.f("ix_jobs_comparison_id"))
        batch_op.drop_index(batch_op.f("ix_jobs_audit_id"))
    op.drop_table("jobs")
    with op.batch_alter_table("findings") as batch_op:
        batch_op.drop_index(batch_op.f("ix_findings_zoo_b"))
        batch_op.drop_index(batch_op.f("ix_findings_zoo_a"))
        batch_op.drop_index("ix_findings_magnitude_id")
        batch_op.drop_index("ix_findings_dimension_magnitude_id")
        batch_op.drop_index(batch_op.f("ix_findings_comparison_id"))
        batch_op.drop_index(batch_op.f("ix_findings_audit_id"))
        batch_op.drop_index("ix_findings_architecture_dimension")
    op.drop_table("findings")
    with op.batch_alter_table("comparisons") as batch_op:
        batch_op.drop_index(batch_op.f("ix_comparisons_state"))
        batch_op.drop_index(batch_op.f("ix_comparisons_b_ref"))
        batch_op.drop_index(batch_op.f("ix_comparisons_audit_id"))
        batch_op.drop_index(batch_op.f("ix_comparisons_architecture"))
        batch_op.drop_index(batch_op.f("ix_comparisons_a_ref"))
    op.drop_table("comparisons")
    with op.batch_alter_table("listings") as batch_op:
        batch_op.drop_index(batch_op.f("ix_listings_zoo"))
        batch_op.drop_index("ix_listings_architecture_zoo")
    op.drop_table("listings")
    op.drop_table("idempotency_keys")
    op.drop_table("datasets")
    op.drop_table("catalogs")
    with op.batch_alter_table("audits") as batch_op:
        batch_op.drop_index(batch_op.f("ix_audits_state"))
    op.drop_table("audits")
    op.drop_table("artifacts")
