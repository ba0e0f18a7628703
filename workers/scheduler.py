"""The scheduler: submits the audits of schedules that have come due, and does what else has its time.

``python -m workers.scheduler`` is its own small process. Any number may run: a due time runs once, because its row, its
audit and the schedule's next due time are written in one transaction, on the database's clock. It submits through
``app.services`` as the API does, and imports nothing that measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from app import queue, tracing
from app.db.schedules import clock
from app.services import schedules
from workers import looks
from workers.keeper import Keeper
from workers.looks import Duty
from workers.sender import Sender

if TYPE_CHECKING:
    import uuid

    from app.db.session import Database
    from app.settings import Settings

_log = structlog.get_logger()


class Scheduler:
    """One look at every schedule that is due, as often as asked."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def look(self) -> None:
        """Submit what is due. A schedule that cannot be dealt with is logged and keeps no other from its turn."""
        with self._database.read() as session:
            due = schedules.due(session)
        for schedule_id in due:
            try:
                self._submit(schedule_id)
            except Exception as error:  # noqa: BLE001 - whatever one schedule meets, the others have their turn
                _log.error("schedule not submitted", schedule=str(schedule_id), error=repr(error))

    def _submit(self, schedule_id: uuid.UUID) -> None:
        with tracing.span("schedule due", attributes={"zooaudit.schedule": str(schedule_id)}):
            with self._database.write() as session:
                run = schedules.submit_due(session, self._settings, schedule_id, clock(session))
            if run is None:
                return
            queue.ring(self._settings, run.ring)
        said = {"schedule": str(schedule_id), "due_at": run.due_at.isoformat()}
        if run.error is None:
            _log.info("audit submitted", audit=str(run.audit_id), **said)
        else:
            _log.warning("audit refused", error=run.error["message"], **said)


def duties(settings: Settings, database: Database) -> list[Duty]:
    """Return what a scheduler looks at."""
    sender = Sender(settings, database)
    return [
        Duty("scheduler", Scheduler(settings, database).look, 1.0),
        Duty("sender", sender.look, 1.0, sender.close),
        Duty("keeper", Keeper(settings, database).look, 60.0),
    ]


def main() -> None:
    """Look every second until told to stop."""
    looks.until_told("scheduler", duties)


if __name__ == "__main__":
    main()
