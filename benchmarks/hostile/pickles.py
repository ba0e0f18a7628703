"""Pickles by every route that runs code, bare and inside other formats."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import joblib  # type: ignore[import-untyped]  # it ships no types
import numpy as np
import torch

from hostile import Case, payload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Runs:
    """Runs a statement when it is unpickled."""

    def __init__(self, statement: str) -> None:
        self._statement = statement

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self._statement,)


def _text(statement: str) -> bytes:
    data = statement.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


_EXEC, _PARTIAL = b"cbuiltins\nexec\n", b"cfunctools\npartial\n"


def _opcodes(statement: str) -> dict[str, bytes]:
    said, quoted = _text(statement), b"S" + repr(statement).encode() + b"\n"
    state = b"(" + _EXEC + said + b"\x85}}t"
    return {
        "STACK_GLOBAL, REDUCE, protocol 4": pickle.dumps(Runs(statement), protocol=4),
        "REDUCE, protocol 5": pickle.dumps(Runs(statement), protocol=5),
        "GLOBAL, REDUCE, protocol 0": _EXEC + b"(" + quoted + b"tR.",
        "REDUCE, protocol 1": pickle.dumps(Runs(statement), protocol=1),
        "INST": b"(" + quoted + b"ibuiltins\nexec\n.",
        "OBJ": b"(" + _EXEC + said + b"o.",
        "NEWOBJ_EX": b"\x80\x04" + _PARTIAL + _EXEC + said + b"\x86}\x92)R.",
        "BUILD with __setstate__": b"\x80\x02" + _PARTIAL + b"cbuiltins\nlen\n\x85R" + state + b"b)R.",
        "no header, NONE and POP first": b"N0" + _EXEC + said + b"\x85R.",
        "runs, then is garbage without STOP": b"\x80\x02" + _EXEC + said + b"\x85R\xff\xff",
        "an extension's code": b"\x80\x02\x82\x01.",
        "a persistent id": b"\x80\x02" + said + b"Q.",
    }


def _bare(name: str) -> Callable[[Path, Path], Any]:
    return lambda path, canary: path.write_bytes(_opcodes(payload(canary))[name])


def _torch(path: Path, canary: Path, *, legacy: bool = False) -> None:
    value = {"state_dict": {"w": torch.ones(3)}, "more": Runs(payload(canary))}
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)


def _nested(path: Path, canary: Path) -> None:
    inner = pickle.dumps(Runs(payload(canary)))
    torch.save({"w": torch.frombuffer(bytearray(inner), dtype=torch.uint8)}, path)


def _torchscript(path: Path, canary: Path) -> None:
    del canary
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)


def _exported(path: Path, canary: Path) -> None:
    del canary
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("archive_format", "pt2"), ("models/model.json", "{}"), ("archive_version", "0")):
            archive.writestr(f"m/{name}", content)


def _package(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/.data/extern_modules", "")
        archive.writestr("m/model/model.pkl", pickle.dumps(Runs(payload(canary))))


def _tar(path: Path, canary: Path) -> None:
    data = pickle.dumps(Runs(payload(canary)))
    with tarfile.open(path, "w") as archive:
        for name in ("pickle", "../escaped"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _objects(path: Path, canary: Path, *, several: bool = False) -> None:
    array = np.array([Runs(payload(canary))], dtype=object)
    with path.open("wb") as file:
        (np.savez(file, a=array) if several else np.save(file, array))


def _joblib(path: Path, canary: Path, *, packed: bool = False) -> None:
    joblib.dump({"w": np.ones(3), "more": Runs(payload(canary))}, path, compress=3 if packed else 0)


def _in_front_of_zip(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(inner := io.BytesIO(), "w") as archive:
        archive.writestr("w.npy", b"")
    path.write_bytes(pickle.dumps(Runs(payload(canary))) + inner.getvalue())


def _zlib(path: Path, canary: Path) -> None:
    path.write_bytes(zlib.compress(pickle.dumps(Runs(payload(canary)))))


_CAN = frozenset({"can-execute"})

CASES = [
    *(Case(f"pickle: {name}", _bare(name), _CAN) for name in _opcodes("")),
    Case("torch archive", _torch, _CAN),
    Case("torch archive in a zoo's cache", _torch, _CAN, "torchvision"),
    Case("torch legacy", lambda path, canary: _torch(path, canary, legacy=True), _CAN),
    Case(
        "torch legacy in a zoo's cache",
        lambda path, canary: _torch(path, canary, legacy=True),
        _CAN,
        "torchvision",
    ),
    Case("bare pickle in a zoo's cache", _bare("BUILD with __setstate__"), _CAN, "torchvision"),
    Case("a pickle in a tensor's storage", _nested, frozenset({"cannot-build"}), "torchvision"),
    Case("TorchScript", _torchscript, _CAN),
    Case("exported program", _exported, _CAN),
    Case("torch.package", _package, _CAN),
    Case("legacy torch tar, with a member outside", _tar, _CAN),
    Case("NumPy array of objects", _objects, _CAN),
    Case("npz with an array of objects", lambda path, canary: _objects(path, canary, several=True), _CAN),
    Case("joblib", _joblib, _CAN),
    Case("joblib, compressed", lambda path, canary: _joblib(path, canary, packed=True), _CAN),
    Case("zlib around a pickle", _zlib, _CAN),
    Case("pickle in front of a zip", _in_front_of_zip, frozenset({"polyglot"})),
]
