"""Export without weights: the same canonical graph as with them, and no memory for what is large."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from torch._subclasses.fake_tensor import FakeTensor

from workers.engine.graph import shortcuts
from workers.engine.graph.canonical import canonicalise
from workers.engine.graph.compare import compare
from workers.engine.graph.embedding import DIMENSIONS
from workers.engine.graph.export import export_module, export_structure
from workers.engine.graph.passes import rewriting as rw
from workers.engine.operations import find
from workers.engine.zoos.absent_weights import build_absent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def timm_model(name: str) -> Any:
    import timm

    return timm.create_model(name)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 64),
        ("mobilenetv3_small_050", 64),
        ("convnext_atto", 64),
        ("vit_tiny_patch16_224", 224),
        pytest.param("efficientnet_b0", 64, marks=pytest.mark.slow),
        pytest.param("hrnet_w18_small", 64, marks=pytest.mark.slow),
        pytest.param("levit_128s", 224, marks=pytest.mark.slow),
    ],
)
def test_structure_is_the_full_export_s(name: str, size: int, tmp_path: Path) -> None:
    absent = export_structure(lambda: timm_model(name), (1, 3, size, size))
    export_module(timm_model(name), (1, 3, size, size), tmp_path / "model.onnx")
    full = canonicalise(tmp_path / "model.onnx")
    assert absent.fingerprint == full.fingerprint
    assert compare(absent, full)["differences"] == []
    assert absent.to_json() == full.to_json()


class _Shared(torch.nn.Module):
    """Writes in place into a tensor that a view still reads, which only a second trace rewrites correctly."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        view = y.view(1, -1)
        y.add_(1)
        return view.reshape(x.shape) + torch.relu(y)


class _Private(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)
        self.norm.running_mean = torch.tensor([0.5, -0.5, 0.1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.silu(self.norm(x), inplace=True)
        y += x
        pooled = torch.nn.functional.adaptive_avg_pool2d(y, 1)
        return pooled.reshape_as(pooled) + y.to(torch.float32)


class _Windows(torch.nn.Module):
    """Attention on five axes, windows as one of their own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.reshape(1, 3, 2, 8, 4)
        return torch.nn.functional.scaled_dot_product_attention(y, y * 0.5, y + 1)


class _Standardised(torch.nn.Module):
    """Weights normalised by a batch-norm without statistics, and operators that only a rewrite lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 3, 3, 3))
        self.gain = torch.nn.Parameter(torch.rand(4) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.reshape(1, 4, -1)
        norm = torch.nn.functional.batch_norm(flat, None, None, weight=self.gain, training=True, momentum=0.0)
        return torch.nn.functional.conv2d(x, norm.reshape_as(self.weight)).square().to(x.device)


MODULES = (_Shared(), _Private(), _Windows(), _Standardised())


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_lowered_program_computes_the_same(module: torch.nn.Module, tmp_path: Path) -> None:
    module.eval()
    path = tmp_path / "model.onnx"
    export_module(module, (1, 3, 8, 8), path)
    given = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: given})
    with torch.no_grad():
        np.testing.assert_allclose(found, module(torch.from_numpy(given)).numpy(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(torchvision.models.shufflenet_v2_x0_5, id="shufflenet"),  # parts of a sequence
        pytest.param(lambda: timm_model("edgenext_xx_small"), id="edgenext", marks=pytest.mark.slow),
        pytest.param(lambda: timm_model("res2net50_26w_4s"), id="res2net", marks=pytest.mark.slow),
        pytest.param(lambda: timm_model("swiftformer_xs"), id="swiftformer", marks=pytest.mark.slow),
        pytest.param(lambda: timm_model("levit_128s"), id="levit", marks=pytest.mark.slow),
    ],
)
def test_exported_file_loads_and_agrees_with_torch(build: Callable[[], torch.nn.Module], tmp_path: Path) -> None:
    module = build().eval()
    export_module(module, (1, 3, 224, 224), tmp_path / "model.onnx")
    given = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: given})
    with torch.no_grad():
        expected = module(torch.from_numpy(given)).numpy()
    assert np.sqrt(np.mean((found - expected) ** 2)) < 1e-5 * np.sqrt(np.mean(expected**2))


