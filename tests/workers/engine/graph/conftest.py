from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def build(text: str, *, opset: int = 20, **weights: Any) -> onnx.ModelProto:
    """A model from ONNX's text form of a graph, with initializers by name."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    for name, value in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    return model


def run(model: onnx.ModelProto, *, seed: int = 0, transpose: bool = False) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Fusions of the runtime itself would hide what a pass did.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in value.shape]
        if transpose:
            drawn = rng.normal(size=[shape[0], *shape[2:], shape[1]]).transpose(0, 3, 1, 2)
        else:
            drawn = rng.normal(size=shape)
        feeds[value.name] = np.ascontiguousarray(drawn, dtype=np.float32)
    return session.run(None, feeds)


@pytest.fixture(scope="session")
def build_model() -> Callable[..., onnx.ModelProto]:
    return build


@pytest.fixture(scope="session")
def run_model() -> Callable[..., list[np.ndarray]]:
    return run


@pytest.fixture
def save_model(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    def save(model: onnx.ModelProto, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return save


@pytest.fixture(scope="session")
def weight() -> Callable[..., np.ndarray]:
    """Reproducible float32 weights of a shape; ``positive`` for variances."""

    def draw(*shape: int, seed: int = 0, positive: bool = False) -> np.ndarray:
        drawn = np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)
        return np.abs(drawn) + np.float32(0.5) if positive else drawn

    return draw


@pytest.fixture(scope="session")
def proto_of() -> Callable[[ir.Model], onnx.ModelProto]:
    return ir.to_proto


@pytest.fixture(scope="session")
def light() -> Path:
    """The folder of ONNX Model Zoo graphs inside the onnx package."""
    return LIGHT
