"""What a submission is: stored in the caller's transaction, rung after its commit, the same for the same key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.db import idempotency

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from sqlalchemy.orm import Session

    from app.domain.plan import JobSpec

DEVICE = "cpu"
"""Device class of every job so far, and the name of its queue."""


@dataclass(frozen=True)
class Submitted:
    """What was made, or was made before for the same key, and the jobs to ring for after the commit.

    ``shown`` is a comparison that was made now as JSON.
    """

    id: uuid.UUID
    created: bool
    ring: dict[str, list[uuid.UUID]] = field(default_factory=dict)
    shown: dict[str, Any] | None = None


@dataclass(frozen=True)
class Caller:
    """Who asks, and the ``Idempotency-Key`` if there is one."""

    client: str = "anonymous"
    key: str | None = None


def earlier(
    session: Session, caller: Caller, *, kind: str, request: dict[str, Any], resource_id: uuid.UUID
) -> uuid.UUID | None:
    """Return the id that this caller's key stands for already; None when ``resource_id`` is to be made.

    Raises InvalidError when the key stood for another request.
    """
    if caller.key is None:
        return None
    canonical = json.dumps([kind, request], sort_keys=True, separators=(",", ":"), default=str)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    stands_for = idempotency.claim(
        session, client=caller.client, key=caller.key, request_hash=digest, resource_id=resource_id
    )
    return None if stands_for == resource_id else stands_for


def ready(specs: Collection[JobSpec], ids: dict[str, uuid.UUID]) -> dict[str, list[uuid.UUID]]:
    """Return the jobs that may start at once, by device class: those that need none of the others."""
    new = {spec.handle for spec in specs}
    return {DEVICE: [ids[spec.handle] for spec in specs if new.isdisjoint(spec.needs.values())]}
