"""Zoos of files: the ONNX Model Zoo (package and hub), a team's own folder, and bare files."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper

from workers.engine.protocol import SubjectError, TransientError, UnsafeError, UsageError
from workers.engine.zoos import onnx as onnx_zoo
from workers.engine.zoos.build_onnx_hub import entries
from workers.engine.zoos.file import FileZoo
from workers.engine.zoos.onnx import OnnxZoo
from workers.engine.zoos.registry import open_zoo

if TYPE_CHECKING:
    from collections.abc import Iterator

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
MANIFEST = Path(__file__).parents[4].parent / "shared" / "data" / "ONNX_HUB_MANIFEST.json"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOOAUDIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onnx"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A real HTTP server with a copy of one hub file, and an entry that has its digest."""
    entry = dict(onnx_zoo._hub_entries()["squeezenet1.1-7"])
    file = tmp_path / "hub" / entry["path"]
    file.parent.mkdir(parents=True)
    shutil.copy(LIGHT / "light_squeezenet.onnx", file)
    entry["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(onnx_zoo._hub_entries(), "squeezenet1.1-7", entry)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "hub"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("ZOOAUDIT_ONNX_HUB_URL", f"http://127.0.0.1:{server.server_port}")
    yield file
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_packages_networks_load_as_they_are() -> None:
    zoo = OnnxZoo()
    names = [listing.name for listing in zoo.listings() if listing.weights == "placeholder"]
    assert names == sorted(path.stem for path in LIGHT.glob("light_*.onnx"))
    assert len(names) == 9
    model = zoo.load(zoo.describe("light_resnet50", None))
    assert model.listing.ref == "onnx:light_resnet50@placeholder"
    assert model.listing.default
    content = (LIGHT / "light_resnet50.onnx").read_bytes()
    assert (model.artifact.sha256, model.artifact.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert model.contract.input_shape() == (1, 3, 224, 224)
    assert model.listing.contract is None  # the zoo documents none, and none is invented
    assert model.module is None
    assert model.onnx == LIGHT / "light_resnet50.onnx"


def test_hub_listings_carry_what_the_pages_say() -> None:
    zoo = OnnxZoo()
    listing = zoo.describe("resnet50-v1-12", None)
    assert {claim.metric: claim.value for claim in listing.claims} == {
        "bytes": 102_576_593,
        "top1": 0.7497,
        "top5": 0.9233,
    }
    assert listing.contract is not None
    assert (listing.contract.resize, listing.contract.crop, listing.contract.mean[0]) == ((256, 256), (224, 224), 0.485)
    assert zoo.describe("bvlcalexnet-9", None).contract is None
    assert zoo.describe("mnist-12", None).classes == 10


@pytest.mark.skipif(not MANIFEST.is_file(), reason=f"the hub's manifest is not at {MANIFEST}")
def test_the_shipped_data_is_what_the_script_makes_of_the_manifest() -> None:
    made = entries(json.loads(MANIFEST.read_text()))
    shipped = json.loads((Path(onnx_zoo.__file__).parent / "onnx_hub.json").read_text())
    assert shipped == made
    assert len(made) == 118
    assert len({entry["name"] for entry in made}) == 118


def test_fetch_downloads_checks_and_keeps(hub: Path, cache: Path) -> None:
    zoo = OnnxZoo()
    listing = zoo.describe("squeezenet1.1-7", None)
    with pytest.raises(TransientError, match=r"squeezenet1.1-7@default is not in"):
        zoo.load(listing)
    assert zoo.fetch(listing) == [cache / "squeezenet1.1-7.onnx"]
    assert (cache / "squeezenet1.1-7.onnx").read_bytes() == hub.read_bytes()
    hub.unlink()  # a second fetch asks no server
    assert zoo.fetch(listing) == [cache / "squeezenet1.1-7.onnx"]
    assert zoo.load(listing).artifact.sha256 == onnx_zoo._hub_entries()["squeezenet1.1-7"]["sha256"]


def test_fetch_refuses_other_bytes_and_leaves_nothing(hub: Path, cache: Path) -> None:
    hub.write_bytes(hub.read_bytes() + b"x")
    zoo = OnnxZoo()
    with pytest.raises(SubjectError, match=r"is not the published onnx:squeezenet1.1-7@default"):
        zoo.fetch(zoo.describe("squeezenet1.1-7", None))
    assert list(cache.iterdir()) == []


def test_fetch_says_where_it_asked_and_what_else_would_do(hub: Path, cache: Path) -> None:
    hub.unlink()
    zoo = OnnxZoo()
    with pytest.raises(TransientError, match=r"could not be downloaded from http://127.*404.*@none"):
        zoo.fetch(zoo.describe("squeezenet1.1-7", None))
    assert list(cache.iterdir()) == []


def test_onnx_names_and_tags() -> None:
    zoo = OnnxZoo()
    with pytest.raises(UsageError, match=r"Did you mean .*light_resnet50"):
        zoo.describe("light_resnet5", None)
    with pytest.raises(UsageError, match="no tag 'none'; use onnx:light_resnet50@placeholder"):
        zoo.describe("light_resnet50", "none")
    with pytest.raises(UsageError, match="no weights tag 'imagenet'"):
        zoo.describe("light_resnet50", "imagenet")


def test_bare_files_are_checked_and_keep_their_path_as_reference(tmp_path: Path) -> None:
    shutil.copy(LIGHT / "light_vgg19.onnx", path := tmp_path / "my@net.onnx")
    zoo = FileZoo()
    listing = zoo.describe(str(path), None)
    assert listing.ref == f"file:{path}"
    assert zoo.load(listing).contract.input_shape() == (1, 3, 224, 224)
    with pytest.raises(SubjectError, match="no file"):
        zoo.load(zoo.describe(str(tmp_path / "nothing.onnx"), None))
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(SubjectError, match="is no ONNX"):
        zoo.load(zoo.describe(str(tmp_path / "text.onnx"), None))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (["N", 3, "h", "w"], (1, 3, 224, 224)),
        ([1, 28, 28, 1], (1, 28, 28, 1)),
        ([1, 1, 8, 8], (1, 1, 8, 8)),
        ([1, 128], None),
        ([1, 7, 8, 8], None),
    ],
)
def test_input_shapes_of_bare_files(shape: list[int | str], expected: tuple[int, ...] | None, tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, ir_version=8), path := tmp_path / "a.onnx")
    listing = FileZoo().describe(str(path), None)
    if expected is None:
        with pytest.raises(SubjectError, match="only models of pictures"):
            FileZoo().load(listing)
    else:
        assert FileZoo().load(listing).contract.input_shape() == expected