class _Tiled(torch.nn.Module):
    """Repeats and resizes a large weight: the shapes need the sizes, and no element of the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.ones(1, 3, 40, 40))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.table.tile(1, 1, 2, 2) + torch.nn.functional.interpolate(self.table, size=(80, 80))


def test_shapes_computed_from_an_absent_weight(tmp_path: Path) -> None:
    absent = export_structure(_Tiled, (1, 3, 80, 80))
    export_module(_Tiled(), (1, 3, 80, 80), tmp_path / "model.onnx")
    assert absent.to_json() == canonicalise(tmp_path / "model.onnx").to_json()
    assert {node.shape for node in absent.nodes} == {(1, 3, 80, 80)}


@pytest.mark.parametrize("shortcut", shortcuts.SHORTCUTS, ids=lambda shortcut: shortcut.__name__)
def test_without_a_shortcut_the_graph_is_the_same(shortcut: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved() -> Any:
        raise AttributeError

    swift = export_structure(lambda: timm_model("resnet18"), (1, 3, 64, 64))
    left = tuple(moved if each is shortcut else each for each in shortcuts.SHORTCUTS)
    monkeypatch.setattr(shortcuts, "SHORTCUTS", left)
    assert export_structure(lambda: timm_model("resnet18"), (1, 3, 64, 64)).to_json() == swift.to_json()


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv3_small_050",
        pytest.param("swiftformer_xs", marks=pytest.mark.slow),  # mixed types
        pytest.param("poolformerv2_s12", marks=pytest.mark.slow),  # squares
        pytest.param("edgenext_xx_small", marks=pytest.mark.slow),  # positions computed from integers
        pytest.param("resnetv2_50x1_bit", marks=pytest.mark.slow),  # standardised weights
    ],
)
def test_without_any_shortcut_the_graph_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    swift = export_structure(lambda: timm_model(name), (1, 3, 224, 224))
    monkeypatch.setattr(shortcuts, "SHORTCUTS", ())
    assert export_structure(lambda: timm_model(name), (1, 3, 224, 224)).to_json() == swift.to_json()


def test_large_weights_are_absent_and_what_decides_is_real() -> None:
    module = build_absent(lambda: timm_model("swin_tiny_patch4_window7_224"))
    assert all(isinstance(value, FakeTensor) == (value.numel() > rw.EAGER_ELEMENTS) for value in module.parameters())
    tables = [value for name, value in module.named_buffers() if "relative_position_index" in name]
    assert tables
    assert not any(isinstance(table, FakeTensor) for table in tables)


class _Scaled(torch.nn.Module):
    """Multiplies by one element of a large weight: that number is part of the canonical graph."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(100, 100))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.table[0, 0]


def test_structure_that_depends_on_a_large_weight_is_refused() -> None:
    with pytest.raises(rw.AbsentValueError, match="which was exported without weights"):
        export_structure(_Scaled, (1, 3, 8, 8))


@pytest.mark.parametrize(
    ("zoo", "name", "weights", "expected"),
    [
        ("torchvision", "squeezenet1_1", "IMAGENET1K_V1", 1_235_496),
        ("timm", "resnet18", "a1_in1k", 11_689_512),
    ],
)
def test_operation_structure_needs_no_weights(zoo: str, name: str, weights: str, expected: int, tmp_path: Path) -> None:
    subject = {"ref": f"{zoo}:{name}@{weights}", "zoo": zoo, "name": name, "weights": weights, "folder": None}
    result = find("structure")({"subject": subject}, tmp_path, lambda *_: None)
    found = result.result
    assert (found["weights"], found["parameters"], found["counts"]["parameters"]) == ("absent", expected, expected)
    assert len(found["vector"]) == DIMENSIONS
    assert found["cost"]["processor_seconds"] > 0
    assert found["cost"]["peak_bytes"] > 2**27
    assert found["listing"]["ref"] == subject["ref"]


_SEVEN_BILLION = """
import json, sys
import torch
from torch import nn
from workers.engine.graph.export import export_structure

WIDTH, INNER, HEADS, LAYERS, WORDS = 4096, 11008, 32, 32, 32000

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.after = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(WIDTH, INNER, bias=False), nn.Linear(WIDTH, INNER, bias=False)
        self.down = nn.Linear(INNER, WIDTH, bias=False)

    def forward(self, x):
        y = self.before(x)
        q, k, v = (f(y).reshape(1, -1, HEADS, WIDTH // HEADS).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(x.shape))
        y = self.after(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))

class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.last, self.head = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, tokens):
        x = self.words(tokens.long())
        for layer in self.layers:
            x = layer(x)
        return self.head(self.last(x))

graph = export_structure(Decoder, (1, 16))
# Not ru_maxrss: that also counts what the parent held when it started this process.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print(json.dumps({"parameters": graph.counts["parameters"], "fingerprint": graph.fingerprint, "peak": peak}))
"""


@pytest.mark.slow
def test_seven_billion_parameters_in_two_gigabytes() -> None:
    done = subprocess.run([sys.executable, "-c", _SEVEN_BILLION], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    # LLaMA-7B: two vocabularies, 32 layers of 4 square and 3 oblong matrices, 65 norms.
    published = 2 * 32000 * 4096 + 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 65 * 4096
    # The causal mask that the export computes is no parameter.
    assert found["parameters"] == published
    assert len(found["fingerprint"]) == 64
    assert found["peak"] < 2e9
