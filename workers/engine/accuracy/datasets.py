"""Datasets: labelled pictures in a fixed order, read one at a time, with a digest of what was read."""

from __future__ import annotations

import hashlib
import io
import itertools
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from workers.engine.accuracy import digits, labels
from workers.engine.accuracy.arrays import Archive
from workers.engine.protocol import UsageError
from workers.engine.zoos.base import unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Picture = Image.Image | np.ndarray[Any, np.dtype[np.uint8]]
"""A decoded picture: PIL, or uint8 (height, width) or (height, width, channels)."""

PICTURE_FORMATS = {
    ".bmp": "BMP",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".pgm": "PPM",
    ".png": "PNG",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""File endings that count as pictures in a folder, and the only decoders that are tried on them."""

_CHANNELS = (1, 3)


class Dataset(ABC):
    """Labelled pictures in a fixed order. Iterating decodes them one by one; nothing is kept.

    Attributes:
        name: what users call it.
        n: number of items, at least one.
        label_space: the space that the labels index, or None when nobody said.
        classes: number of classes of that space.
    """

    def __init__(self, name: str, n: int, label_space: str | None, classes: int, encoding: str) -> None:
        self.name, self.n, self.label_space, self.classes = name, n, label_space, classes
        self._encoding = encoding
        self._digest: str | None = None
        if n == 0:
            raise UsageError("dataset-empty", f"Dataset {name} has no items; add some.")
        labels.check_size(label_space, classes, what=f"Dataset {name}")

    def __len__(self) -> int:
        return self.n

    @abstractmethod
    def _raw(self) -> Iterator[tuple[bytes, int]]:
        """Yield each item's bytes as stored, with its label."""

    @abstractmethod
    def _decode(self, index: int, raw: bytes) -> Picture:
        """Turn an item's bytes into a picture; raises UsageError that names the item."""

    def raw(self, start: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the bytes as stored and the label of each item from ``start`` on, in the fixed order."""
        return itertools.islice(self._raw(), start, None)

    def decode(self, index: int, raw: bytes) -> Picture:
        """Turn the bytes of item ``index`` into a picture; several threads may do so at once. Raises UsageError."""
        return self._decode(index, raw)

    def __iter__(self) -> Iterator[tuple[Picture, int]]:
        """Yield (picture, label) in the fixed order. A full pass also computes the digest."""
        value = self._begin()
        for index, (raw, label) in enumerate(self._raw()):
            value.update(self.item_digest(raw, label))
            yield self._decode(index, raw), label
        self._digest = value.hexdigest()

    def digest(self) -> str:
        """SHA-256 over the items' own digests in order; after a full pass over the items it costs nothing."""
        if self._digest is None:
            value = self._begin()
            for raw, label in self._raw():
                value.update(self.item_digest(raw, label))
            self._digest = value.hexdigest()
        return self._digest

    @staticmethod
    def item_digest(raw: bytes, label: int) -> bytes:
        """SHA-256 of one item: its label and its bytes as stored."""
        value = hashlib.sha256(label.to_bytes(4, "little"))
        value.update(raw)
        return value.digest()

    def joined_digest(self, items: NDArray[np.uint8]) -> str:
        """Return ``digest()`` from the digests of all items, uint8 (n, 32), so that parts may be read apart."""
        value = self._begin()
        value.update(np.ascontiguousarray(items).data)
        return value.hexdigest()

    def _begin(self) -> hashlib._Hash:
        # Equal bytes are other pictures in another encoding: 2x8 pixels are not 4x4.
        return hashlib.sha256(self._encoding.encode() + b"\0")


class DigitsDataset(Dataset):
    """The held-out half of scikit-learn's digits, which the example zoos' training never sees."""

    def __init__(self, name: str) -> None:
        self._images, self._labels = digits.part("test")
        super().__init__(name, len(self._labels), digits.LABEL_SPACE, digits.CLASSES, _encoding(self._images.shape[1:]))

    def _raw(self) -> Iterator[tuple[bytes, int]]:
        for image, label in zip(self._images, self._labels, strict=True):
            yield image.tobytes(), int(label)

    def _decode(self, index: int, raw: bytes) -> Picture:
        return np.frombuffer(raw, dtype=np.uint8).reshape(self._images[index].shape)


class ArrayDataset(Dataset):
    """An ``.npz`` file: ``images`` uint8 (n, height, width[, 1 or 3]) and ``labels`` (n), unpacked as they are read."""

    def __init__(self, name: str, path: Path, label_space: str | None, classes: int | None) -> None:
        self._archive = Archive(path)
        self._archive.require("images", "labels")
        header = self._archive.headers["images"]
        self._shape = header.shape[1:]
        self._labels = self._archive.read_integers("labels", 1)
        grey, channels = len(self._shape) == 2, self._shape[2:]  # noqa: PLR2004 - height and width
        if header.dtype != np.uint8 or not (grey or (len(channels) == 1 and channels[0] in _CHANNELS)):
            raise UsageError(
                "array-shape",
                f"{path}: array 'images' is {header.dtype} {header.shape}; it must be uint8 (n, height, width), "
                "(n, height, width, 1) or (n, height, width, 3).",
            )
        if header.shape[0] != len(self._labels) or 0 in self._shape:
            raise UsageError(
                "array-shape",
                f"{path}: array 'images' has shape {header.shape}, but 'labels' has {len(self._labels)} rows; "
                "both need one row an item, and a picture at least one pixel.",
            )
        count = classes or labels.SPACES.get(label_space or "") or int(self._labels.max()) + 1
        self._check_labels(path, count)
        super().__init__(name, len(self._labels), label_space, count, _encoding(self._shape))

    def _check_labels(self, path: Path, classes: int) -> None:
        bad = (self._labels < 0) | (self._labels >= classes)
        if bad.any():
            row = int(np.argmax(bad))
            raise UsageError(
                "label-range",
                f"{path}: array 'labels', row {row} is {self._labels[row]}, outside 0 to {classes - 1}; "
                "correct it, or state the right label space.",
            )

    def _raw(self) -> Iterator[tuple[bytes, int]]:
        size = int(np.prod(self._shape))
        with self._archive.stream("images") as (member, _):
            for label in self._labels:
                yield member.read(size), int(label)

    def _decode(self, index: int, raw: bytes) -> Picture:  # noqa: ARG002 - the header has been checked for all items
        image: NDArray[np.uint8] = np.frombuffer(raw, dtype=np.uint8).reshape(self._shape)
        return image[:, :, 0] if self._shape[2:] == (1,) else image


class FolderDataset(Dataset):
    """A folder of class folders; classes are their names in sorted order, items the file names in sorted order.

    Hidden files and files with other endings than ``PICTURE_FORMATS`` are no items.
    """

    def __init__(self, name: str, path: Path, label_space: str | None, classes: int | None) -> None:
        if not path.is_dir():
            raise UsageError(
                "folder-missing",
                f"Dataset {name}: {path} is not a folder; give the folder that holds the class folders.",
            )
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        self._items: list[tuple[Path, int]] = []
        for label, folder in enumerate(folders):
            files = sorted(file for file in folder.iterdir() if self._is_picture(file))
            if not files:
                raise UsageError(
                    "dataset-empty",
                    f"Dataset {name}: class folder {folder} has no pictures ({', '.join(PICTURE_FORMATS)}); "
                    "add some or remove the folder.",
                )
            self._items += [(file, label) for file in files]
        if classes is not None and classes != len(folders):
            raise UsageError(
                "label-range",
                f"Dataset {name}: {path} has {len(folders)} class folders, not {classes}; a class is known by its "
                "folder's place in sorted order, so all must be there.",
            )
        super().__init__(name, len(self._items), label_space, len(folders), "files")

    @staticmethod
    def _is_picture(path: Path) -> bool:
        return path.suffix.lower() in PICTURE_FORMATS and not path.name.startswith(".") and path.is_file()

    def _raw(self) -> Iterator[tuple[bytes, int]]:
        return self.raw()

    def raw(self, start: int = 0) -> Iterator[tuple[bytes, int]]:
        """Yield the bytes as stored and the label of each item from ``start`` on; those before are not read."""
        for path, label in self._items[start:]:
            try:
                raw = path.read_bytes()
            except OSError as error:
                raise UsageError(
                    "picture-unreadable", f"{path} cannot be read ({error.strerror}); restore it or remove it."
                ) from error
            yield raw, label

    def _decode(self, index: int, raw: bytes) -> Picture:
        path = self._items[index][0]
        try:
            image = Image.open(io.BytesIO(raw), formats=sorted(set(PICTURE_FORMATS.values())))
            _refuse_bomb(image)
            image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(
                "picture-broken",
                f"{path} cannot be decoded as a picture ({error}); it may be truncated: replace it or remove it.",
            ) from error
        return image


def _refuse_bomb(image: Image.Image) -> None:
    """Raise DecompressionBombError where PIL would only warn: filters for warnings are shared by all threads."""
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels could be a bomb")


def _encoding(shape: tuple[int, ...]) -> str:
    return "uint8 " + "x".join(map(str, shape))


FORMATS = ("digits", "folder", "npz")
"""What a dataset specification may name as its format."""

_KEYS = {"name", "format", "path", "label_space", "classes"}


def open_dataset(spec: dict[str, Any]) -> Dataset:
    """Open a dataset; bad input is refused here, broken pictures when they are read.

    Args:
        spec: ``name``; ``format``, one of ``FORMATS``; ``path``, except for ``digits``; optional ``label_space`` and
            ``classes`` (needed only for a space that is not known by name and whose last class has no item).

    Raises:
        UsageError: naming the dataset, and the file, array or row.
    """
    strange = sorted(set(spec) - _KEYS)
    if strange:
        raise UsageError(
            "dataset-field", f"A dataset has no field {strange[0]!r}; its fields are {', '.join(sorted(_KEYS))}."
        )
    kind = spec.get("format")
    name = str(spec.get("name") or kind)
    if kind == "digits":
        return DigitsDataset(name)
    if kind not in FORMATS:
        raise unknown(
            "format", str(kind), FORMATS, where=f"Dataset {name}", advice=f"The formats are {', '.join(FORMATS)}."
        )
    if not spec.get("path"):
        raise UsageError("dataset-path", f"Dataset {name} of format {kind} needs a path; add one.")
    opener = FolderDataset if kind == "folder" else ArrayDataset
    return opener(name, Path(spec["path"]), spec.get("label_space"), spec.get("classes"))
