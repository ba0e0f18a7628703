"""Every float64 operator against onnxruntime's float32 one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from workers.engine.graph import double


def i64(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, dtype=np.int64)


PICTURE = "float[2,6,9,8] x"
CASES = {
    "conv": ("Conv<pads=[1,2,0,1], strides=[2,1]>(x, k, q)", {"k": (4, 6, 3, 2), "q": (4,)}),
    "conv without bias": ("Conv<dilations=[2,3]>(x, k)", {"k": (4, 6, 3, 2)}),
    "grouped conv": ("Conv<group=3, pads=[1,1,1,1]>(x, k)", {"k": (9, 2, 3, 3)}),
    "depthwise conv": ("Conv<group=6, pads=[1,1,1,1], strides=[2,2]>(x, k)", {"k": (6, 1, 3, 3)}),
    "transposed conv": ("ConvTranspose<strides=[2,2]>(x, k)", {"k": (6, 3, 2, 2)}),
    "max pool": ("MaxPool<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(x)", {}),
    "max pool, ceil": ("MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", {}),
    "average pool": ("AveragePool<kernel_shape=[3,2], pads=[1,1,1,0], strides=[2,1]>(x)", {}),
    "average pool, padding counts": (
        "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
        {},
    ),
    "average pool, ceil": ("AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", {}),
    "global average": ("GlobalAveragePool(x)", {}),
    "global maximum": ("GlobalMaxPool(x)", {}),
    "batch norm": ("BatchNormalization<epsilon=0.01>(x, g, b, m, v)", dict.fromkeys("gbm", (6,)) | {"v": (6,)}),
    "layer norm": ("LayerNormalization<axis=-2, epsilon=0.01>(x, g, b)", {"g": (9, 8), "b": (9, 8)}),
    "layer norm without bias": ("LayerNormalization(x, g)", {"g": (8,)}),
    "response norm": ("LRN<size=5, alpha=0.3, beta=0.6, bias=1.5>(x)", {}),
    "cast": ("Cast<to=1>(x)", {}),
    "relu": ("Relu(x)", {}),
    "leaky relu": ("LeakyRelu<alpha=0.2>(x)", {}),
    "clip": ("Clip(x, low, high)", {"low": np.float32(-0.3), "high": np.float32(0.4)}),
    "clip above": ("Clip(x, , high)", {"high": np.float32(0.4)}),
    "sigmoid": ("Sigmoid(x)", {}),
    "tanh": ("Tanh(x)", {}),
    "erf": ("Erf(x)", {}),
    "gelu": ("Gelu(x)", {}),
    "gelu by tanh": ('Gelu<approximate="tanh">(x)', {}),
    "hard sigmoid": ("HardSigmoid<alpha=0.3, beta=0.4>(x)", {}),
    "hard swish": ("HardSwish(x)", {}),
    "softmax": ("Softmax<axis=1>(x)", {}),
    "log softmax": ("LogSoftmax(x)", {}),
    "add": ("Add(x, c)", {"c": (6, 1, 1)}),
    "subtract": ("Sub(c, x)", {"c": (8,)}),
    "multiply": ("Mul(x, c)", {"c": (6, 1, 1)}),
    "divide": ("Div(c, x)", {"c": (6, 1, 1)}),
    "concat": ("Concat<axis=1>(x, x)", {}),
    "transpose": ("Transpose<perm=[0,2,3,1]>(x)", {}),
    "reshape": ("Reshape(x, s)", {"s": i64(0, -1, 4)}),
    "flatten": ("Flatten<axis=2>(x)", {}),
    "mean": ("ReduceMean<keepdims=0>(x, s)", {"s": i64(2, 3)}),
    "matrix product": ("MatMul(x, k)", {"k": (8, 5)}),
    "slice": ("Slice(x, s, e, a)", {"s": i64(1), "e": i64(5), "a": i64(1)}),
    "resize": ('Resize<mode="nearest">(x, , s)', {"s": np.asarray([1, 1, 2, 2], np.float32)}),
}


@pytest.mark.parametrize("case", CASES)
def test_operator(build_model: Any, case: str) -> None:
    text, shapes = CASES[case]
    rng = np.random.default_rng(7)
    given = {
        name: rng.uniform(0.5, 1.5, size=shape).astype(np.float32) if isinstance(shape, tuple) else shape
        for name, shape in shapes.items()
    }
    data = rng.normal(size=(2, 6, 9, 8)).astype(np.float32)
    proto = build_model(f"g ({PICTURE}) => (float[a,b,c,d] y) {{ y = {text} }}", **given)
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    (expected,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": data})
    (node,) = ir.from_proto(proto).graph
    inputs = [None if value is None else np.asarray(given.get(str(value.name), data)) for value in node.inputs]
    widened = [array if array is None or array.dtype == np.int64 else array.astype(np.float64) for array in inputs]
    (actual,) = double.evaluate(node, widened)
    assert actual.dtype == np.float64
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-6)


def test_gemm_with_every_attribute(build_model: Any) -> None:
    rng = np.random.default_rng(7)
    data, weight, bias = (rng.normal(size=shape) for shape in ((3, 2), (4, 3), (4,)))
    text = "g (float[3,2] x, float[4,3] k, float[4] q) => (float[2,4] y) { y = Gemm<%s>(x, k, q) }"
    proto = build_model(text % "alpha=2.0, beta=0.5, transA=1, transB=1")
    (node,) = ir.from_proto(proto).graph
    (actual,) = double.evaluate(node, [data, weight, bias])
    np.testing.assert_allclose(actual, 2 * data.T @ weight.T + 0.5 * bias, rtol=1e-14)


def test_integers_are_divided_towards_zero(build_model: Any) -> None:
    proto = build_model("g (int64[2] x, int64[2] z) => (int64[2] y) { y = Div(x, z) }")
    (node,) = ir.from_proto(proto).graph
    (actual,) = double.evaluate(node, [i64(-7, 7), i64(2, 2)])
    assert actual.tolist() == [-3, 3]
    assert actual.dtype == np.int64


def test_an_operator_that_answers_in_less_than_float64_is_refused(build_model: Any) -> None:
    proto = build_model("g (float[2] x) => (float16[2] y) { y = Cast<to=10>(x) }")
    (node,) = ir.from_proto(proto).graph
    with pytest.raises(TypeError, match="Cast has no float64 reference"):
        double.evaluate(node, [np.zeros(2)])
