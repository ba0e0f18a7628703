"""What a request asks of every pair, checked: dimensions, data set, policy, operating points."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any

from app.db import datasets
from app.domain import points
from app.domain.plan import Scope
from app.domain.policies import Dimension
from app.errors import InvalidError
from app.services import policies

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy.orm import Session

RUNTIMES = ("onnxruntime", "torch")
DEVICES = ("cpu", "cuda")
DEFAULT_BUDGET_S = 60.0
_MAX_BUDGET_S = 3600.0


def scope(session: Session, request: dict[str, Any], label_spaces: Collection[str]) -> Scope:
    """Return the scope of a request.

    ``request`` has ``{dimensions?, dataset?, policy?, latency_budget_s?, operating_points?, accuracy_runtime?,
    accuracy_device?}``. Without ``dimensions`` it is all that can be measured: accuracy only with a data set.
    ``label_spaces`` are those of the listings, as far as known, for the advice on a missing data set. Raises
    InvalidError.
    """
    dataset = _dataset(session, request.get("dataset"))
    dimensions = _dimensions(request.get("dimensions"), with_dataset=dataset is not None)
    if Dimension.ACCURACY in dimensions and dataset is None:
        raise InvalidError(missing_dataset(session, label_spaces), slug="no-dataset")
    budget = request.get("latency_budget_s")
    return Scope(
        dimensions=dimensions,
        policy=policies.resolve(session, request.get("policy")),
        dataset=dataset,
        latency_budget_s=DEFAULT_BUDGET_S if budget is None else _budget(budget),
        operating_points=_points(request.get("operating_points")),
        accuracy_runtime=_chosen("runtime", [request.get("accuracy_runtime") or RUNTIMES[0]], RUNTIMES)[0],
        accuracy_device=_chosen("device", [request.get("accuracy_device") or DEVICES[0]], DEVICES)[0],
    )


def _points(asked: Sequence[dict[str, Any]] | None) -> tuple[points.OperatingPoint, ...]:
    if asked is None:
        return points.DEFAULT
    if not asked:
        raise InvalidError("operating_points is empty; leave it out for the default.", slug="invalid-operating-point")
    try:
        return points.read_all(asked)
    except points.InvalidPointError as error:
        raise InvalidError(str(error), slug="invalid-operating-point") from error


def _budget(value: float) -> float:
    if not math.isfinite(value) or not 0 < value <= _MAX_BUDGET_S:
        raise InvalidError(
            f"latency_budget_s is {value}; it is a number of seconds above 0 and at most {_MAX_BUDGET_S:g}.",
            slug="invalid-budget",
        )
    return float(value)


def _dimensions(asked: Sequence[str] | None, *, with_dataset: bool) -> tuple[Dimension, ...]:
    if asked is None:
        return tuple(item for item in Dimension if item is not Dimension.ACCURACY or with_dataset)
    if not asked:
        raise InvalidError(f"dimensions is empty; choose from {', '.join(Dimension)}.", slug="unknown-dimension")
    chosen = _chosen("dimension", asked, tuple(Dimension))
    return tuple(item for item in Dimension if item in chosen)


def _chosen(kind: str, asked: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    for item in asked:
        if item not in known:
            raise InvalidError(f"There is no {kind} {item!r}; choose from {', '.join(known)}.", slug=f"unknown-{kind}")
    return tuple(dict.fromkeys(asked))


def _near(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f". Did you mean {', '.join(near)}?" if near else f"; choose from {', '.join(known) or 'none'}."


def _dataset(session: Session, name: str | None) -> dict[str, Any] | None:
    if name is None:
        return None
    dataset = datasets.by_name(session, name)
    if dataset is None:
        known = [item.name for item in datasets.known(session)]
        raise InvalidError(f"There is no data set {name!r}{_near(name, known)}", slug="unknown-dataset")
    return dataset.spec()


def missing_dataset(session: Session, label_spaces: Collection[str]) -> str:
    """Return the advice on accuracy that was asked for without a data set."""
    known = datasets.known(session)
    fitting = [item.name for item in known if item.label_space in label_spaces]
    if len(fitting) == 1:
        return f"Accuracy needs a data set; {fitting[0]} has the models' label space: add dataset {fitting[0]}."
    names = ", ".join(item.name for item in known)
    return f"Accuracy needs a data set; name one ({names}), add your own, or leave accuracy out."
