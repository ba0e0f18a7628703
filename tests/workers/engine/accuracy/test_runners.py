from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper, parser

from workers.engine.accuracy.datasets import open_dataset
from workers.engine.accuracy.inference import Inference
from workers.engine.accuracy.predictions import Predictions
from workers.engine.accuracy.runners import Execution
from workers.engine.contracts.contract import Contract
from workers.engine.graph.export import export_module
from workers.engine.protocol import SubjectError, UsageError

GREY = Contract(height=8, width=8, colour="grey", mean=(0.0,), std=(1.0,))
WEIGHTS = np.random.default_rng(7).normal(size=(72, 10)).astype(np.float32)


def graph(path: Path, body: str, *, batch: str = "1", weights: np.ndarray = WEIGHTS, **constants: list[int]) -> Path:
    """Write a graph from pictures ``x`` to ``y``; ``w`` and the int64 ``constants`` are its initializers."""
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18]> g (float[{batch},1,8,8] x) => (float[{batch},10] y) {{ {body} }}'
    )
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=np.int64), name))
    onnx.save(model, path)
    return path


def run(model: Path, module: Any = None, **execution: Any) -> Predictions:
    dataset = open_dataset({"name": "digits", "format": "digits"})
    how = Execution(**({"batch": 32} | execution))
    return Inference(model, GREY, dataset, how, progress=lambda *_: None, module=module).predict()


FIXED = [
    ("one shape", "f = Reshape(x, s) y = MatMul(f, w)", {"s": [1, 64]}),
    ("a side left to be found", "f = Reshape(x, s) y = MatMul(f, w)", {"s": [1, -1]}),
    (
        "merged and parted",
        "r = Reshape(x, s) p = Relu(r) f = Reshape(p, t) y = MatMul(f, w)",
        {"s": [8, 8], "t": [1, 64]},
    ),
]


@pytest.mark.parametrize(("body", "constants"), [case[1:] for case in FIXED], ids=[case[0] for case in FIXED])
def test_a_fixed_batch_is_freed(tmp_path: Path, body: str, constants: dict[str, list[int]]) -> None:
    model = graph(tmp_path / "m.onnx", body, weights=WEIGHTS[:64], **constants)
    together, alone = run(model), run(model, batch=1)
    assert (together.provenance["batch"], alone.provenance["batch"]) == (32, 1)
    assert (together.classes == alone.classes).all()
    assert together.scores == pytest.approx(alone.scores, abs=1e-6)


def test_an_old_file_that_lists_its_weights_as_inputs_is_freed(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "m.onnx", FIXED[0][1], weights=WEIGHTS[:64], s=[1, 64]))
    expected = run(tmp_path / "m.onnx")
    weights = helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [64, 10])
    shape = helper.make_tensor_value_info("s", onnx.TensorProto.INT64, [2])
    inputs = [weights, shape, *model.graph.input]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version, model.opset_import[0].version = 3, 8
    onnx.save(model, tmp_path / "m.onnx")
    predictions = run(tmp_path / "m.onnx")
    assert predictions.provenance["batch"] == 32
    assert (predictions.classes == expected.classes).all()


