"""What each audit found listed: every listing that it was asked for, also those that only one zoo has."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql, sqlite

from app.db.schedule_tables import AuditListing, ListingVersion

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from app.db.tables import Listing

_DESCRIBED = ("architecture", "is_default", "label_space", "classes", "contract", "claims", "licence", "runtimes")


def keep(session: Session, audit_id: uuid.UUID, listings: Iterable[Listing]) -> None:
    """Store what an audit found. What is said again as it was before takes no more than a digest."""
    versions = {version["digest"]: version for version in map(_version, listings)}
    if not versions:
        return
    upsert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    # In one order for all, so that two audits that store the same at once do not wait for each other in a circle.
    ordered = [versions[digest] for digest in sorted(versions)]
    session.execute(upsert(ListingVersion).on_conflict_do_nothing(), ordered)
    session.execute(insert(AuditListing), [{"audit_id": audit_id, "digest": digest} for digest in sorted(versions)])


def _version(listing: Listing) -> dict[str, Any]:
    described = {name: getattr(listing, name) for name in _DESCRIBED}
    text = json.dumps([listing.ref, described], sort_keys=True, separators=(",", ":"))
    return {"digest": hashlib.sha256(text.encode()).hexdigest(), "ref": listing.ref, "described": described}


def of_audit(session: Session, audit_id: uuid.UUID) -> dict[str, dict[str, Any]]:
    """Return what was said of each listing that an audit found, by reference; empty where that was not kept."""
    statement = select(ListingVersion.ref, ListingVersion.described).join(
        AuditListing, AuditListing.digest == ListingVersion.digest
    )
    rows = session.execute(statement.where(AuditListing.audit_id == audit_id))
    return {row.ref: row.described for row in rows}
