"""Sends what webhooks are to be told: signed, again after failures, each attempt logged.

Part of the scheduler process; any number may run. A delivery is claimed by one UPDATE for a limited time, so that what
a dead sender held is attempted again: a receiver may see a message twice, with the same id, and none is lost.
"""

from __future__ import annotations

import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from app.domain.webhooks import headers
from app.services import telling
from workers import posting

if TYPE_CHECKING:
    import uuid

    from app.db.session import Database
    from app.services.telling import Message
    from app.settings import Settings

_SENDERS = 8
_GRACE_S = 45.0
"""What an attempt may take besides the time limit of its connection: the resolver, a slow database."""

_log = structlog.get_logger()


class Sender:
    """One look at everything that is due, as often as asked; one message at a time to each webhook."""

    def __init__(self, settings: Settings, database: Database, *, resolved: posting.Resolve = posting.resolve) -> None:
        self._settings = settings
        self._database = database
        self._resolved = resolved
        self._certificates = ssl.create_default_context()
        self._threads = ThreadPoolExecutor(_SENDERS, thread_name_prefix="sender")
        self._lock = threading.Lock()
        self._busy: set[uuid.UUID] = set()

    def look(self) -> None:
        """Begin to send what is due; returns at once."""
        with self._lock:
            busy = set(self._busy)
        with self._database.read() as session:
            waiting = telling.waiting(session, apart_from=busy)
        for webhook_id in waiting:
            with self._lock:
                self._busy.add(webhook_id)
            self._threads.submit(self._serve, webhook_id)

    def close(self) -> None:
        """Wait for the attempts under way, which takes no longer than the time limit of one; begin no other."""
        self._threads.shutdown(cancel_futures=True)

    def _serve(self, webhook_id: uuid.UUID) -> None:
        """Send what is due to a webhook, until an attempt fails: what cannot be reached gets one attempt a look."""
        try:
            while self._attempt(webhook_id):
                pass
        except Exception:  # noqa: BLE001 - the next look tries again, and the other webhooks have their turn
            _log.exception("a webhook's turn failed", webhook=str(webhook_id))
        finally:
            with self._lock:
                self._busy.discard(webhook_id)

    def _attempt(self, webhook_id: uuid.UUID) -> bool:
        """Send one message; whether to go on with the next."""
        lease_s = self._settings.webhook_timeout_s + _GRACE_S
        with self._database.write() as session:
            claimed = telling.claim(session, webhook_id, lease_s=lease_s)
        if claimed is None:
            return False
        with self._database.write() as session:
            message = telling.message(session, self._settings, claimed)
        if message is None:
            return True
        started = time.monotonic()
        answer = self._send(message)
        duration_ms = round(1000 * (time.monotonic() - started), 3)
        error = answer.error or telling.refusal(answer.status)
        said = {"webhook": str(webhook_id), "message": message.id, "attempt": claimed.number, "status": answer.status}
        _log.info("webhook told" if error is None else "webhook not told", error=error, duration_ms=duration_ms, **said)
        with self._database.write() as session:
            disabled = telling.attempted(
                session,
                claimed,
                status=answer.status,
                retry_after=answer.retry_after,
                error=error,
                duration_ms=duration_ms,
            )
        if disabled is not None:
            _log.warning("webhook disabled", reason=disabled, **said)
        return error is None

    def _send(self, message: Message) -> posting.Answer:
        body = message.body.encode()
        return posting.post(
            message.url,
            headers(message.secrets, message_id=message.id, timestamp=int(time.time()), body=body),
            body,
            allowed=self._settings.webhook_networks,
            timeout_s=self._settings.webhook_timeout_s,
            certificates=self._certificates,
            resolved=self._resolved,
        )
