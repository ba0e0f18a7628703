"""``/livez``, ``/readyz`` and ``/metrics``."""

from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from app.api.dependencies import OfDatabase
from app.api.metrics import MEDIA_TYPE, Metrics
from app.api.problems import responses
from app.db.migrate import current, head, known
from app.errors import ServiceError

_log = structlog.get_logger(__name__)

router = APIRouter(tags=["health"])

_MIGRATE = "run zooaudit migrate."


class NotReadyError(ServiceError):
    """The database does not answer, or has not the schema that this version works on."""

    status = 503
    slug = "not-ready"


class Live(BaseModel):
    """The process answers."""

    status: str = "live"


class Ready(BaseModel):
    """The database answers and has the schema of this version, or a later one, which this version can work on too."""

    status: str = "ready"
    schema_version: str


@router.get("/livez", responses=responses())
def live() -> Live:
    """Say that the process answers."""
    return Live()


@router.get("/readyz", responses=responses())
def ready(of: OfDatabase) -> Ready:
    """Say whether the database answers and has the schema that this version needs, or that of the next version.

    The problem's ``reason`` is ``unreachable``, ``no_schema`` or ``too_old``; ``database_schema`` and ``code_schema``
    are the migrations that the database has and that this version needs. A migration that this version does not know
    is the next version's: such only add, so this version goes on until it is replaced, and the log warns.
    """
    wants = head()
    try:
        has = current(of)
    except SQLAlchemyError as error:
        _log.warning("not ready: the database does not answer", error=str(error))
        raise _not_ready("unreachable", None, "The database does not answer; start it or correct its URL.") from error
    if has is None:
        raise _not_ready("no_schema", has, f"The database has no schema, this version needs {wants}; {_MIGRATE}")
    if not known(has):
        _log.warning("a later version has migrated the database: start that version", database=has, needs=wants)
    elif has != wants:
        raise _not_ready("too_old", has, f"The database is at schema {has}, this version needs {wants}; {_MIGRATE}")
    return Ready(schema_version=has)


def _not_ready(reason: Literal["unreachable", "no_schema", "too_old"], has: str | None, message: str) -> NotReadyError:
    return NotReadyError(message, reason=reason, database_schema=has, code_schema=head())


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": "zooaudit_database_up 1.0\n"}}},
        **responses(),
    },
)
def metrics(of: Annotated[Metrics, Depends(_metrics)]) -> Response:
    """Write numbers of jobs and requests in the text format of Prometheus."""
    return Response(of.text(), media_type=MEDIA_TYPE)
