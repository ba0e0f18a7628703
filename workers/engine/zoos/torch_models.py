"""What the torch zoos share: building with seeded weights, counting, artifacts, reading a checkpoint file."""

from __future__ import annotations

import pickle
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from workers.engine.protocol import EngineError, SubjectError, TransientError, UnsafeError
from workers.engine.safety.scanner import scan
from workers.engine.safety.sniff import sniff
from workers.engine.zoos import artifacts
from workers.engine.zoos.absent_weights import build_absent, fake_mode
from workers.engine.zoos.base import Structure
from workers.engine.zoos.random_weights import fill, skipped_draws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from workers.engine.contracts.contract import Contract
    from workers.engine.zoos.base import Artifact, Listing

TENSOR_FORMATS = frozenset({"torch", "pickle"})
"""Checkpoint formats read with ``weights_only=True``, which builds tensors and refuses everything else."""


_UNSUPPORTED = re.compile(
    r"WeightsUnpickler error: ((?:Unsupported|Trying|Can only|Only)[^\n]{1,200}?)(?: was not| Please|\n|$)"
)


def build_random(listing: Listing, build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """Build an architecture with the seeded random weights of ``@none``; float32, eval mode."""
    drawn: set[int] = set()
    module = build_bare(listing, build, drawn)
    fill(module, drawn)
    module.eval()
    return module


def build_bare(listing: Listing, build: Callable[[], torch.nn.Module], drawn: set[int]) -> torch.nn.Module:
    """Run a constructor without its random draws; raises SubjectError when it fails.

    ``drawn`` receives the storages that were left for ``fill``; whatever the constructor loads stays as loaded.
    """
    try:
        with skipped_draws() as skipped:
            module = build()
        drawn |= skipped
    except EngineError:
        raise
    except Exception as error:  # a stranger's constructor may raise anything
        raise SubjectError(
            "cannot-build", f"{listing.ref} cannot be built: {type(error).__name__}: {first_line(error)}"
        ) from error
    return module


def build_structure(
    listing: Listing, contract: Contract, build: Callable[[], torch.nn.Module], notes: Iterable[str] = ()
) -> Structure:
    """Build an architecture with absent weights; with random ones where its constructor reads what it created."""
    try:
        module = build_absent(build)
    except Exception as error:  # noqa: BLE001  (a stranger's constructor; it is tried again below)
        module = build_random(listing, build)
        notes = [*notes, f"Built with random weights: without them it fails with {type(error).__name__}."]
    weights: Literal["absent", "random"] = "absent" if fake_mode(module) is not None else "random"
    parameters, buffers = counts(module)
    return Structure(
        listing, contract, weights, module=module, parameters=parameters, buffers=buffers, notes=list(notes)
    )


def counts(module: torch.nn.Module) -> tuple[int, int]:
    """Count (trainable elements, other floating-point state that is saved with the model)."""
    trainable = {id(tensor): tensor.numel() for tensor in module.parameters() if tensor.requires_grad}
    named = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    others = {
        id(tensor): tensor.numel()
        for name in module.state_dict()
        if (tensor := named.get(name)) is not None and id(tensor) not in trainable and tensor.is_floating_point()
    }
    return sum(trainable.values()), sum(others.values())


def memory_artifact(module: torch.nn.Module) -> Artifact:
    """Return the artifact of a module that was built in memory."""
    return artifacts.of_state(module.state_dict())


def read_tensors(path: Path) -> tuple[dict[str, Any], str]:
    """Read a cached checkpoint of tensors only; returns (state, format).

    Raises UnsafeError for files that hold code, SubjectError for unreadable ones.
    """
    file_format = sniff(path, allow=TENSOR_FORMATS)
    try:
        if file_format == "safetensors":
            from safetensors.torch import load_file

            return load_file(path), file_format
        return torch.load(path, map_location="cpu", weights_only=True), file_format
    except Exception as error:  # truncated archives raise many kinds
        if (what := _refused(error)) is not None:
            raise not_tensors(path, what) from error
        raise SubjectError(
            "cannot-read-weights",
            f"{path} cannot be read as tensors: {type(error).__name__}: {first_line(error)}. "
            "Delete the file and fetch it again.",
        ) from error


@contextmanager
def tensors_only(path: Path) -> Iterator[None]:
    """Tell a checkpoint that ``weights_only`` refused while a zoo's own code read it from one that does not fit."""
    try:
        yield
    except EngineError as error:
        if (what := _refused(error)) is not None:
            raise not_tensors(path, what) from error
        raise


def _refused(error: BaseException | None) -> str | None:
    """Return what ``weights_only`` has refused, which an error or its causes tell; None for errors of other kinds."""
    while error is not None:
        if isinstance(error, pickle.UnpicklingError) and (found := _UNSUPPORTED.search(str(error))):
            return found.group(1)
        error = error.__cause__
    return None


def not_tensors(path: Path, what: str) -> UnsafeError:
    """Say that a checkpoint holds more than tensors, with what a scanner says of it."""
    said = scan(path)
    return UnsafeError(
        "can-execute",
        f"{path} is not loaded: it holds more than tensors ({what}), which could run code. Convert it to safetensors.",
        {"format": "torch"} | ({"scan": said} if said else {}),
    )


def not_cached(listing: Listing, folder: Path | str) -> TransientError:
    """Say that the weights of a listing are not in the zoo's cache."""
    return TransientError(
        "weights-not-cached",
        f"The weights of {listing.ref} are not in {folder}; fetch them where there is a network, copy them there, or "
        f"audit the architecture alone with {listing.zoo}:{listing.name}@none.",
    )


def not_fetched(listing: Listing, folder: Path | str, error: Exception) -> TransientError:
    """Say that the weights of a listing could not be downloaded."""
    return TransientError(
        "weights-not-fetched",
        f"The weights of {listing.ref} could not be downloaded ({type(error).__name__}: {first_line(error)}); try "
        f"again with a network, copy them into {folder}, or audit the architecture alone with "
        f"{listing.zoo}:{listing.name}@none.",
    )


def first_line(error: Exception) -> str:
    """Return an exception's first line, shortened: the rest is for its traceback."""
    return (str(error).strip().splitlines() or [""])[0][:300]
