"""HDF5 files: weights alone, or more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.engine.protocol import SubjectError, UnsafeError

if TYPE_CHECKING:
    from pathlib import Path

_RATIO = 100
_FREE = 64 * 2**20
_OBJECTS = 1_000_000
_BUILT_IN_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})
"""Deflate, shuffle, Fletcher's checksum, szip, n-bit, scale-offset and h5py's own LZF; any other is a plug-in."""


def hdf5_format(path: Path) -> str:
    """Return ``hdf5`` for weights, ``hdf5-model`` for a whole Keras model.

    Raises UnsafeError for data outside of the file, plug-ins, and sizes that the file cannot hold; SubjectError when it
    cannot be read.
    """
    import h5py  # type: ignore[import-untyped,unused-ignore]  # only environments with Keras have it

    try:
        with h5py.File(path) as file:
            if "model_config" in file.attrs:
                return "hdf5-model"
            _check(path, file)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise SubjectError(
            "truncated", f"{path} begins as HDF5 but cannot be read ({error}); fetch or export it again."
        ) from error
    return "hdf5"


def _check(path: Path, file: Any) -> None:
    """Look at every object once, whatever links lead to it. No recursion: nesting depth is the file's word."""
    import h5py

    size = path.stat().st_size
    declared = 0
    seen: set[int] = set()
    waiting = [file]
    while waiting:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise _unsafe("external-data", path, f"{name!r} leads to another file, {link.filename!r}")
            if isinstance(link, h5py.SoftLink):
                continue  # what it leads to has a place of its own, or does not exist
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(found, h5py.Group):
                waiting.append(found)
            elif isinstance(found, h5py.Dataset):
                _check_dataset(path, name, found)
                declared += found.nbytes
            if declared > _RATIO * size + _FREE or len(seen) > _OBJECTS:
                raise _unsafe("bomb", path, f"its {size} bytes hold {declared} bytes in {len(seen)} objects")


def _check_dataset(path: Path, name: str, dataset: Any) -> None:
    if dataset.external or dataset.is_virtual:
        raise _unsafe("external-data", path, f"the data of {name!r} lies in other files")
    made = dataset.id.get_create_plist()
    filters = {made.get_filter(index)[0] for index in range(made.get_nfilters())}
    if foreign := filters - _BUILT_IN_FILTERS:
        raise _unsafe("plug-in", path, f"{name!r} is read by a plug-in, filter {min(foreign)}, which is a program")


def _unsafe(code: str, path: Path, why: str) -> UnsafeError:
    return UnsafeError(code, f"{path} is not loaded: {why}. Save the weights alone, in one file.")
