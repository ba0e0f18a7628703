"""What a viewer of a comparison or an audit is told while it is under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.db import audits as audit_rows
from app.db import comparisons as comparison_rows
from app.db import job_changes, progress
from app.domain.states import FINAL, State
from app.services import audits, comparisons

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from app.db.job_changes import Changed, Place


@dataclass(frozen=True)
class Seen:
    """How far it is, and what changed since the last look."""

    state: State
    progress: dict[str, Any]
    changed: list[Changed]

    @property
    def ended(self) -> bool:
        """Whether nothing more is going to happen."""
        return self.state in FINAL


def of_comparison(session: Session, comparison_id: uuid.UUID, after: Place) -> Seen:
    """Look at a comparison; raises NotFoundError."""
    comparison = comparisons.row(session, comparison_id)
    end = comparison_rows.ends(session, [comparison_id]).get(comparison_id)
    state, _ = comparison_rows.shown_by(comparison, end)
    roots = [end.job_id] if end else []
    return _seen(session, state, roots, progress.progress(session, roots), after)


def of_audit(session: Session, audit_id: uuid.UUID, after: Place) -> Seen:
    """Look at an audit; raises NotFoundError."""
    shown = audits.show(session, audit_id)
    return _seen(session, shown["state"], audit_rows.own_jobs(session, audit_id), shown["progress"], after)


def _seen(session: Session, state: State, roots: Sequence[uuid.UUID], how_far: dict[str, Any], after: Place) -> Seen:
    # The state was read first: whatever led to an end is there when the changes are read.
    changed = job_changes.since(session, roots, after, all_ended=state in FINAL)
    return Seen(state, {"state": str(state), **how_far}, changed)
