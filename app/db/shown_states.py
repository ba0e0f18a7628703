"""The states that a reader sees of what stores only final ones: until then the row says ``queued``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_

from app.domain.states import State

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute


def conditions(
    stored: InstrumentedAttribute[str], state: State, *, started: ColumnElement[bool], broken: ColumnElement[bool]
) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of which a row that is shown in a state meets one.

    ``started``: a job that it waits for has begun. ``broken``: the job that would end it has itself ended badly.
    """
    waiting = stored == State.QUEUED
    if state is State.QUEUED:
        return (and_(waiting, ~started, ~broken),)
    if state is State.RUNNING:
        return (and_(waiting, started, ~broken),)
    if state is State.FAILED:
        return (stored == state, and_(waiting, broken))
    return (stored == state,)
