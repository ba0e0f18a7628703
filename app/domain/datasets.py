"""Formats of data sets and what each needs besides its path, as data. The engine holds what reads them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Format:
    """A format that a team's own data set may have.

    ``options`` maps each option to the values it may have, none for any text; ``files`` are those that name files;
    ``required`` are those without which the data set cannot be read, with what they name. ``label_space`` is set where
    the format leaves no choice.
    """

    name: str
    holds: str
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    required: dict[str, str] = field(default_factory=dict)
    label_space: str | None = None


_SPLITS = ("test", "train")
_COLUMNS: dict[str, tuple[str, ...]] = {"image_column": (), "label_column": ()}

FORMATS: dict[str, Format] = {
    item.name: item
    for item in (
        Format("folder", "one folder a class, each with its pictures"),
        Format(
            "imagenet-flat",
            "ILSVRC2012_val_00000001.JPEG and so on, with the devkit's ground truth",
            {"ground_truth": (), "synsets": ()},
            files=("ground_truth", "synsets"),
            required={
                "ground_truth": "the devkit's data/ILSVRC2012_validation_ground_truth.txt (its ids need synsets too, "
                "the devkit's data/meta.mat), or a file with the synset of each picture"
            },
            label_space="imagenet-1k",
        ),
        Format("cifar-10", "cifar-10-batches-bin", {"split": _SPLITS}),
        Format("cifar-100", "cifar-100-binary", {"split": _SPLITS, "labels": ("fine", "coarse")}),
        Format("mnist", "IDX files, plain or .gz", {"split": _SPLITS}),
        Format("npz", "a file with the arrays images and labels"),
        Format("parquet", "a file, or a folder of files, with encoded pictures and labels", _COLUMNS),
        Format(
            "huggingface",
            "Parquet shards, what save_to_disk leaves, or pictures with metadata.csv or metadata.jsonl",
            {"split": (), **_COLUMNS},
        ),
    )
}

_MAPPED = {
    ("imagenet-1k-background", "imagenet-1k"),
    ("imagenet-1k", "imagenet-1k-background"),
    ("cifar-100", "cifar-100-coarse"),
}
"""Label spaces of a model and of a data set between which the engine maps."""


def fits(model_space: str | None, dataset_space: str) -> bool:
    """Whether a model that answers in one label space can be judged on a data set labelled in another."""
    return model_space == dataset_space or (model_space, dataset_space) in _MAPPED
