"""Formats by content, and what may not be loaded. Every file here is a real one, made by its own library."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from workers.engine.protocol import EngineError, SubjectError, UnsafeError
from workers.engine.safety.onnx_files import check_onnx
from workers.engine.safety.sniff import sniff

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def model(*nodes: onnx.NodeProto, initializers: tuple[TensorProto, ...] = (), domain: str = "") -> onnx.ModelProto:
    a, b = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("x", "y"))
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Relu", ["x"], ["y"])], "g", [a], [b], list(initializers)
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def external(location: str, **entries: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch payload-ran",)


def make(kind: str, path: Path) -> None:
    if kind == "onnx":
        shutil.copy(LIGHT / "light_resnet50.onnx", path)
    elif kind == "safetensors":
        save_file({"w": torch.ones(3)}, path)
    elif kind == "torch":
        torch.save({"w": torch.ones(3)}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif kind == "old-pickle":
        path.write_bytes(pickle.dumps(Payload(), protocol=0))
    elif kind == "torchscript":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("m/data.pkl", b"\x80\x02}.")
            archive.writestr("m/code/__torch__.py", "def forward(self): pass")
    elif kind == "npz":
        np.savez(path.open("wb"), a=np.ones(3))
    elif kind == "numpy-pickle":
        np.save(path.open("wb"), np.array([Payload()], dtype=object))
    elif kind == "npz-pickle":
        np.savez(path.open("wb"), a=np.array([Payload()], dtype=object))
    else:
        _make_hdf5(kind, path)


def _make_hdf5(kind: str, path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["w"] = np.ones(3)
        if kind == "hdf5-model":
            file.attrs["model_config"] = "{}"


@pytest.mark.parametrize("kind", ["onnx", "safetensors", "npz", "hdf5"])
def test_knows_what_is_safe_whatever_the_extension(kind: str, tmp_path: Path) -> None:
    make(kind, path := tmp_path / "model.bin")
    assert sniff(path) == kind


@pytest.mark.parametrize("name", sorted(path.name for path in LIGHT.glob("*.onnx")))
def test_all_networks_of_the_onnx_package_pass(name: str) -> None:
    assert sniff(LIGHT / name) == "onnx"
    check_onnx(LIGHT / name)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("torch", "pickle, which can run code"),
        ("pickle", "pickle can run code"),
        ("old-pickle", "pickle can run code"),
        ("torchscript", "TorchScript archive carries a program"),
        ("numpy-pickle", "Python objects"),
        ("npz-pickle", "Python objects"),
        ("hdf5-model", "whole Keras model"),
    ],
)
def test_refuses_what_can_execute(kind: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(kind, path := tmp_path / "weights.safetensors")
    with pytest.raises(UnsafeError, match=reason):
        sniff(path)
    assert not (tmp_path / "payload-ran").exists()


def test_a_caller_that_builds_tensors_only_may_allow_torch_archives(tmp_path: Path) -> None:
    make("torch", path := tmp_path / "a.pth")
    assert sniff(path, allow=frozenset({"torch"})) == "torch"


def test_keras_archives_are_told_apart_by_their_configuration(tmp_path: Path) -> None:
    from workers.engine.zoos.keras_models import import_keras

    keras = import_keras()
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "plain.keras")
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(tmp_path / "lambda.keras")
    assert sniff(tmp_path / "plain.keras") == "keras"
    with pytest.raises(UnsafeError, match="Lambda or custom layer"):
        sniff(tmp_path / "lambda.keras")
    with zipfile.ZipFile(tmp_path / "plain.keras") as old, zipfile.ZipFile(tmp_path / "own.keras", "w") as new:
        config = json.loads(old.read("config.json"))
        config["config"]["layers"][1]["module"] = "os.path"
        new.writestr("config.json", json.dumps(config))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    with pytest.raises(UnsafeError, match="Lambda or custom layer"):
        sniff(tmp_path / "own.keras")


def test_refuses_a_file_that_is_two_formats(tmp_path: Path) -> None:
    make("safetensors", path := tmp_path / "a")
    with zipfile.ZipFile(archive := io.BytesIO(), "w") as hidden:
        hidden.writestr("data.pkl", b"\x80\x02}.")
    with path.open("ab") as file:
        file.write(archive.getvalue())
    with pytest.raises(UnsafeError, match="safetensors from the front and a zip from the back"):
        sniff(path)


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"hello world, no model", "no ONNX, safetensors")])
def test_refuses_what_is_no_model(content: bytes, reason: str, tmp_path: Path) -> None:
    (path := tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(SubjectError, match=reason):
        sniff(path)


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match=r"cannot be read: No such file"):
        sniff(tmp_path / "nothing.onnx")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_format_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    try:
        assert isinstance(sniff(path), str)
    except EngineError as error:
        assert error.message.startswith(str(path))  # noqa: PT017  # either outcome is right


@pytest.mark.parametrize("keep", [2, 10, 1000, 50_000])
def test_refuses_truncated_onnx(keep: int, tmp_path: Path) -> None:
    (path := tmp_path / "a.onnx").write_bytes((LIGHT / "light_resnet50.onnx").read_bytes()[:keep])
    with pytest.raises(SubjectError, match=r"no complete ONNX file|without nodes"):
        check_onnx(path)


def test_refuses_custom_operators_also_in_subgraphs(tmp_path: Path) -> None:
    custom = helper.make_node("Foo", ["x"], ["y"], domain="com.example")
    onnx.save(model(custom, domain="com.example"), path := tmp_path / "a.onnx")
    with pytest.raises(UnsafeError, match=r"custom operator com\.example\.Foo at node 0"):
        check_onnx(path)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    branch = helper.make_graph([custom], "branch", [], [out])
    condition = numpy_helper.from_array(np.ones((), dtype=bool), "c")
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    onnx.save(model(node, initializers=(condition,)), path)
    with pytest.raises(UnsafeError, match=r"custom operator com\.example\.Foo"):
        check_onnx(path)


def test_functions_of_the_file_itself_are_no_custom_operators(tmp_path: Path) -> None:
    call = helper.make_node("Own", ["x"], ["y"], domain="local")
    whole = model(call, domain="local")
    body = [helper.make_node("Relu", ["a"], ["b"])]
    whole.functions.append(helper.make_function("local", "Own", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    onnx.save(whole, path := tmp_path / "a.onnx")
    check_onnx(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b", "C:\\x", "..\\x", ""])
def test_refuses_external_data_outside_the_folder(location: str, tmp_path: Path) -> None:
    onnx.save(model(initializers=(external(location),)), path := tmp_path / "a.onnx")
    with pytest.raises(UnsafeError, match="outside the model's folder"):
        check_onnx(path)


def test_refuses_links_that_lead_outside(tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(16))
    (folder := tmp_path / "models").mkdir()
    (folder / "w.bin").symlink_to(tmp_path / "outside.bin")
    onnx.save(model(initializers=(external("w.bin"),)), path := folder / "a.onnx")
    with pytest.raises(UnsafeError, match="outside the model's folder"):
        check_onnx(path)


def test_external_data_beside_the_model_must_be_there_and_long_enough(tmp_path: Path) -> None:
    onnx.save(model(initializers=(external("w.bin", length="16"),)), path := tmp_path / "a.onnx")
    with pytest.raises(SubjectError, match="missing or too short"):
        check_onnx(path)
    (tmp_path / "w.bin").write_bytes(bytes(12))
    with pytest.raises(SubjectError, match="missing or too short"):
        check_onnx(path)
    (tmp_path / "w.bin").write_bytes(bytes(16))
    check_onnx(path)


def test_refuses_another_format_as_onnx(tmp_path: Path) -> None:
    make("safetensors", path := tmp_path / "a.onnx")
    with pytest.raises(SubjectError, match="is safetensors, not ONNX"):
        check_onnx(path)
