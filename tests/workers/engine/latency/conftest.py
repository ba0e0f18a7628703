from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

WIDTH = 256


@pytest.fixture
def chain(tmp_path: Path) -> Callable[..., Path]:
    """Write a network of ``layers`` matrix products; some tens of microseconds each at batch 16."""

    def write(layers: int, *, batch: int | str = "n") -> Path:
        rng = np.random.default_rng(0)
        weight = (rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
        nodes = [helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(layers)]
        graph = helper.make_graph(
            nodes,
            "chain",
            [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [batch, WIDTH])],
            [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, [batch, WIDTH])],
            [numpy_helper.from_array(weight, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        path = tmp_path / f"chain-{layers}-{batch}.onnx"
        onnx.save(model, path)
        return path

    return write
