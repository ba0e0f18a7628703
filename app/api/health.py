"""``/livez`` and ``/readyz``."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from app.api.dependencies import database
from app.api.problems import responses
from app.db.migrate import current, head
from app.db.session import Database
from app.errors import ServiceError

router = APIRouter(tags=["health"])


class NotReadyError(ServiceError):
    """The database has not the schema that this version works on."""

    status = 503
    slug = "not-ready"


class Live(BaseModel):
    """The process answers."""

    status: str = "live"


class Ready(BaseModel):
    """The database answers and has the right schema."""

    status: str = "ready"
    schema_version: str


@router.get("/livez", responses=responses())
def live() -> Live:
    """Say that the process answers."""
    return Live()


@router.get("/readyz", responses=responses())
def ready(of: Annotated[Database, Depends(database)]) -> Ready:
    """Say whether the database answers and has the schema of this version."""
    has, wants = current(of), head()
    if has != wants:
        raise NotReadyError(
            f"The database is at schema {has or 'none'}, this version needs {wants}; run zooaudit migrate."
        )
    return Ready(schema_version=wants)