def test_what_is_joined_to_each_picture_is_repeated(tmp_path: Path) -> None:
    # As the class token of a vision transformer.
    body = "r = Reshape(x, s) j = Concat<axis = 1>(token, r) f = Flatten(j) y = MatMul(f, w)"
    model = onnx.load(graph(tmp_path / "m.onnx", body, s=[1, 8, 8]))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1, 8), dtype=np.float32), "token"))
    onnx.save(model, tmp_path / "m.onnx")
    together, alone = run(tmp_path / "m.onnx"), run(tmp_path / "m.onnx", batch=1)
    assert together.provenance["batch"] == 32
    assert together.scores == pytest.approx(alone.scores, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("m = ReduceMean(x, axes) r = Reshape(m, s) y = MatMul(r, w)", {"axes": [0], "s": [1, 64]}),
        ("v = Reshape(x, s) m = MatMul(v, w) y = Unsqueeze(m, axes)", {"s": [64], "axes": [0]}),
    ],
    ids=["mixes the items", "drops the batch"],
)
def test_a_graph_that_needs_its_batch_keeps_it(tmp_path: Path, body: str, constants: dict[str, list[int]]) -> None:
    predictions = run(graph(tmp_path / "m.onnx", body, weights=WEIGHTS[:64], **constants))
    expected = run(graph(tmp_path / "e.onnx", "f = Flatten(x) y = MatMul(f, w)", batch="n", weights=WEIGHTS[:64]))
    assert predictions.provenance["batch"] == 1
    assert predictions.provenance["self_noise"]["batch"] == 1
    assert (predictions.classes == expected.classes).all()


def test_self_noise_counts_the_answers_that_change_with_the_batch(tmp_path: Path) -> None:
    steady = run(graph(tmp_path / "s.onnx", "f = Flatten(x) y = MatMul(f, w)", batch="n", weights=WEIGHTS[:64]))
    assert steady.provenance["self_noise"] == {"items": 512, "flips": 0, "batch": 1, "threads": 2}
    # An item's answer depends on those beside it, as it does by rounding alone in other models.
    body = "f = Flatten(x) m = ReduceMean(f, axes) d = Sub(f, m) y = MatMul(d, w)"
    noisy = run(graph(tmp_path / "n.onnx", body, batch="n", weights=WEIGHTS[:64], axes=[0]))
    first = noisy.classes[:512, 0]
    # Alone, an item is its own mean: every score is 0, and the best class the first.
    assert noisy.provenance["self_noise"]["flips"] == int((first != 0).sum()) > 0


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Dropout shows whether the module is in inference mode.
        return torch.nn.functional.dropout(self.head(x.flatten(1)), training=self.training)


def test_torch_answers_as_its_export_does(tmp_path: Path) -> None:
    export_module(Linear(), (1, 1, 8, 8), tmp_path / "m.onnx")
    onnxruntime, pytorch = run(tmp_path / "m.onnx"), run(tmp_path / "m.onnx", Linear, runtime="torch")
    assert pytorch.provenance["runtime"] == "torch"
    assert pytorch.provenance["runtime_version"] == torch.__version__
    assert (pytorch.classes == onnxruntime.classes).all()
    assert pytorch.scores == pytest.approx(onnxruntime.scores, abs=1e-6)
    assert pytorch.provenance["self_noise"]["flips"] == 0


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_what_torch_cannot_rank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match="answers with tuple"):
        run(tmp_path / "m.onnx", Pair, runtime="torch")
    with pytest.raises(UsageError, match="no torch module"):
        run(tmp_path / "m.onnx", runtime="torch")
    with pytest.raises(UsageError, match="no runtime 'tensorrt'"):
        run(tmp_path / "m.onnx", runtime="tensorrt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_cuda_is_refused_where_there_is_none(tmp_path: Path, runtime: str) -> None:
    model = graph(tmp_path / "m.onnx", "f = Flatten(x) y = MatMul(f, w)", batch="n", weights=WEIGHTS[:64])
    with pytest.raises(UsageError, match="CUDA"):
        run(model, Linear, runtime=runtime, device="cuda")


def test_a_graph_with_a_branch_keeps_its_batch(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "m.onnx", "f = Flatten(x) y = MatMul(f, w)", weights=WEIGHTS[:64]))
    same = helper.make_graph(
        [helper.make_node("Identity", ["y"], ["z"])],
        "same",
        [],
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None)],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([True])[0], "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["out"], then_branch=same, else_branch=same))
    model.graph.output[0].name = "out"
    onnx.save(model, tmp_path / "m.onnx")
    assert run(tmp_path / "m.onnx").provenance["batch"] == 1
