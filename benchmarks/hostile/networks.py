"""ONNX, Keras and HDF5 files that reach outside, that run code, or that take what there is."""

from __future__ import annotations

import base64
import io
import json
import marshal
import zipfile
from typing import TYPE_CHECKING, Any

import h5py  # type: ignore[import-untyped]  # it ships no types
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from hostile import Case, payload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOCAL = "local"


def _model(*nodes: Any, initializers: Any = (), functions: Any = (), domain: str | None = None) -> Any:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy"]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], list(initializers))
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    model.functions.extend(functions)
    return model


_RELU = helper.make_node("Relu", ["x"], ["y"])


def _saved(make: Callable[[], Any]) -> Callable[[Path, Path], Any]:
    return lambda path, _canary: path.write_bytes(make().SerializeToString())


def _integers(**values: Any) -> list[Any]:
    return [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in values.items()]


def _external(location: str) -> Any:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "length": "16"}.items():
        tensor.external_data.add(key=key, value=value)
    return _model(_RELU, initializers=[tensor])


def _external_link(path: Path, _canary: Path) -> None:
    (path.parent / "weights.bin").symlink_to("/etc/passwd")
    path.write_bytes(_external("weights.bin").SerializeToString())


def _false_size() -> Any:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.dims[:] = [2**20, 2**20]
    return _model(_RELU, initializers=[tensor])


def _functions(depth: int, calls: int, *, circle: bool = False) -> Any:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_LOCAL, 1)]
    functions = []
    for index in range(depth):
        last = index == depth - 1
        called, domain = ("F0", _LOCAL) if last and circle else ("Relu", "") if last else (f"F{index + 1}", _LOCAL)
        names = ["a", *(f"t{step}" for step in range(calls - 1)), "b"]
        nodes = [helper.make_node(called, [names[n]], [names[n + 1]], domain=domain) for n in range(calls)]
        functions.append(helper.make_function(_LOCAL, f"F{index}", ["a"], ["b"], nodes, opsets))
    return _model(helper.make_node("F0", ["x"], ["y"], domain=_LOCAL), functions=functions, domain=_LOCAL)


