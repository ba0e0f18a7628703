"""What the lists share: a query of filters and a sort, a cursor, a limit. Each list adds its own fields."""

from datetime import UTC
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from app.api.dependencies import TEXT
from app.db.paging import MAX_LIMIT, Selection


def _to_utc(time: AwareDatetime) -> AwareDatetime:
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time that UTC has no year for") from error


def _written_out(value: object) -> object:
    if not isinstance(value, str) or "-" not in value[1:]:
        raise ValueError("write a time as in 2026-01-31T12:00:00Z")  # a bare number would count seconds from 1970
    return value


Text = Annotated[str, Field(max_length=1000, pattern=TEXT)]
"""Text that a column may hold."""
Time = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_to_utc)]
Since = Annotated[Time | None, Field(description="From this time on, by `created_at`; ISO 8601 with its zone.")]
Until = Annotated[Time | None, Field(description="Before this time, by `created_at`.")]
Zoo = Annotated[Text | None, Field(description="Zoo of either side.", examples=["timm"])]
Ref = Annotated[Text | None, Field(description="Full reference of either side.", examples=["timm:resnet50.a1_in1k"])]


class ListQuery(BaseModel):
    """The query of a list; a filter that nobody knows is refused, because it would silently filter nothing."""

    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(
        default=None, max_length=5000, description="`next_cursor` of the page before, with the same filters and sort."
    )
    limit: int = Field(default=50, ge=1, le=MAX_LIMIT, description="Most rows of a page.")

    def selection(self) -> Selection:
        """Return the query as the services take it."""
        filters = self.model_dump(exclude={"sort", "cursor", "limit", "format"}, exclude_none=True)
        return Selection(filters, getattr(self, "sort", None), self.cursor, self.limit)
