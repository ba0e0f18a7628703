"""Server-sent events of comparisons and audits: each is looked at once a second, however many watch it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from bisect import bisect_right
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.problems import responses
from app.db.job_changes import START, Changed, Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.orm import Session

    from app.db.session import Database
    from app.services.events import Seen

    Look = Callable[[Place], Seen]
    Watched = tuple[uuid.UUID, str | None]
    """What is watched, and the team that watches it."""

_log = structlog.get_logger(__name__)

EVERY_S = 1.0
"""Seconds between two looks at what is watched."""

PING_S = 15.0
"""Seconds of silence after which a comment is sent, so that nobody between takes the connection for dead."""

END = "end"
ID = rf"^({END}|[0-9]{{1,19}}\.[0-9a-f]{{32}}\.[0-9a-f]{{12}})$"
"""What ids of events look like: a place among the changes, and a digest of the progress told last."""

DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `job`, `progress` and, last, `end`.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'event: end\ndata: {"state": "succeeded"}\nid: end\n\n',
            }
        },
    },
    204: {"description": "`Last-Event-ID` is that of the event `end`: there is nothing more."},
    **responses(404, 422),
}


@dataclass(frozen=True)
class Event:
    """One event. ``place`` is up to where changes of jobs were told, ``digest`` that of the progress told last."""

    name: str
    data: dict[str, Any]
    place: Place
    digest: str

    @property
    def id(self) -> str:
        """What a viewer sends back to go on after this event, to any process of the service."""
        if self.name == END:
            return END
        return f"{self.place.change}.{self.place.job_id.hex}.{self.digest}"

    def encoded(self) -> bytes:
        """Return the event as it is sent."""
        return format_sse_event(data_str=json.dumps(self.data), event=self.name, id=self.id)


class Feed:
    """The events of one comparison or audit, looked up while somebody watches.

    ``look`` reads what is new after a place; it runs on a thread and holds no connection between two calls.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._events: list[Event] = []
        self._more = asyncio.Event()
        self._looked = False
        self.viewers = 0
        self._task = asyncio.create_task(self._run())

    async def follow(self, last: str | None) -> AsyncIterator[bytes]:
        """Yield the events after the one of this id, encoded, and a comment now and then, until the last event."""
        next_: int | None = None
        while True:
            more = self._more
            if self._looked:
                next_ = self._first(last) if next_ is None else next_
                for event in self._events[next_:]:
                    next_ += 1
                    yield event.encoded()
                    if event.name == END:
                        return
            try:
                await asyncio.wait_for(more.wait(), PING_S)
            except TimeoutError:
                yield KEEPALIVE_COMMENT

    def _first(self, last: str | None) -> int:
        """Return the index of the first event after the one of an id, which another process may have sent."""
        if last is None:
            return 0
        for index in reversed(range(len(self._events))):
            if self._events[index].id == last:
                return index + 1
        change, job, digest = last.split(".")
        place = Place(int(change), uuid.UUID(job))
        first = bisect_right(self._events, place, key=lambda event: event.place)
        before = self._events[first - 1] if first else None
        # What it was told of the progress last may have been another.
        unknown = before is not None and before.name == "progress" and before.digest != digest
        return first - 1 if unknown else first

    async def _run(self) -> None:
        while True:
            try:
                seen = await run_in_threadpool(self._look, self._events[-1].place if self._events else START)
            except SQLAlchemyError as error:
                _log.warning("progress not read", error=str(error))
            except Exception:  # noqa: BLE001 - whoever watches would wait for ever
                _log.exception("progress not read")
            else:
                self._add(seen)
                if seen.ended:
                    return
            await asyncio.sleep(EVERY_S)

    def _add(self, seen: Seen) -> None:
        before = len(self._events)
        place, told = (self._events[-1].place, self._events[-1].digest) if self._events else (START, "0" * 12)
        for changed in seen.changed:
            place = changed.place
            self._events.append(Event("job", _job(changed), place, told))
        digest = hashlib.sha256(json.dumps(seen.progress, sort_keys=True).encode()).hexdigest()[:12]
        if digest != told:
            self._events.append(Event("progress", seen.progress, place, digest))
        if seen.ended:
            self._events.append(Event(END, {"state": str(seen.state)}, place, digest))
        if len(self._events) > before or not self._looked:
            self._looked = True
            self._more.set()
            self._more = asyncio.Event()

    async def close(self) -> None:
        """Look no more."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


def _job(changed: Changed) -> dict[str, Any]:
    return {
        "id": str(changed.place.job_id),
        "kind": changed.kind,
        "subject": changed.subject,
        "comparison_id": str(changed.comparison_id) if changed.comparison_id else None,
        "state": changed.state,
        "attempt": changed.attempt,
        "error": changed.error,
    }


class Feeds:
    """The feeds of one application that somebody watches: one for each thing and team."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: dict[Watched, Feed] = {}

    def reply(
        self, of: uuid.UUID, look: Callable[[Session, uuid.UUID, Place], Seen], session: Session, *, last: str | None
    ) -> Response:
        """Return the stream of events after the one of an id; raises what ``look`` raises.

        ``session`` is the caller's, who has to be let see it. The feed reads on its own, as the caller's team sees it.
        """
        seen = look(session, of, START)
        # The connection goes back on this thread: elsewhere its end waits for a thread, and those for connections.
        session.rollback()
        if last == END and seen.ended:
            return Response(status_code=204)  # a browser's EventSource then stops asking

        team: str | None = session.info["team"]
        database = self._database.of(team)

        def again(place: Place) -> Seen:
            with database.read() as own:
                return look(own, of, place)

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return EventSourceResponse(self._stream((of, team), again, None if last == END else last), headers=headers)

    async def _stream(self, of: Watched, look: Look, last: str | None) -> AsyncIterator[bytes]:
        async with self._watched(of, look) as feed:
            async for encoded in feed.follow(last):
                yield encoded

    @asynccontextmanager
    async def _watched(self, of: Watched, look: Look) -> AsyncIterator[Feed]:
        feed = self._open.get(of)
        if feed is None:
            feed = self._open[of] = Feed(look)
        feed.viewers += 1
        try:
            yield feed
        finally:
            feed.viewers -= 1
            if not feed.viewers:
                del self._open[of]
                await feed.close()
