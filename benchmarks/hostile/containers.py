"""Archives, headers and other things that lie about what they are or how large."""

from __future__ import annotations

import gzip
import json
import os
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

from hostile import Case, payload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _zip(**members: bytes) -> Callable[[Path, Path], Any]:
    def make(path: Path, _canary: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return make


def _twice(path: Path, _canary: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        archive.writestr("m/data.pkl", b"\x80\x02}.")


def _bomb(path: Path, _canary: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        for _ in range(512):
            member.write(bytes(2**20))


def _gzip_bomb(path: Path, _canary: Path) -> None:
    with gzip.open(path, "wb") as file:
        for _ in range(512):
            file.write(bytes(2**20))


def _behind_pickle(path: Path, canary: Path) -> None:
    _zip(**{"m/data.pkl": b"\x80\x02}."})(path, canary)
    path.write_bytes(b"PK\x03\x04" + payload(canary).encode() + path.read_bytes())


def _safetensors(**changes: Any) -> Callable[[Path, Path], Any]:
    def make(path: Path, _canary: Path) -> None:
        data = save({"a": np.ones(4, np.float32), "b": np.ones(4, np.float32)})
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header["b"] |= changes
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return make


def _array(path: Path, _canary: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"shape": (2**40,), "fortran_order": False, "descr": "<f8"})


def _saved_model(path: Path, _canary: Path) -> None:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x02\n\0")


def _script(path: Path, canary: Path) -> None:
    path.write_text(f"#!/bin/sh\ntouch {canary}\n")


_LIES, _ESCAPE = frozenset({"false-sizes"}), frozenset({"path-escape"})
_UNKNOWN = frozenset({"unknown-format"})

CASES = [
    Case("zip slip, ../", _zip(**{"../../escaped.npy": b""}), _ESCAPE),
    Case("zip slip, absolute", _zip(**{"/tmp/escaped.npy": b""}), _ESCAPE),  # noqa: S108  (refused)
    Case("zip bomb, 512 MiB", _bomb, frozenset({"bomb"})),
    Case("zip with one name twice", _twice, frozenset({"ambiguous"})),
    Case("zip behind other content", _behind_pickle, frozenset({"polyglot", "truncated"})),
    Case("gzip bomb, 512 MiB", _gzip_bomb, frozenset({"can-execute"})),
    Case("safetensors, data beyond the end", _safetensors(data_offsets=[16, 2**40]), _LIES),
    Case("safetensors, tensors that overlap", _safetensors(data_offsets=[0, 16]), _LIES),
    Case("safetensors, a shape of 4 TiB", _safetensors(shape=[2**40]), _LIES),
    Case("safetensors, a negative shape", _safetensors(shape=[-2, -2]), _LIES),
    Case(
        "safetensors, a header of 2^60 bytes",
        lambda path, _canary: path.write_bytes((2**60).to_bytes(8, "little") + b"{}"),
        _UNKNOWN,
    ),
    Case(
        "safetensors, a header 200,000 deep",
        lambda path, _canary: path.write_bytes((200_001).to_bytes(8, "little") + b'{"a":' + b"[" * 200_000),
        _UNKNOWN,
    ),
    Case("npy, 8 TiB declared", _array, _LIES),
    Case("SavedModel of TensorFlow", _saved_model, frozenset({"can-execute"})),
    Case("a script", _script, frozenset({"can-execute"})),
    Case("a pipe", lambda path, _canary: os.mkfifo(path), frozenset({"no-file"})),
    Case("a device without an end", lambda path, _canary: path.symlink_to("/dev/zero"), frozenset({"no-file"})),
    Case("empty", lambda path, _canary: path.touch(), frozenset({"empty-file"})),
]
