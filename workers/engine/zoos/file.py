"""A bare ONNX file, ``file:PATH``: a zoo of one listing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.engine.protocol import SubjectError, UsageError
from workers.engine.zoos.base import Listing, Model, Structure, structure_of_file
from workers.engine.zoos.onnx_models import load_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAG = "file"


@dataclass(frozen=True)
class _FileListing(Listing):
    """A listing whose reference is its path: everything behind ``file:`` belongs to the path, also an ``@``."""

    @property
    def ref(self) -> str:
        """This listing's reference, ``file:PATH``."""
        return f"{self.zoo}:{self.name}"


class FileZoo:
    """Files that belong to no zoo; nothing but their bytes is known of them."""

    name = "file"

    def version(self) -> str:
        """Files have no version; their artifacts tell them apart."""
        return ""

    def listings(self) -> Iterator[Listing]:
        """Nothing: files are not listed."""
        return iter(())

    def describe(self, name: str, weights: str | None) -> Listing:
        """Return the listing of a path; its weights are the file's own."""
        if weights not in {None, _TAG}:
            raise UsageError("file-weights", f"file:{name} has no weights tags; leave {weights!r} out.")
        return _FileListing(zoo=self.name, name=name, weights=_TAG, default=True)

    def fetch(self, listing: Listing) -> list[Path]:
        """Return the file; raises SubjectError when there is nothing."""
        path = Path(listing.name)
        if not path.exists():
            raise SubjectError("no-such-file", f"There is no file {path}; check the path behind file:.")
        return [path]

    def load(self, listing: Listing) -> Model:
        """Check the file and return it."""
        return load_onnx(listing, self.fetch(listing)[0])

    def structure(self, listing: Listing) -> Structure:
        """Return the file: its graph is in it."""
        return structure_of_file(self, listing)


class UploadZoo(FileZoo):
    """An uploaded file, known by the SHA-256 of its bytes; ``path`` is where it lies."""

    name = "upload"

    def __init__(self, path: Path) -> None:
        self._path = path

    def fetch(self, listing: Listing) -> list[Path]:
        """Return the file; raises SubjectError when it is gone."""
        if not self._path.exists():
            raise SubjectError("no-such-file", f"The file of {listing.ref} is gone; upload it again.")
        return [self._path]
