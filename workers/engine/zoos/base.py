"""The interface between the engine and a zoo. Only the adapter modules beside this file import a zoo's package."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from workers.engine.contracts.contract import Contract

Runtime = Literal["torch", "onnxruntime"]

NO_WEIGHTS = "none"
"""The weights tag that builds an architecture with seeded random weights."""

SEED = 0
"""Seed of the random weights behind ``@none``."""


@dataclass(frozen=True)
class Claim:
    """A number that the zoo publishes about a listing; fractions, not per cent."""

    metric: Literal["top1", "top5", "parameters", "macs", "bytes"]
    value: float
    source: str


@dataclass(frozen=True)
class Listing:
    """One published model: its name in the zoo, one weights tag, and what the zoo says of it.

    ``architecture`` is the key under which listings of several zoos are matched, or None when no rule names one.
    ``label_space`` names the classes and their order (``imagenet-1k``, ``imagenet-21k``, ``digits``, ...), or is None
    when the zoo does not say.
    """

    zoo: str
    name: str
    weights: str
    architecture: str | None = None
    default: bool = False
    label_space: str | None = None
    classes: int | None = None
    contract: Contract | None = None
    claims: tuple[Claim, ...] = ()
    licence: str | None = None
    runtimes: tuple[Runtime, ...] = ("onnxruntime",)

    @property
    def ref(self) -> str:
        """This listing's reference, ``zoo:name@weights``."""
        return f"{self.zoo}:{self.name}@{self.weights}"

    def to_json(self) -> dict[str, Any]:
        """Return this listing as JSON, with its reference and its contract's digest."""
        value = asdict(self)
        value["contract"] = self.contract.to_json() if self.contract else None
        value["contract_digest"] = self.contract.digest() if self.contract else None
        value["claims"] = [asdict(claim) for claim in self.claims]
        value["runtimes"] = list(self.runtimes)
        value["ref"] = self.ref
        return value


@dataclass(frozen=True)
class Artifact:
    """The exact bytes of a model. For a model built in memory: its tensors as safetensors would write them."""

    sha256: str
    bytes: int
    format: str

    def to_json(self) -> dict[str, Any]:
        """Return this artifact as JSON."""
        return asdict(self)


@dataclass
class Model:
    """A loaded listing, ready to run in inference mode.

    Exactly one of ``module`` (a ``torch.nn.Module`` in eval mode, float32, on the CPU) and ``onnx`` (a file that has
    passed the safety checks) is the model itself. ``parameters`` and ``buffers`` count the elements of the model as
    published: trainable tensors, and the floating-point state that training does not update by gradient.
    """

    listing: Listing
    artifact: Artifact
    contract: Contract
    module: Any = None
    onnx: Path | None = None
    parameters: int | None = None
    buffers: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Structure:
    """The architecture of a listing, good for export and for nothing else: its large weights may be absent.

    Exactly one of ``module`` (absent weights: see ``absent_weights``) and ``onnx`` (a checked file) is there.
    ``weights`` says what became of the large parameters: ``absent``, ``random`` or, in a file, ``published``.
    """

    listing: Listing
    contract: Contract
    weights: Literal["absent", "random", "published"]
    module: Any = None
    onnx: Path | None = None
    parameters: int | None = None
    buffers: int | None = None
    notes: list[str] = field(default_factory=list)


def structure_of_file(zoo: Zoo, listing: Listing) -> Structure:
    """Return the structure of a listing that is a file: its graph cannot be had without it."""
    model = zoo.load(listing)
    return Structure(listing, model.contract, "published", onnx=model.onnx, notes=model.notes)


class Zoo(Protocol):
    """A place that publishes models."""

    name: str

    def version(self) -> str:
        """Version of the package or folder that the listings come from."""

    def listings(self) -> Iterator[Listing]:
        """Every listing, weights tag by weights tag, without building a model."""

    def describe(self, name: str, weights: str | None) -> Listing:
        """Return one listing; ``weights=None`` means the zoo's default tag. Raises UsageError with near names."""

    def fetch(self, listing: Listing) -> list[Path]:
        """Download what ``load`` needs into the zoo's own cache; return those files.

        Raises TransientError, naming the cache folder and ``@none``, when the network does not answer.
        """

    def load(self, listing: Listing) -> Model:
        """Build the model from the cache, without network.

        Raises SubjectError when it cannot be built, TransientError, naming the cache folder and ``@none``, when its
        weights are not in the cache.
        """

    def structure(self, listing: Listing) -> Structure:
        """Build the architecture of a listing without its weights; nothing is downloaded.

        A zoo that cannot build without weights gives a model with random ones, and says so in ``notes``. Raises
        SubjectError when it cannot be built.
        """


def unknown(kind: str, name: str, known: Iterable[str], *, where: str, advice: str) -> UsageError:
    """Say that ``name`` is not known, with the nearest known names."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    return UsageError(f"unknown-{kind}", f"{where} has no {kind} {name!r}.{hint} {advice}")
