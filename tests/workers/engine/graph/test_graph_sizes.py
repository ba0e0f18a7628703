"""Networks that are alike at one input size alone say so, and those that are alike at every size do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workers.engine.graph.canonical import canonicalise
from workers.engine.graph.compare import compare
from workers.engine.graph.export import export_module

WINDOW = "g (float[1,4,7,7] x) => (float[1,4] y) { a = AveragePool<kernel_shape=[7,7]>(x) y = Flatten(a) }"
WHOLE = "g (float[1,4,7,7] x) => (float[1,4] y) { a = GlobalAveragePool(x) y = Flatten(a) }"
DENSE = "g (float[1,4,7,7] x) => (float[1,5] y) { a = Flatten(x) y = Gemm<transB=1>(a, k) }"
CONVOLUTION = "g (float[1,4,7,7] x) => (float[1,5] y) { a = Conv(x, k) y = Flatten(a) }"
TABLE = "g (float[1,6,8] x) => (float[1,6,8] y) { a = Add(x, k) y = Relu(a) }"
VECTOR = "g (float[1,6,8] x) => (float[1,6,8] y) { a = Add(x, k) y = Relu(a) }"


def ones(*shape: int) -> dict[str, np.ndarray]:
    return {"k": np.ones(shape, np.float32)}


@pytest.mark.parametrize(
    ("a", "b", "because"),
    [
        ((WINDOW, {}), (WHOLE, {}), ["A averages a window of 7x7, here the whole map"]),
        ((WINDOW, {}), (WINDOW, {}), []),
        ((WHOLE, {}), (WHOLE, {}), []),
        (
            (DENSE, ones(5, 196)),
            (CONVOLUTION, ones(5, 4, 7, 7)),
            ["B convolves a window of 7x7, here the whole map", "A reads a map of 4 x 7 x 7 with a dense layer"],
        ),
        ((TABLE, ones(6, 8)), (TABLE, ones(6, 8)), ["A adds a table of 6 x 8", "B adds a table of 6 x 8"]),
        ((VECTOR, ones(8)), (VECTOR, ones(8)), []),
    ],
    ids=["window", "two windows", "two whole maps", "dense or convolution", "table", "vector"],
)
def test_what_ties_two_graphs_to_their_size(
    a: Any, b: Any, because: list[str], build_model: Any, save_model: Any
) -> None:
    graphs = [canonicalise(save_model(build_model(text, **weights))) for text, weights in (a, b)]
    found = compare(*graphs)
    size = list(graphs[0].nodes[0].shape[1:])
    assert (found["verdict"], found["differences"]) == ("identical", [])
    assert found["input_sizes"]["compared_at"] == {"a": size, "b": size}
    assert found["input_sizes"]["holds_only_there"] == bool(because)
    told = [
        sentence.split(" (")[0].removesuffix(", made for this size") for sentence in found["input_sizes"]["because"]
    ]
    assert told == because


def test_an_adaptive_pool_that_does_nothing_at_this_size_is_remembered(tmp_path: Any) -> None:
    import torch
    from torch import nn

    def exported(*layers: nn.Module) -> Any:
        export_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *layers), (1, 3, 9, 9), tmp_path / "model.onnx")
        return canonicalise(tmp_path / "model.onnx")

    torch.manual_seed(0)
    adaptive = exported(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(196, 5))
    fixed = exported(nn.Flatten(), nn.Linear(196, 5))
    found = compare(adaptive, fixed)
    assert found["verdict"] == "identical"
    assert found["input_sizes"]["because"] == [
        "A pools adaptively to 7x7 (1)",
        "B reads a map of 4 x 7 x 7 with a dense layer, made for this size (3)",
    ]
    whole = exported(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    assert compare(whole, whole)["input_sizes"]["because"] == []


def test_nothing_holds_where_the_structure_differs(build_model: Any, save_model: Any) -> None:
    other = WHOLE.replace("y = Flatten(a)", "b = Relu(a) y = Flatten(b)")
    graphs = [canonicalise(save_model(build_model(text))) for text in (WINDOW, other)]
    found = compare(*graphs)["input_sizes"]
    assert (found["holds_only_there"], found["because"]) == (None, [])