def _deep(path: Path, _canary: Path) -> None:
    """Write graphs in each other by hand; the library writes no more of them than it reads."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), bytearray()
        while size > 0x7F:
            length.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes([number << 3 | 2]) + bytes([*length, size]) + content

    graph = b""
    for _ in range(5000):
        graph = field(1, field(5, field(6, graph)))  # a node, its attribute, the graph in that
    path.write_bytes(b"\x08\x08" + field(7, graph))


def _divides() -> Any:
    divide = helper.make_node("Div", ["least", "minus"], ["shape"])
    reshape = helper.make_node("Reshape", ["x", "shape"], ["y"])
    return _model(divide, reshape, initializers=_integers(least=[-(2**63)], minus=[-1]))


def _endless() -> Any:
    nodes = [
        helper.make_node("Range", ["start", "limit", "delta"], ["many"]),
        helper.make_node("Cast", ["many"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return _model(*nodes, initializers=_integers(start=0, limit=2**40, delta=1))


def _allocates() -> Any:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return _model(*nodes, initializers=_integers(shape=[2**17, 2**17]))


def _polyglot(path: Path, canary: Path) -> None:
    with zipfile.ZipFile(inner := io.BytesIO(), "w") as archive:
        archive.writestr("m/data.pkl", f"cbuiltins\nexec\n(S{payload(canary)!r}\ntR.")
    path.write_bytes(_model(_RELU).SerializeToString() + inner.getvalue())


def _keras(layer: Callable[[Path], dict[str, Any]]) -> Callable[[Path, Path], Any]:
    def make(path: Path, canary: Path) -> None:
        config = {"class_name": "Functional", "module": "keras", "config": {"layers": [layer(canary)]}}
        with h5py.File(weights := io.BytesIO(), "w") as file:
            file["w"] = np.ones(3)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("metadata.json", "{}")
            archive.writestr("model.weights.h5", weights.getvalue())

    return make


def _lambda(canary: Path) -> dict[str, Any]:
    body = compile(payload(canary), "lambda", "exec")
    packed = base64.b64encode(marshal.dumps(body)).decode()
    function = {"class_name": "__lambda__", "config": {"code": packed, "defaults": None, "closure": None}}
    return {"class_name": "Lambda", "module": "keras.layers", "config": {"function": function}}


def _registered(canary: Path) -> dict[str, Any]:
    del canary
    return {"class_name": "Mine", "module": "keras.layers", "registered_name": "pack>Mine", "config": {}}


def _foreign(canary: Path) -> dict[str, Any]:
    return {"class_name": "run", "module": "subprocess", "config": {"args": ["touch", str(canary)]}}


def _deep_json(path: Path, _canary: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[" * 200_000)
        archive.writestr("model.weights.h5", b"")


def _hdf5(fill: Callable[[Any, Path], Any]) -> Callable[[Path, Path], Any]:
    def make(path: Path, canary: Path) -> None:
        with h5py.File(path, "w") as file:
            file["w"] = np.ones(3)
            fill(file, canary)

    return make


def _whole_model(file: Any, canary: Path) -> None:
    file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": [_lambda(canary)]}})


def _behind(path: Path, canary: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["w"] = np.ones(3)
    with path.open("r+b") as file:
        file.write(f"cbuiltins\nexec\n(S{payload(canary)!r}\ntR.".encode())


_CAN, _OUTSIDE, _BOMB = frozenset({"can-execute"}), frozenset({"external-data"}), frozenset({"bomb"})
_MEMORY = frozenset({"run", "out-of-memory", "memory-limit", "killed"})

CASES = [
    Case("ONNX, a zip with a pickle behind it", _polyglot, frozenset({"polyglot"})),
    Case("ONNX, data in ../", _saved(lambda: _external("../secret")), _OUTSIDE),
    Case("ONNX, data at an absolute path", _saved(lambda: _external("/etc/passwd")), _OUTSIDE),
    Case("ONNX, data behind a link", _external_link, _OUTSIDE),
    Case(
        "ONNX, an operator of somebody's own",
        _saved(lambda: _model(helper.make_node("Run", ["x"], ["y"], domain="evil"), domain="evil")),
        frozenset({"custom-operator"}),
    ),
    Case("ONNX, functions in a circle", _saved(lambda: _functions(3, 1, circle=True)), frozenset({"endless-function"})),
    Case("ONNX, 2^60 nodes by functions", _saved(lambda: _functions(60, 2)), _BOMB),
    Case("ONNX, a tensor of 4 TiB in 16 bytes", _saved(_false_size), frozenset({"false-sizes"})),
    Case("ONNX, 5,000 graphs in each other", _deep, frozenset({"truncated"})),
    Case("ONNX, divides the least integer by -1", _saved(_divides), frozenset({"crashed"}), "run"),
    Case("ONNX, makes 64 GiB", _saved(_allocates), _MEMORY, "run"),
    Case("ONNX, shape inference without an end", _saved(_endless), _MEMORY | {"timeout"}, "run", slow=True),
    Case("Keras, Lambda with marshalled code", _keras(_lambda), _CAN, "keras"),
    Case("Keras, a registered object", _keras(_registered), _CAN, "keras"),
    Case("Keras, a module that is not Keras'", _keras(_foreign), _CAN, "keras"),
    Case("Keras, a configuration 200,000 deep", _deep_json, _CAN, "keras"),
    Case("HDF5, a whole model with a Lambda", _hdf5(_whole_model), _CAN, "keras"),
    Case(
        "HDF5, a link to another file",
        _hdf5(lambda file, _: file.__setitem__("other", h5py.ExternalLink("/etc/passwd", "/w"))),
        _OUTSIDE,
        "keras",
    ),
    Case(
        "HDF5, data in another file",
        _hdf5(lambda file, _: file.create_dataset("d", (16,), "u1", external=[("/etc/passwd", 0, 16)])),
        _OUTSIDE,
        "keras",
    ),
    Case("HDF5, 8 TiB declared", _hdf5(lambda file, _: file.create_dataset("d", (2**40,), "f8")), _BOMB, "keras"),
    Case("HDF5 behind a pickle", _behind, frozenset({"can-execute", "polyglot"}), "keras"),
]
