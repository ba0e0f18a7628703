"""Shapes that several resources share."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.dependencies import TEXT
from app.domain import points
from app.domain.policies import Criterion, Dimension, read
from app.domain.states import State

Item = TypeVar("Item")

Words = Annotated[str, Field(max_length=500, pattern=TEXT)]
"""Text in a request."""

Flag = Annotated[bool, Field(strict=True)]
"""true or false in a request; not 1, "yes" or "off"."""


class NotFinite(BaseModel):
    """A number that JSON has no word for."""

    value: None
    kind: Literal["nan", "+inf", "-inf"]


Number = float | NotFinite | None


class RequestModel(BaseModel):
    """A request; fields that nobody knows are refused, because they are spelling mistakes."""

    model_config = ConfigDict(extra="forbid")


class PageOf(BaseModel, Generic[Item]):
    """One page; ask again with ``cursor=next_cursor`` until that is null."""

    items: list[Item]
    next_cursor: str | None


class Progress(BaseModel):
    """How many jobs have ended, and what one of the others is at."""

    done: int
    total: int
    message: str | None


class Failure(BaseModel):
    """Why there is no result."""

    model_config = ConfigDict(populate_by_name=True, extra="allow", serialize_by_alias=True)

    failure_class: str = Field(alias="class", examples=["subject"])
    code: str = Field(examples=["not-loadable"])
    message: str


class PolicyContent(BaseModel):
    """Margins within which two listings count as the same, and the criteria that decide; fractions."""

    name: str = Field(max_length=100, pattern=TEXT)
    critical: list[Criterion] | None = Field(default=None, description="Null: every dimension that is asked for.")
    advisory: list[Criterion] = Field(default_factory=list, description="Judged and told; they decide nothing.")
    accuracy_margin: float = Field(default=0.005, ge=0, lt=1)
    disagreement_margin: float = Field(default=0.05, ge=0, lt=1)
    latency_margin: float = Field(default=0.05, ge=0, lt=1)
    size_margin: float = Field(default=0.0, ge=0, lt=1)
    allow_better: bool = Field(
        default=False, description="A vetting passes a candidate that is more accurate or faster than its margin."
    )


class PolicyModel(PolicyContent):
    """A policy that something was judged by."""

    version: int | None = Field(default=None, description="Null: it was given in full, and is stored nowhere.")


class PolicyRequest(PolicyContent):
    """A policy given in full."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _named_mistakes(cls, value: Any) -> Any:  # noqa: ANN401 - whatever was sent
        # Its mistakes in the words of the policies themselves, with the nearest field.
        if isinstance(value, dict):
            read(value)
        return value

    def plain(self) -> dict[str, Any]:
        """Return the policy as the services take it."""
        return self.model_dump(mode="json", exclude_none=True)


class Asked(RequestModel):
    """What is asked of every pair."""

    dimensions: list[Words] | None = Field(
        default=None, max_length=10, description="Default: all that can be measured; accuracy only with a data set."
    )
    dataset: Words | None = Field(default=None, description="Data set for accuracy.")
    policy: Words | PolicyRequest | None = Field(
        default=None, description="A policy's name, name@version, or one given in full."
    )
    latency_budget_s: float | None = Field(
        default=None, strict=True, description="Seconds to spend on timing each group of models. Default: 60."
    )
    operating_points: list[dict[Words, Annotated[int, Field(strict=True)] | Words | None]] | None = Field(
        default=None,
        max_length=points.MOST,
        description="Where latency is measured: objects with a runtime (onnxruntime, torch, torch-compile, native) and "
        "any of batch, threads, device, precision, layout, graph_optimization, boundary (docs/latency.md). Default: "
        "onnxruntime and native at batch 1 with one thread on the CPU.",
        examples=[[{"runtime": "torch", "batch": 8, "threads": 2}]],
    )
    accuracy_runtime: Words | None = Field(
        default=None, description="Runs the models over the data set: onnxruntime or torch."
    )
    accuracy_device: Words | None = Field(default=None, description="Where they run: cpu (default) or cuda.")

    def plain(self) -> dict[str, Any]:
        """Return the request as the services take it."""
        return self.model_dump(mode="json", exclude_none=True)


class JudgedDifference(BaseModel):
    """One judged difference; effects are fractions."""

    dimension: Dimension
    metric: str
    a: Number
    b: Number
    effect: Number
    ci95: list[Number] | None
    margin: Number
    magnitude: Number
    verdict: Literal["inside", "outside", "inconclusive"]
    severity: Literal["critical", "advisory"]
    details: dict[str, Any]


class Finding(JudgedDifference):
    """A judged difference as it is stored with its comparison."""

    id: UUID
    comparison_id: UUID
    audit_id: UUID | None
    architecture: str | None
    a_ref: str
    b_ref: str
    created_at: datetime


class Stateful(BaseModel):
    """Queued work: its state, and why it failed if it did."""

    id: UUID
    state: State
    dimensions: list[Dimension]
    dataset: str | None
    policy: PolicyModel
    error: Failure | None
    created_at: datetime
    finished_at: datetime | None
