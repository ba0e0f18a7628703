"""Data sets by format: one file a format, and ``open_dataset``, which chooses."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.accuracy.datasets.base import Dataset, Picture, Spec
from workers.engine.protocol import UsageError
from workers.engine.zoos.base import unknown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FORMATS", "Dataset", "Picture", "open_dataset"]

_SPLITS = ("test", "train")


@dataclass(frozen=True)
class _Format:
    """What opens a format, and its options with the values that each may have (none: any text)."""

    module: str
    opener: str
    options: dict[str, tuple[str, ...]]


_FORMATS = {
    "cifar-10": _Format("cifar", "cifar_10", {"split": _SPLITS}),
    "cifar-100": _Format("cifar", "cifar_100", {"split": _SPLITS, "labels": ("fine", "coarse")}),
    "digits": _Format("builtin", "DigitsDataset", {}),
    "folder": _Format("folders", "FolderDataset", {}),
    "huggingface": _Format("huggingface", "open_huggingface", {"split": (), "image_column": (), "label_column": ()}),
    "imagenet-flat": _Format("flat", "FlatDataset", {"ground_truth": (), "synsets": ()}),
    "mnist": _Format("mnist", "MnistDataset", {"split": _SPLITS}),
    "npz": _Format("archive", "ArrayDataset", {}),
    "parquet": _Format("parquet", "open_parquet", {"image_column": (), "label_column": ()}),
}

FORMATS = {name: entry.options for name, entry in _FORMATS.items()}
"""What a dataset specification may name as its format, and the options of each with their values (none: any text)."""

_KEYS = {"name", "format", "path", "label_space", "classes", "options"}


def open_dataset(spec: dict[str, Any]) -> Dataset:
    """Open a dataset; bad input is refused here, broken pictures when they are read.

    Args:
        spec: ``name``; ``format``, one of ``FORMATS``; ``path``, except for ``digits``; optional ``label_space``,
            ``classes`` (needed only for a space that is not known by name and whose last class has no item) and
            ``options``, as ``FORMATS`` names them.

    Raises:
        UsageError: naming the dataset, and the file, array, record or row.
    """
    strange = sorted(set(spec) - _KEYS)
    if strange:
        raise UsageError(
            "dataset-field", f"A dataset has no field {strange[0]!r}; its fields are {', '.join(sorted(_KEYS))}."
        )
    kind = str(spec.get("format"))
    name = str(spec.get("name") or kind)
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS, where=f"Dataset {name}", advice=f"The formats are {', '.join(FORMATS)}.")
    if not spec.get("path") and kind != "digits":
        raise UsageError("dataset-path", f"Dataset {name} of format {kind} needs a path; add one.")
    options = {option: value for option, value in (spec.get("options") or {}).items() if value is not None}
    _check_options(name, kind, options)
    return _opener(kind)(
        Spec(name, Path(spec.get("path") or ""), spec.get("label_space"), spec.get("classes"), options)
    )


def _opener(kind: str) -> Callable[[Spec], Dataset]:
    entry = _FORMATS[kind]
    try:
        module = import_module(f"{__name__}.{entry.module}")
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise UsageError(
            "no-pyarrow", f"The format {kind} needs pyarrow, which is not installed; run `pip install zooaudit[data]`."
        ) from error
    opener: Callable[[Spec], Dataset] = getattr(module, entry.opener)
    return opener


def _check_options(name: str, kind: str, options: dict[str, Any]) -> None:
    for option, value in options.items():
        if option not in FORMATS[kind]:
            known = ", ".join(FORMATS[kind]) or "none"
            raise UsageError(
                "dataset-option", f"Dataset {name}: the format {kind} has no option {option!r} (it has: {known})."
            )
        values = FORMATS[kind][option]
        if not isinstance(value, str) or (values and value not in values):
            raise UsageError(
                "dataset-option",
                f"Dataset {name}: option {option} is {value!r}; it is {' or '.join(values) or 'text'}.",
            )
