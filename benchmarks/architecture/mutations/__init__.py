"""Single semantic changes of an ONNX graph, drawn at random, each with the nodes where it must be reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from architecture.draft import Draft
from architecture.mutations.attention import ATTENTION
from architecture.mutations.attributes import ATTRIBUTES
from architecture.mutations.fitting import repaired
from architecture.mutations.operators import OPERATORS
from architecture.mutations.views import VIEWS
from architecture.mutations.wiring import WIRING

if TYPE_CHECKING:
    import random

    import onnx

    from architecture.draft import Mutator

MUTATORS: dict[str, Mutator] = {**ATTRIBUTES, **OPERATORS, **WIRING, **VIEWS, **ATTENTION}
"""Every kind of change by name."""


@dataclass(frozen=True)
class Mutant:
    """One changed model: what was changed (a mutator's name) and the names of the nodes where."""

    change: str
    places: tuple[str, ...]
    proto: onnx.ModelProto


def mutate(base: onnx.ModelProto, change: str, rng: random.Random, tries: int = 12) -> Mutant | None:
    """Apply one mutator at a random place of a prepared model.

    The result passes ONNX's strict shape inference; a change that no place of the model allows gives None.
    """
    outputs = [len(value.type.tensor_type.shape.dim) for value in base.graph.output]
    for _ in range(tries):
        draft = Draft(base)
        places = MUTATORS[change](draft, rng)
        if places is None:
            continue
        proto = repaired(draft)
        if proto is not None and [len(value.type.tensor_type.shape.dim) for value in proto.graph.output] == outputs:
            return Mutant(change, places, proto)
    return None
