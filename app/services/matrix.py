"""The matrix of zoos, as a dashboard shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.db import matrix
from app.domain.numbers import finite
from app.domain.verdicts import Place
from app.errors import InvalidError

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


_NONE = dict.fromkeys(map(str, Place), 0)


def show(
    session: Session,
    *,
    architecture: str | None = None,
    audit_id: uuid.UUID | None = None,
    dimension: str | None = None,
    zoo: str | None = None,
) -> dict[str, Any]:
    """Return the matrix as JSON: a cell for each pair of zoos (A's first) and dimension that has findings.

    Raises InvalidError when both an architecture and an audit are named: their findings are few enough to list.
    """
    if architecture is not None and audit_id is not None:
        raise InvalidError(
            "The matrix is of one architecture or of one audit; for both use /v1/findings with these filters.",
            slug="too-narrow",
        )
    rows = matrix.counts(session, architecture=architecture, audit_id=audit_id, dimension=dimension, zoo=zoo)
    cells: dict[tuple[str, str, str], list[matrix.Count]] = {}
    for row in rows:
        cells.setdefault((row.zoo_a, row.zoo_b, row.dimension), []).append(row)
    worst = {key: max(cell, key=lambda row: row.worst).worst_id for key, cell in cells.items()}
    found = matrix.shown(session, worst.values())
    return {
        "architecture": architecture,
        "audit_id": None if audit_id is None else str(audit_id),
        "zoos": sorted({name for zoo_a, zoo_b, _ in cells for name in (zoo_a, zoo_b)}),
        "cells": [_cell(key, cell, found[worst[key]]) for key, cell in cells.items()],
    }


def _cell(key: tuple[str, str, str], rows: Sequence[matrix.Count], worst: matrix.Shown) -> dict[str, Any]:
    counts = _NONE.copy()
    for row in rows:  # a team's own and shared ones are counted apart
        counts[row.verdict] += row.findings
    return {
        **dict(zip(("zoo_a", "zoo_b", "dimension"), key, strict=True)),
        "findings": sum(counts.values()),
        "verdicts": counts,
        "worst": {**worst._asdict(), "effect": finite(worst.effect), "magnitude": finite(worst.magnitude)},
    }
