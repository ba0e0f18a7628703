"""What listings took, session by session."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from app.db.paging import Listed
from app.db.tables import LatencyRun
from app.domain.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.db.tables import Measurement

_SOFTWARE = ("kernel", "python", "packages", "environment", "gpu_software")
"""What of a machine is software, by its name in a session's account of it."""

MOST_RUNS = 2000
"""Runs of one listing that are looked through for steps, the latest."""


@dataclass(frozen=True)
class Timed:
    """A listing of a session: its full reference, whatever it was asked for by, and its artifact."""

    ref: str
    artifact_sha256: str | None


def keep(session: Session, measured: Measurement, listings: Mapping[str, Timed]) -> None:
    """Store what a latency session says of each listing at each operating point; ``listings`` by the session's names.

    A listing that was compared with itself is stored once.
    """
    machine = measured.values["machine"]
    software = _flat({name: machine[name] for name in _SOFTWARE})
    for point in measured.values["operating_points"]:
        entries = {listings[entry["ref"]]: entry for entry in reversed(point["entries"])}
        told = json.dumps(point["identity"], sort_keys=True, separators=(",", ":"))
        session.add_all(
            LatencyRun(
                id=new_id(),
                ref=timed.ref,
                artifact_sha256=timed.artifact_sha256,
                point={name: point[name] for name in ("runtime", "device", "batch", "threads")} | point["identity"],
                point_key=hashlib.sha256(told.encode()).hexdigest(),
                hardware=machine["hardware"],
                fingerprint=machine["fingerprint"],
                machine=machine["line"][:1000],
                software=software | _flat({"settings": point["settings"]}),
                job_id=measured.job_id,
                measurement_id=measured.id,
                median_ms=entry["median_ms"],
                p90_ms=entry["p90_ms"],
                samples=entry["samples"],
                blocks=point["blocks"],
                busy_beside=point["busy_beside"],
                void=point["void"],
                created_at=measured.created_at,
            )
            for timed, entry in entries.items()
        )
    session.flush()


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested objects as one, names joined by full stops; what is null is left out."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        elif value is not None:
            found[f"{before}{name}"] = value
    return found


def _on_machine(fingerprint: str) -> ColumnElement[bool]:
    columns = (LatencyRun.fingerprint, LatencyRun.hardware)
    return or_(*(column.startswith(fingerprint, autoescape=True) for column in columns))


LISTED = Listed(
    LatencyRun,
    LatencyRun.id,
    sorts={"created_at": LatencyRun.created_at},
    sort="-created_at",
    filters={
        "ref": None,
        "fingerprint": _on_machine,
        "point": lambda key: LatencyRun.point_key.startswith(key, autoescape=True),
        "since": lambda time: LatencyRun.created_at >= time,
        "until": lambda time: LatencyRun.created_at < time,
    },
    by_value=("fingerprint", "point"),
)
"""``fingerprint`` is the beginning of one, with software or without; ``point`` that of an operating point's key."""


def of_listing(session: Session, ref: str) -> Sequence[LatencyRun]:
    """Return the latest runs of a listing whose control did not move, the oldest first."""
    newest = (LatencyRun.created_at.desc(), LatencyRun.id.desc())
    statement = select(LatencyRun).where(LatencyRun.ref == ref, ~LatencyRun.void).order_by(*newest).limit(MOST_RUNS)
    return list(session.scalars(statement))[::-1]


def references(session: Session) -> list[str]:
    """Return every listing that has a history, in order."""
    return list(session.scalars(select(LatencyRun.ref).distinct().order_by(LatencyRun.ref)))
