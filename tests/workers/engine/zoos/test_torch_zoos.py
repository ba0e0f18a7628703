"""torchvision and timm: listings, claims, random weights, and loading from a cache that the test fills."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision

from workers.engine.protocol import SubjectError, TransientError, UnsafeError, UsageError
from workers.engine.zoos import artifacts
from workers.engine.zoos.timm import TimmZoo
from workers.engine.zoos.torchvision import TorchvisionZoo


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (folder := tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return folder


@pytest.fixture
def hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants, file_download

    for module in (constants, file_download):
        if hasattr(module, "HF_HUB_CACHE"):
            monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_torchvision_lists_every_tag_of_every_classifier() -> None:
    listings = list(TorchvisionZoo().listings())
    assert {listing.name for listing in listings} == set(torchvision.models.list_models(module=torchvision.models))
    tags = [listing.weights for listing in listings if listing.name == "resnet50"]
    assert tags == ["IMAGENET1K_V1", "IMAGENET1K_V2", "none"]
    assert len({listing.ref for listing in listings}) == len(listings)
    assert [listing.ref for listing in listings if listing.name == "resnet50" and listing.default] == [
        "torchvision:resnet50@IMAGENET1K_V2"
    ]


def test_torchvision_claims_and_contract_come_from_the_enum() -> None:
    listing = TorchvisionZoo().describe("resnet50", "IMAGENET1K_V1")
    claims = {claim.metric: claim.value for claim in listing.claims}
    assert claims["top1"] == 0.7613
    assert claims["top5"] == 0.92862
    assert claims["parameters"] == 25_557_032
    assert claims["macs"] == pytest.approx(4.089e9)
    assert claims["bytes"] == round(97.781 * 2**20)
    assert listing.contract is not None
    assert (listing.contract.resize, listing.contract.crop) == (256, (224, 224))
    assert (listing.label_space, listing.classes, listing.architecture) == ("imagenet-1k", 1000, "resnet50")
    none = TorchvisionZoo().describe("resnet50", "none")
    assert {claim.metric for claim in none.claims} == {"parameters", "macs"}
    inception = TorchvisionZoo().describe("inception_v3", None).contract
    assert inception is not None
    assert (inception.resize, inception.height) == (342, 299)


@pytest.mark.parametrize(
    "name", ["resnet18", "inception_v3", "googlenet", "mobilenet_v3_small", "swin_t", "squeezenet1_1"]
)
def test_parameter_counts_equal_torchvisions_claims(name: str) -> None:
    zoo = TorchvisionZoo()
    model = zoo.load(zoo.describe(name, "none"))
    claims = {claim.metric: claim.value for claim in model.listing.claims}
    assert model.parameters == claims["parameters"]


@pytest.mark.parametrize(
    ("zoo", "name", "shape"),
    [
        (TorchvisionZoo(), "resnet50", (2, 3, 224, 224)),
        (TorchvisionZoo(), "vit_b_32", (2, 3, 224, 224)),
        (TorchvisionZoo(), "efficientnet_b0", (2, 3, 224, 224)),
        (TorchvisionZoo(), "convnext_tiny", (2, 3, 224, 224)),
        (TimmZoo(), "resnet50", (2, 3, 224, 224)),
        (TimmZoo(), "mobilenetv3_small_100", (2, 3, 224, 224)),
        (TimmZoo(), "vit_tiny_patch16_224", (2, 3, 224, 224)),
        (TimmZoo(), "swinv2_cr_tiny_ns_224", (2, 3, 224, 224)),
    ],
)
def test_random_weights_are_seeded_finite_and_alive(
    zoo: TorchvisionZoo | TimmZoo, name: str, shape: tuple[int, ...]
) -> None:
    first = zoo.load(zoo.describe(name, "none"))
    torch.rand(3)  # the global generator must not matter
    torch.manual_seed(7)
    before = torch.get_rng_state()
    second = zoo.load(zoo.describe(name, "none"))
    assert torch.equal(before, torch.get_rng_state())
    assert first.artifact == second.artifact
    assert not first.module.training
    with torch.no_grad():
        # Two inputs, so that a network whose signal has died (and answers with its biases alone) is seen.
        a, b = first.module(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(a).all()
    assert 1e-5 < a.std() < 1e3
    assert (a - b).std() > 1e-3 * a.std()


def test_batch_norm_is_the_identity_and_weights_are_not_constant() -> None:
    zoo = TorchvisionZoo()
    module = zoo.load(zoo.describe("resnet18", "none")).module
    assert torch.equal(module.bn1.weight, torch.ones(64))
    assert torch.equal(module.bn1.running_mean, torch.zeros(64))
    assert float(module.conv1.weight.detach().var()) * 147 == pytest.approx(1.0, rel=0.1)


def test_memory_artifacts_are_what_safetensors_writes() -> None:
    state = timm.create_model("mobilenetv3_small_050").state_dict()  # float32 and int64 tensors
    state |= {
        "half": torch.ones(3, dtype=torch.float16),
        "empty": torch.zeros(0),
        "Ünïcode": torch.ones((), dtype=torch.bool),
    }
    written = safetensors.torch.save(state)
    artifact = artifacts.of_state(state)
    assert (artifact.sha256, artifact.bytes) == (hashlib.sha256(written).hexdigest(), len(written))


def test_torchvision_loads_what_its_cache_holds(hub: Path) -> None:
    zoo = TorchvisionZoo()
    listing = zoo.describe("googlenet", None)
    made = torchvision.models.googlenet(init_weights=False)
    torch.save(made.state_dict(), file := hub / Path(torchvision.models.GoogLeNet_Weights.DEFAULT.url).name)
    model = zoo.load(listing)
    assert torch.equal(model.module.conv1.conv.weight, made.conv1.conv.weight)
    assert model.module.aux1 is None
    assert model.module.transform_input  # as torchvision builds it for its weights
    assert model.artifact.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert model.artifact.format == "torch"
    assert any("is not the published file" in note for note in model.notes)
    assert zoo.fetch(listing) == [file]


def test_torchvision_refuses_a_cached_file_with_code_or_cut_short(hub: Path) -> None:
    zoo = TorchvisionZoo()
    listing = zoo.describe("squeezenet1_1", None)
    file = hub / Path(torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url).name
    torch.save(torchvision.models.squeezenet1_1(), file)  # a whole pickled module
    with pytest.raises(UnsafeError, match=r"more than tensors .*GLOBAL torchvision\.models\.squeezenet") as refused:
        zoo.load(listing)
    assert refused.value.evidence["scan"]["severity"]
    torch.jit.script(torch.nn.Linear(1, 1)).save(file)
    with pytest.raises(UnsafeError, match="TorchScript"):
        zoo.load(listing)
    torch.save(torchvision.models.squeezenet1_1().state_dict(), file)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(SubjectError, match="cannot be read"):
        zoo.load(listing)
    torch.save({"wrong": torch.ones(1)}, file)
    with pytest.raises(SubjectError, match="cannot be built: RuntimeError: Error"):
        zoo.load(listing)


def test_timm_refuses_a_cached_file_with_code(hugging_face: Path) -> None:
    zoo = TimmZoo()
    listing = zoo.describe("resnet18", "gluon_in1k")
    folder = hugging_face / "models--timm--resnet18.gluon_in1k"
    (snapshot := folder / "snapshots" / "0").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0")
    torch.save(torch.nn.Linear(1, 1), snapshot / "pytorch_model.bin")  # a whole pickled module
    with pytest.raises(UnsafeError, match=r"more than tensors .*GLOBAL torch\.nn\.modules\.linear"):
        zoo.load(listing)


def test_missing_weights_are_one_sentence_with_the_folder_and_none(hub: Path, hugging_face: Path) -> None:
    for zoo, name, folder in ((TorchvisionZoo(), "resnet18", hub), (TimmZoo(), "resnet18", hugging_face)):
        listing = zoo.describe(name, None)
        with pytest.raises(TransientError) as caught:
            zoo.load(listing)
        assert str(folder) in caught.value.message
        assert f"{zoo.name}:{name}@none" in caught.value.message


def test_timm_lists_every_tag_without_building(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(timm, "create_model", refuse)
    listings = list(TimmZoo().listings())
    assert {listing.name for listing in listings} == set(timm.list_models())
    published = {f"{listing.name}.{listing.weights}" for listing in listings if listing.weights != "none"}
    assert published == set(timm.list_models(pretrained=True))
    names = [listing.name for listing in listings if listing.default]
    assert len(names) == len(set(names)) == len(timm.list_models())


def test_timm_reads_its_own_spelling_of_tags() -> None:
    zoo = TimmZoo()
    assert zoo.describe("resnet50.a1_in1k", None).ref == "timm:resnet50@a1_in1k"
    assert zoo.describe("resnet50", "a1_in1k") == zoo.describe("resnet50.a1_in1k", None)
    assert zoo.describe("resnet50", None).weights == timm.get_pretrained_cfg("resnet50").tag
    assert zoo.describe("resnet50.none", None).weights == "none"
    with pytest.raises(UsageError, match="names two weights tags"):
        zoo.describe("resnet50.a1_in1k", "none")


def test_timm_loads_what_the_hub_cache_holds(hugging_face: Path) -> None:
    zoo = TimmZoo()
    listing = zoo.describe("resnet10t", None)
    made = timm.create_model("resnet10t")
    folder = hugging_face / f"models--timm--resnet10t.{listing.weights}"
    (snapshot := folder / "snapshots" / "0").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0")
    safetensors.torch.save_file(made.state_dict(), file := snapshot / "model.safetensors")
    model = zoo.load(listing)
    assert torch.equal(model.module.fc.weight, made.fc.weight)
    assert model.artifact == artifacts.of_file(file, "safetensors")
    assert zoo.fetch(listing) == [file]


@pytest.mark.parametrize("zoo", [TorchvisionZoo(), TimmZoo()])
def test_unknown_names_and_tags_get_near_ones(zoo: TorchvisionZoo | TimmZoo) -> None:
    with pytest.raises(UsageError, match=r"no model 'resnet5O'. Did you mean .*resnet50"):
        zoo.describe("resnet5O", None)
    with pytest.raises(UsageError, match="has no weights tag 'IMAGENET'"):
        zoo.describe("resnet50", "IMAGENET")


def test_timm_border_crops_show_the_mean_colour_where_the_picture_ends() -> None:
    contract = TimmZoo().describe("deepseek_vit_412m", "none").contract
    assert contract is not None
    assert (contract.fit, contract.resize, contract.crop) == ("contain", (546, 546), (546, 546))
    assert contract.fill == tuple(round(255 * value) for value in contract.mean)


def test_a_transformer_without_weights_is_built_for_the_size_of_its_contract() -> None:
    zoo = TorchvisionZoo()
    found = zoo.structure(zoo.describe("vit_h_14", "none"))
    # torchvision's default weights of this network take 518 pixels, its constructor alone builds for 224.
    assert found.contract.height == found.module.image_size == 518
