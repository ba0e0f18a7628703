"""``folder``: one folder a class, as ImageNet is commonly laid out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workers.engine.accuracy import labels
from workers.engine.accuracy.datasets import pictures, places
from workers.engine.accuracy.datasets.base import FileDataset, Spec
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    import os


class FolderDataset(FileDataset):
    """A folder of class folders; items in the order of the folders' and then of the files' names.

    What a folder's name means is settled in this order:

    - digits only: the class index itself (``10`` is class 10, whatever sorts before it);
    - with a label space whose class names are known: the name, such as a synset, which must be one of them;
    - synsets of ImageNet-1k only, and no label space stated: the same, in ``imagenet-1k``;
    - else the folder's place in sorted order.

    Hidden files and files with other endings than ``pictures.FORMATS`` are no items.
    """

    def __init__(self, spec: Spec) -> None:
        root = places.folder(spec.path, "the class folders")
        listed = [entry for entry in places.entries(root, root) if entry.is_dir()]
        names = [entry.name for entry in listed]
        space = spec.label_space or labels.space_of_synsets(names)
        classes, count = self._classes(spec, space, names)
        files: list[tuple[Path, int]] = []
        for name, label in zip(names, classes, strict=True):
            files += [(path, label) for path in self._pictures(root, root / name)]
        super().__init__(spec, space, count, files)

    @staticmethod
    def _classes(spec: Spec, space: str | None, names: list[str]) -> tuple[list[int], int]:
        """Return the class of each folder, and how many classes there are."""
        size = labels.size(space) or spec.classes
        if names and all(name.isascii() and name.isdecimal() for name in names):
            indices = [int(name) for name in names]
            if len(set(indices)) < len(indices):
                raise UsageError(
                    "class-twice",
                    f"{spec.path} has two folders of one class index, such as 1 and 01; join them.",
                )
            size = size or max(indices) + 1
            if max(indices) >= size:
                name = names[indices.index(max(indices))]
                raise UsageError(
                    "label-range",
                    f"Class folder {spec.path / name} is outside 0 to {size - 1}; folders named by numbers are class "
                    "indices, so rename it or state the right label space.",
                )
            return indices, size
        if space is not None and labels.names(space) and names:
            return labels.by_name(names, space, what=f"Class folder {spec.path}/"), labels.SPACES[space]
        if size is not None and size != len(names):
            raise UsageError(
                "label-range",
                f"Dataset {spec.name}: {spec.path} has {len(names)} class folders, not {size}; a class is known by its "
                "folder's place in sorted order, so all must be there.",
            )
        return list(range(len(names))), len(names)

    @staticmethod
    def _pictures(root: Path, folder: Path) -> list[Path]:
        found = [folder / entry.name for entry in places.entries(root, folder) if is_picture(folder, entry)]
        if not found:
            raise UsageError(
                "dataset-empty",
                f"Class folder {folder} has no pictures ({', '.join(pictures.FORMATS)}); add some or remove the "
                "folder.",
            )
        return found


def is_picture(folder: Path, entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a picture by its ending; raises UsageError for one that is then no regular file."""
    if Path(entry.name).suffix.lower() not in pictures.FORMATS:
        return False
    if not entry.is_file():
        raise UsageError(
            "picture-unreadable", f"{folder / entry.name} is named like a picture and is no file; remove it."
        )
    return True
