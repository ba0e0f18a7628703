"""What each listing shows alone, and what native runtimes add, in whole sessions."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import onnx
import psutil
import pytest
import torch
from onnx import TensorProto, helper

from workers.engine.latency.points import Entry, OperatingPoint
from workers.engine.latency.session import measure
from workers.engine.protocol import SubjectError

pytestmark = pytest.mark.xdist_group("latency")

POINT = OperatingPoint("onnxruntime", batch=16)
MIB = 2**20


def run(entries, points, *, budget_s=1.0, **settings):
    session = measure(entries, points, budget_s=budget_s, margin=0.5, seed=0, progress=lambda *_: None, **settings)
    return session.to_json()["operating_points"]


class Chain(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        torch.manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(256, 256) / 16)
        self.layers = layers

    def forward(self, x):
        for _ in range(self.layers):
            x = x @ self.weight
        return x


def module():
    return Chain(20).eval()


class Greedy(Chain):
    def __init__(self, layers, mib):
        super().__init__(layers)
        self.mib = mib

    def forward(self, x):
        return super().forward(x) + torch.ones(self.mib * MIB // 4).sum() * 0


def greedy():
    return Greedy(20, 64).eval()


def forgetful():
    return torch.nn.Sequential(Chain(5), torch.nn.Dropout(0.5)).train()


def test_each_listing_has_its_settings_memory_and_throughput(chain, tmp_path):
    entries = [Entry("a", chain(20), None, (1, 256)), Entry("b", chain(10), None, (1, 256))]
    (point,) = run(entries, [POINT], scratch=tmp_path)
    assert point["settings"]["onnxruntime"]["graph_optimization"] == "all"
    assert point["settings"]["onnxruntime"]["spinning"] is False
    for entry in point["entries"]:
        assert entry["throughput"] == pytest.approx(16_000 / entry["median_ms"])
        assert 0 < entry["peak_rss_bytes"] < 200 * MIB
        assert entry["deterministic"] is True
        assert (entry["compile_ms"], entry["peak_device_bytes"], entry["freed_batch"]) == (None, None, False)
        assert (entry["runtime"], entry["input_type"]) == ("onnxruntime", "float32")
    assert list(tmp_path.glob("tmp*")) == []  # what was made on the way is gone


def test_the_peak_of_one_listing_is_not_that_of_the_other():
    entries = [Entry("greedy", None, greedy, (1, 256)), Entry("modest", None, module, (1, 256))]
    (point,) = run(entries, [OperatingPoint("torch")])
    first, second = (entry["peak_rss_bytes"] for entry in point["entries"])
    assert first >= 64 * MIB
    assert second < first - 32 * MIB


def test_a_fixed_batch_is_freed_where_the_graph_then_answers_the_same(chain):
    entries = [Entry("fixed", chain(5, batch=1), None, (1, 256)), Entry("free", chain(6), None, (1, 256))]
    one, eight = run(entries, [replace(POINT, batch=1), replace(POINT, batch=8)])
    assert [entry["freed_batch"] for entry in one["entries"]] == [False, False]
    assert [entry["freed_batch"] for entry in eight["entries"]] == [True, False]
    assert eight["excluded"] == []


def noisy(path):
    """Write a network that adds other noise at each call."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["noise"]), helper.make_node("Add", ["x", "noise"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 256]) for name in "xy"]
    graph = helper.make_graph(nodes, "noisy", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_outputs_that_change_from_call_to_call_are_told_and_timed(chain, tmp_path):
    steady = Entry("steady", chain(5), module, (1, 256))
    changing = Entry("changing", noisy(tmp_path / "noisy.onnx"), forgetful, (1, 256))
    for point in run([steady, changing], [POINT, OperatingPoint("torch", batch=16)]):
        assert [entry["deterministic"] for entry in point["entries"]] == [True, False]
        assert point["failures"] == []


def test_what_breaks_alone_breaks_no_block(chain):
    def broken():
        raise ValueError("no such layer")

    entries = [Entry(ref, chain(5), build, (1, 256)) for ref, build in (("a", module), ("b", module), ("c", broken))]
    (point,) = run(entries, [OperatingPoint("torch")])
    assert [entry["ref"] for entry in point["entries"]] == ["a", "b"]
    assert point["failures"] == []
    assert point["excluded"] == [{"ref": "c", "reason": "c broke while loading: ValueError: no such layer"}]


def gluttonous():
    return Greedy(20, 2048).eval()


def test_too_much_memory_is_found_alone():
    entries = [Entry("a", None, module, (1, 256)), Entry("b", None, gluttonous, (1, 256))]
    allowed = 2 * psutil.Process().memory_info().rss + 512 * MIB  # this process and its fork, and some more
    with pytest.raises(SubjectError, match=r"b broke while running batch 1: .*memory"):
        run(entries, [OperatingPoint("torch")], memory_bytes=allowed)


def test_a_native_point_tells_the_frameworks_share(chain):
    entries = [Entry("torch:a", chain(20), module, (1, 256)), Entry("onnx:a", chain(20), None, (1, 256))]
    common, native = run(entries, [POINT, OperatingPoint("native", batch=16)], budget_s=6.0)
    assert [entry["runtime"] for entry in native["entries"]] == ["torch", "onnxruntime"]
    assert set(native["settings"]) == {"torch", "onnxruntime"}
    assert common["pairs"][0]["framework"] is None
    framework = native["pairs"][0]["framework"]
    assert framework["common"] == "onnxruntime"
    assert framework["model_ratio"] == pytest.approx(common["pairs"][0]["ratio"], rel=0.05)
    assert framework["ratio"] == pytest.approx(native["pairs"][0]["ratio"] / common["pairs"][0]["ratio"], rel=0.05)
    # On a machine that others use, the budget may be spent by one block, which has no interval.
    assert framework["ci95"] is not None or min(common["blocks"], native["blocks"]) < 2
    low, high = framework["ci95"] or (0.0, math.inf)
    assert low <= framework["ratio"] <= high


def test_a_point_that_no_other_matches_has_no_framework(chain):
    entries = [Entry("torch:a", chain(20), module, (1, 256)), Entry("onnx:a", chain(20), None, (1, 256))]
    for other in (replace(POINT, batch=8), replace(POINT, threads=2)):
        _, native = run(entries, [other, OperatingPoint("native", batch=16)])
        assert native["pairs"][0]["framework"] is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiling_is_timed_once_cold_and_each_block_measures():
    entries = [Entry("a", None, module, (1, 256)), Entry("b", None, greedy, (1, 256))]
    (point,) = run(entries, [OperatingPoint("torch-compile")], budget_s=8.0)
    assert point["settings"]["torch-compile"]["compile_backend"] == "inductor"
    assert point["failures"] == []
    assert point["blocks"] >= 1
    for entry in point["entries"]:
        assert entry["compile_ms"] > 100 * entry["median_ms"]
        assert entry["first_call_ms"] < entry["compile_ms"] / 10
        assert np.isfinite(entry["median_ms"])
