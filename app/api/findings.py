"""``/v1/findings``."""

from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter

from app.api.dependencies import Cursor, Limit, Reading, Text
from app.api.models import Finding, PageOf
from app.api.problems import responses
from app.domain.policies import Dimension
from app.services import findings

router = APIRouter(prefix="/v1/findings", tags=["findings"])

Sort = Literal["effect", "-effect", "magnitude", "-magnitude", "created_at", "-created_at"]


@router.get("", response_model=PageOf[Finding], responses=responses(422))
def find(
    session: Reading,
    *,
    dimension: Dimension | None = None,
    metric: Text = None,
    architecture: Text = None,
    zoo: Text = None,
    audit_id: UUID | None = None,
    comparison_id: UUID | None = None,
    verdict: Literal["inside", "outside", "inconclusive"] | None = None,
    sort: Sort = "-magnitude",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """List findings, the largest first. ``zoo`` is that of either side; rows without the sort value come last."""
    wanted = findings.Filter(dimension, metric, architecture, zoo, audit_id, comparison_id, verdict)
    return findings.find(session, wanted, sort=sort, cursor=cursor, limit=limit)
