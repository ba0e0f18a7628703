"""One counter, checked against what torchvision publishes and against what is known of each deviation."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.engine.graph.canonical import canonicalise
from workers.engine.graph.export import export_module, export_structure

DEVIATIONS = tomllib.loads(
    (Path(__file__).parents[4] / "benchmarks" / "architecture" / "deviations.toml").read_text(encoding="utf-8")
)
"""What is published otherwise than it is counted, with its reason; the benchmark reads the same file."""

AS_PUBLISHED = {"parameters": 0, "gmacs": 0.0}


def counts_of(name: str, folder: Path) -> tuple[dict[str, int], dict[str, Any], Any]:
    import torchvision

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    module = torchvision.models.get_model(name, weights=None, **options).eval()
    size = 299 if name == "inception_v3" else 224
    path = folder / f"{name}.onnx"
    export_module(module, (1, 3, size, size), path)
    meta = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta
    return canonicalise(path).counts, meta, module


def check_totals(name: str, counts: dict[str, int], meta: dict[str, Any]) -> None:
    known = DEVIATIONS.get(name, AS_PUBLISHED)
    assert counts["parameters"] == meta["num_params"] + known["parameters"]
    assert counts["macs"] / 1e9 == pytest.approx(meta["_ops"] + known["gmacs"], abs=0.0006)


def check_structure(name: str) -> None:
    import torchvision

    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    size = weights.transforms.keywords["crop_size"]
    graph = export_structure(lambda: torchvision.models.get_model(name, weights=None), (1, 3, size, size))
    check_totals(name, graph.counts, weights.meta)


def check(name: str, folder: Path) -> None:
    counts, meta, module = counts_of(name, folder)
    check_totals(name, counts, meta)
    assert counts["flops"] == 2 * counts["macs"]
    served = [tensor for key, tensor in module.named_buffers() if "aux" not in key.lower()]
    # num_batches_tracked is a training counter, not state that the network computes with.
    assert counts["buffers"] == sum(tensor.numel() for tensor in served if tensor.is_floating_point())


@pytest.mark.parametrize("name", ["squeezenet1_0", "alexnet", "mobilenet_v2"])
def test_counts_agree_with_torchvision(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "vgg16", "densenet121", "googlenet", "inception_v3", "efficientnet_b0"])
def test_counts_agree_with_torchvision_for_larger_models(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.parametrize(
    "name",
    ["shufflenet_v2_x0_5", "regnet_y_400mf", "mobilenet_v3_small", "resnext50_32x4d", "convnext_tiny", "vit_b_32"],
)
def test_counts_without_weights_agree_with_torchvision(name: str) -> None:
    check_structure(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_t", "swin_v2_t", "maxvit_t"])
def test_tables_and_masks_that_the_export_computes_are_no_parameters(name: str) -> None:
    check_structure(name)


def test_a_file_keeps_what_its_tensors_were(tmp_path: Path) -> None:
    import torch
    from torch import nn

    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(9, 2))
            self.scale = nn.Parameter(torch.randn(3, 3))
            self.register_buffer("index", torch.randint(9, (4, 4)))
            self.register_buffer("mean", torch.randn(4, 1))
            self.register_buffer("passing", torch.randn(4, 1), persistent=False)
            self.tied = self.same = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bias = torch.sigmoid(self.table @ (self.scale[:2, :2] + 1))[self.index]  # 16 pairs of positions out of 9
            mask = torch.triu(torch.full((4, 4), -100.0), 1)
            return self.same(self.tied(x - self.mean) + bias.sum(-1) + mask + self.passing)

    path = tmp_path / "biased.onnx"
    export_module(Biased(), (1, 2, 4, 4), path)
    counts = canonicalise(path).counts
    assert (counts["parameters"], counts["buffers"]) == (9 * 2 + 9 + 4 * 4 + 4, 4)


def test_onnx_zoo_counts_equal_the_published_architecture(light: Any) -> None:
    # FACTS: 25,557,032 parameters and 53,120 moving statistics, whatever the exporter left behind.
    counts = canonicalise(light / "light_resnet50.onnx").counts
    assert (counts["parameters"], counts["buffers"]) == (25_557_032, 53_120)
    assert canonicalise(light / "light_vgg19.onnx").counts["parameters"] == 143_667_240


def test_per_node_counts_sum_up_and_stay_with_their_layer(light: Any) -> None:
    graph = canonicalise(light / "light_squeezenet.onnx")
    for key in ("parameters", "buffers", "macs", "flops", "activations"):
        assert sum(node.counts.get(key, 0) for node in graph.nodes) == graph.counts[key]
    first = next(node for node in graph.nodes if node.op == "Conv")
    assert first.counts["parameters"] == 64 * 3 * 3 * 3 + 64
    assert first.counts["macs"] == 64 * 111 * 111 * 27
    assert first.counts["activations"] == 64 * 111 * 111


def test_merged_vectors_count_at_every_use_and_tied_matrices_once(build_model: Any, save_model: Any) -> None:
    text = """g (float[1,4] x) => (float[1,4] y) {
      a = Gemm<transB=1>(x, k, q) b = Relu(a) c = Gemm<transB=1>(b, k, q) d = Mul(c, s) y = Mul(d, half) }"""
    ones = np.ones(4, np.float32)
    proto = build_model(text, k=np.ones((4, 4), np.float32), q=ones, s=ones, half=np.float32(0.5))
    # 16 of the tied matrix, 4 of each of the two biases that an exporter merged, 4 of the scale; 0.5 is a literal.
    assert canonicalise(save_model(proto)).counts["parameters"] == 16 + 4 + 4 + 4


def test_grouped_and_transposed_convolutions(build_model: Any, save_model: Any) -> None:
    text = """g (float[1,4,8,8] x) => (float[1,6,10,10] y) {
      a = Conv<group=2, pads=[1,1,1,1]>(x, k) y = ConvTranspose(a, t) }"""
    proto = build_model(text, k=np.ones((4, 2, 3, 3), np.float32), t=np.ones((4, 6, 3, 3), np.float32))
    assert canonicalise(save_model(proto)).counts["macs"] == 4 * 64 * 2 * 9 + 4 * 64 * 6 * 9


def test_einsum_counts_every_combination_of_its_indices(build_model: Any, save_model: Any) -> None:
    text = """g (float[2,3,4] x, float[2,5,4] z) => (float[2,3,5] y) {
      y = Einsum<equation="b i d, b j d -> b i j">(x, z) }"""
    # The batch of 2 is one picture's share twice.
    assert canonicalise(save_model(build_model(text))).counts["macs"] == 3 * 5 * 4