ZOO = """
version = "7"

[models.tiny]
framework = "torch"
builder = "build.py:tiny"
arguments = { classes = 3 }
architecture = "tiny_net"
label_space = "shapes"
classes = 3
licence = "MIT"
[models.tiny.weights]
v1 = "w/tiny.safetensors"
bad = "w/tiny.pt"
escape = "../outside.safetensors"
[models.tiny.input]
height = 4
width = 4
colour = "grey"
scale = 0.0625
[models.tiny.claims.v1]
top1 = 0.5

[models.tinyk]
framework = "keras"
builder = "build.py:tiny_keras"
weights = { v1 = "w/tiny.weights.h5" }
input = { height = 4, width = 4, layout = "nhwc" }

[models.graph]
framework = "onnx"
architecture = "vgg19"
weights = { v1 = "w/graph.onnx" }
"""
BUILD = """
def tiny(classes):
    import torch
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, classes))

def tiny_keras():
    import keras
    inputs = keras.Input((4, 4, 3))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "team").mkdir()
    (folder / "zoo.toml").write_text(ZOO)
    (folder / "build.py").write_text(BUILD)
    (folder / "w").mkdir()
    return folder


def test_local_torch_models(folder: Path) -> None:
    zoo = open_zoo("team", folder)
    assert [listing.ref for listing in zoo.listings()][:2] == ["team:tiny@v1", "team:tiny@bad"]
    listing = zoo.describe("tiny", None)
    assert (listing.weights, listing.architecture, listing.label_space, listing.licence) == (
        "v1",
        "tiny_net",
        "shapes",
        "MIT",
    )
    assert [(claim.metric, claim.value) for claim in listing.claims] == [("top1", 0.5)]
    assert zoo.version() == "7"
    with pytest.raises(SubjectError, match=r"has no file .*tiny\.safetensors"):
        zoo.load(listing)
    made = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    safetensors.torch.save_file(made.state_dict(), folder / "w/tiny.safetensors")
    model = zoo.load(listing)
    assert torch.equal(model.module[2].weight, made[2].weight)
    assert (model.parameters, model.buffers, model.artifact.format) == (47, 0, "safetensors")
    assert model.contract.mean == (0.0,)
    none = zoo.load(zoo.describe("tiny", "none"))
    assert none.artifact != model.artifact
    assert none.artifact == zoo.load(zoo.describe("tiny", "none")).artifact


def test_local_weights_are_never_trusted(folder: Path) -> None:
    zoo = open_zoo("team", folder)
    torch.save({}, folder / "w/tiny.pt")
    with pytest.raises(UnsafeError, match="pickle"):
        zoo.load(zoo.describe("tiny", "bad"))
    safetensors.torch.save_file({"x": torch.ones(1)}, folder.parent / "outside.safetensors")
    with pytest.raises(UnsafeError, match="lies outside"):
        zoo.load(zoo.describe("tiny", "escape"))
    (folder / "w/tiny.safetensors").symlink_to(folder.parent / "outside.safetensors")
    with pytest.raises(UnsafeError, match="lies outside"):
        zoo.load(zoo.describe("tiny", "v1"))
    (folder / "w/tiny.safetensors").unlink()
    safetensors.torch.save_file({"x": torch.ones(1)}, folder / "w/tiny.safetensors")
    with pytest.raises(SubjectError, match="does not fit what the builder of team:tiny@v1 builds"):
        zoo.load(zoo.describe("tiny", "v1"))


def test_local_keras_and_onnx_models(folder: Path) -> None:
    zoo = open_zoo("team", folder)
    made = zoo.load(zoo.describe("tinyk", "none")).module
    made.set_weights([np.full(weights.shape, 0.5, np.float32) for weights in made.get_weights()])
    made.save_weights(folder / "w/tiny.weights.h5")
    model = zoo.load(zoo.describe("tinyk", None))
    np.testing.assert_array_equal(model.module.get_weights()[0], made.get_weights()[0])
    assert model.artifact.format == "hdf5"
    shutil.copy(LIGHT / "light_vgg19.onnx", folder / "w/graph.onnx")
    graph = zoo.load(zoo.describe("graph", None))
    assert graph.onnx == folder / "w/graph.onnx"
    assert graph.listing.architecture == "vgg19"
    with pytest.raises(UsageError, match="no weights tag 'none'"):
        zoo.describe("graph", "none")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('framework = "torch"', 'framework = "jax"', "must be one of torch, keras, onnx, not 'jax'"),
        ("label_space", "label_spaces", "Did you mean label_space"),
        ('"build.py:tiny"', '"build.py"', "must be 'file.py:function'"),
        ("height = 4\nwidth", "heigth = 4\nwidth", r"models\.tiny\.input is no input contract"),
        ("scale = 0.0625", "mean = [1.0, 2.0]", "mean has 2 values, but grey pictures have 1"),
        ("[models.tiny.claims.v1]", "[models.tiny.claims.v9]", "about no weights tag"),
        ("v1 =", "none =", "may not use the tag 'none'"),
        ('version = "7"', "version = ", "is no TOML"),
    ],
)
def test_faults_in_zoo_toml_are_named(before: str, after: str, reason: str, folder: Path) -> None:
    (folder / "zoo.toml").write_text(ZOO.replace(before, after, 1))
    with pytest.raises(UsageError, match=reason):
        open_zoo("team", folder)


def test_a_folder_without_zoo_toml_and_a_broken_builder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        open_zoo("team", tmp_path / "nothing")
    (folder / "build.py").write_text("import nothing_of_this_name")
    zoo = open_zoo("team", folder)
    with pytest.raises(SubjectError, match="fails with ModuleNotFoundError"):
        zoo.load(zoo.describe("tiny", "none"))
