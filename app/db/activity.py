"""What was done with keys: rows that are only ever added."""

from __future__ import annotations

from app.db.key_tables import Activity
from app.db.paging import Listed

LISTED = Listed(
    Activity,
    Activity.id,
    sorts={"at": Activity.at},
    sort="-at",
    filters={
        "key_id": None,
        "team": None,
        "status": None,
        "request_id": None,
        "since": lambda time: Activity.at >= time,
        "until": lambda time: Activity.at < time,
    },
)
