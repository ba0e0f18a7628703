"""Every format gives the pictures and labels that were written, and one model's answers through all of them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy.io import savemat

from workers.engine.accuracy import digits, labels
from workers.engine.accuracy.datasets import FORMATS, Dataset, open_dataset
from workers.engine.accuracy.inference import Inference
from workers.engine.accuracy.runners import Execution
from workers.engine.contracts.contract import Contract

if TYPE_CHECKING:
    from pathlib import Path
    from types import SimpleNamespace

    from workers.engine.accuracy.predictions import Predictions

RNG = np.random.default_rng(5)
COLOUR = RNG.integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (11, 5, 7), dtype=np.uint8)
LABELS = [3, 0, 9, 9, 1, 2, 8, 0, 4, 6, 5]
SYNSETS = labels.names("imagenet-1k")
DIGIT_NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def check(dataset: Dataset, images: np.ndarray, expected: list[int]) -> None:
    """Compare every picture and label, from every start, and the digests of both ways to read."""
    assert (dataset.n, len(dataset)) == (len(expected), len(expected))
    found = [(np.asarray(picture), label) for picture, label in dataset]
    assert [label for _, label in found] == expected
    for (picture, _), image in zip(found, images, strict=True):
        assert picture.shape == image.shape
        assert (picture == image).all()
    read = dataset.digest()
    whole = list(dataset.raw())
    for start in range(len(expected) + 1):
        assert list(dataset.raw(start)) == whole[start:]
    items = np.stack([np.frombuffer(dataset.item_digest(*item), dtype=np.uint8) for item in whole])
    assert dataset.joined_digest(items) == read


def pngs(write: SimpleNamespace, images: np.ndarray = COLOUR) -> list[bytes]:
    return [write.encoded(image) for image in images]


@pytest.mark.parametrize("split", ["test", "train"])
def test_cifar_10(write: SimpleNamespace, tmp_path: Path, split: str) -> None:
    dataset = open_dataset(write.cifar_10(tmp_path, COLOUR, LABELS, split=split))
    order = [n for batch in range(5) for n in range(batch, 11, 5)] if split == "train" else list(range(11))
    check(dataset, COLOUR[order], [LABELS[n] for n in order])
    assert (dataset.classes, dataset.label_space) == (10, None)


def test_cifars_own_names_are_its_label_space(write: SimpleNamespace, tmp_path: Path) -> None:
    spec = write.cifar_10(tmp_path, COLOUR, LABELS, names=labels.names("cifar-10"))
    assert open_dataset(spec).label_space == "cifar-10"


def cifar_100(write: SimpleNamespace, root: Path, fine: np.ndarray) -> dict[str, Any]:
    _, above = labels.superclasses("cifar-100")
    names = {"names": labels.names("cifar-100"), "coarse_names": labels.names("cifar-100-coarse")}
    return write.cifar_100(root, COLOUR, fine, above[fine], **names)


def test_cifar_100_by_fine_and_by_coarse_labels(write: SimpleNamespace, tmp_path: Path) -> None:
    fine = RNG.integers(0, 100, 11)
    spec = cifar_100(write, tmp_path, fine)
    check(open_dataset(spec), COLOUR, fine.tolist())
    coarse = open_dataset(spec | {"options": {"labels": "coarse"}})
    check(coarse, COLOUR, labels.superclasses("cifar-100")[1][fine].tolist())
    assert (open_dataset(spec).label_space, open_dataset(spec).classes) == ("cifar-100", 100)
    assert (coarse.label_space, coarse.classes) == ("cifar-100-coarse", 20)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("prefix", "split"), [("t10k", "test"), ("train", "train")])
def test_mnist(write: SimpleNamespace, tmp_path: Path, suffix: str, prefix: str, split: str) -> None:
    spec = write.mnist(tmp_path, GREY, LABELS, prefix=prefix, suffix=suffix) | {"options": {"split": split}}
    check(open_dataset(spec), GREY, LABELS)
    assert open_dataset(spec).label_space is None


def test_mnist_is_digested_alike_packed_and_plain(write: SimpleNamespace, tmp_path: Path) -> None:
    specs = [write.mnist(tmp_path / name, GREY, LABELS, suffix=name) for name in ("", ".gz")]
    assert len({open_dataset(spec).digest() for spec in specs}) == 1


@pytest.mark.parametrize("as_struct", [True, False])
def test_parquet(write: SimpleNamespace, tmp_path: Path, as_struct: bool) -> None:  # noqa: FBT001
    spec = write.parquet(tmp_path / "p.parquet", pngs(write), LABELS, as_struct=as_struct)
    check(open_dataset(spec), COLOUR, LABELS)


def test_a_folder_of_parquet_files_by_other_columns(write: SimpleNamespace, tmp_path: Path) -> None:
    for name, rows in (("b", slice(6, 11)), ("a", slice(0, 6))):
        made = write.table(pngs(write)[rows], LABELS[rows]).rename_columns(["id", "img", "fine_label"])
        pa.parquet.write_table(made, tmp_path / f"{name}.parquet")
    options = {"image_column": "img", "label_column": "fine_label"}
    spec = {"name": "p", "format": "parquet", "path": str(tmp_path), "options": options}
    check(open_dataset(spec), COLOUR, LABELS)


def test_class_names_in_a_schema_give_the_label_space(write: SimpleNamespace, tmp_path: Path) -> None:
    spec = write.parquet(tmp_path / "p.parquet", pngs(write), LABELS, names=labels.names("cifar-10"))
    dataset = open_dataset(spec)
    assert (dataset.label_space, dataset.classes) == ("cifar-10", 10)


def test_names_as_labels_need_a_space_that_knows_them(write: SimpleNamespace, tmp_path: Path) -> None:
    names = [SYNSETS[label * 111] for label in LABELS]
    spec = write.parquet(tmp_path / "p.parquet", pngs(write), names) | {"label_space": "imagenet-1k"}
    check(open_dataset(spec), COLOUR, [label * 111 for label in LABELS])


def test_hugging_face_shards_by_split(write: SimpleNamespace, tmp_path: Path) -> None:
    spec = write.hub(tmp_path, pngs(write), LABELS, shards=3)
    check(open_dataset(spec), COLOUR, LABELS)
    write.hub(tmp_path, pngs(write)[:2], LABELS[:2], split="train", shards=1)
    check(open_dataset(spec | {"options": {"split": "train"}}), COLOUR[:2], LABELS[:2])


def test_hugging_face_saved_to_disk(write: SimpleNamespace, tmp_path: Path) -> None:
    spec = write.saved(tmp_path / "one", pngs(write), LABELS)
    check(open_dataset(spec), COLOUR, LABELS)
    write.saved(tmp_path / "many" / "test", pngs(write), LABELS)
    (tmp_path / "many" / "dataset_dict.json").write_text('{"splits": ["test"]}')
    check(open_dataset(spec | {"path": str(tmp_path / "many")}), COLOUR, LABELS)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_hugging_face_pictures_with_metadata(write: SimpleNamespace, tmp_path: Path, kind: str) -> None:
    check(open_dataset(write.metadata(tmp_path / "a", pngs(write), LABELS, kind=kind)), COLOUR, LABELS)
    names = [labels.names("cifar-10")[label] for label in LABELS]
    spec = write.metadata(tmp_path / "b", pngs(write), names, kind=kind) | {"label_space": "cifar-10"}
    check(open_dataset(spec), COLOUR, LABELS)


def test_pictures_are_decoded_alike_from_every_container(write: SimpleNamespace, tmp_path: Path) -> None:
    jpegs = [write.encoded(image, "JPEG") for image in COLOUR]
    specs = [
        write.parquet(tmp_path / "p.parquet", jpegs, LABELS),
        write.hub(tmp_path / "h", jpegs, LABELS),
        write.saved(tmp_path / "s", jpegs, LABELS),
        write.metadata(tmp_path / "m", jpegs, LABELS),
    ]
    expected = np.stack([np.asarray(Image.open(io.BytesIO(raw))) for raw in jpegs])
    for spec in specs:
        check(open_dataset(spec), expected, LABELS)
    assert len({open_dataset(spec).digest() for spec in specs}) == 1


ORDER = RNG.permutation(1000)
"""The synset of the devkit's id i + 1: not the sorted order."""


def meta(path: Path) -> Path:
    """Write a meta.mat like the devkit's: classes in the order of their ids, then inner nodes."""
    kinds = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")]
    rows = [(n + 1, SYNSETS[place], "words", "gloss", 0) for n, place in enumerate(ORDER)]
    rows.append((1001, "n00001740", "entity", "gloss", 2))
    savemat(path, {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    return path


def test_imagenet_flat_by_ids_through_the_devkits_order(write: SimpleNamespace, tmp_path: Path) -> None:
    classes = [int(ORDER[number]) for number in range(0, 1000, 91)]
    spec = write.flat(tmp_path, pngs(write), list(range(1, 1001, 91)))
    lines = tmp_path / "synsets.txt"
    lines.write_text("\n".join(SYNSETS[place] for place in ORDER))
    for file in (meta(tmp_path / "meta.mat"), lines):
        dataset = open_dataset(spec | {"options": spec["options"] | {"synsets": str(file)}})
        check(dataset, COLOUR, classes)
        assert (dataset.label_space, dataset.classes) == ("imagenet-1k", 1000)


def test_imagenet_flat_by_synsets(write: SimpleNamespace, tmp_path: Path) -> None:
    spec = write.flat(tmp_path, pngs(write), [SYNSETS[label * 7] for label in LABELS])
    check(open_dataset(spec), COLOUR, [label * 7 for label in LABELS])


def test_class_folders_named_by_some_synsets_are_mapped(write: SimpleNamespace, tmp_path: Path) -> None:
    imagenette = {"n01440764": 0, "n02102040": 217, "n03028079": 497, "n03888257": 701}
    spec = write.folders(tmp_path, pngs(write)[:4], list(imagenette))
    for stated in ({}, {"label_space": "imagenet-1k"}):
        dataset = open_dataset(spec | stated)
        check(dataset, COLOUR[:4], list(imagenette.values()))
        assert (dataset.label_space, dataset.classes) == ("imagenet-1k", 1000)
    background = open_dataset(spec | {"label_space": "imagenet-1k-background"})
    assert [label for _, label in background] == [label + 1 for label in imagenette.values()]
    own = open_dataset(spec | {"label_space": "imagenette"})
    assert ([label for _, label in own], own.classes) == ([0, 1, 2, 3], 4)


def test_all_synsets_are_imagenet(write: SimpleNamespace, tmp_path: Path) -> None:
    picture = write.encoded(GREY[0])
    dataset = open_dataset(write.folders(tmp_path, [picture] * 1000, list(SYNSETS)))
    assert dataset.label_space == "imagenet-1k"
    assert [label for _, label in dataset] == list(range(1000))


def test_class_folders_named_by_numbers_are_class_indices(write: SimpleNamespace, tmp_path: Path) -> None:
    # As in ImageNet-V2, where sorting the names as text would give other classes.
    spec = write.folders(tmp_path, pngs(write)[:4], ["0", "2", "10", "100"])
    dataset = open_dataset(spec | {"label_space": "imagenet-1k"})
    assert sorted(label for _, label in dataset) == [0, 2, 10, 100]
    assert open_dataset(spec).classes == 101


def test_cifar_100_superclasses_are_the_published_ones() -> None:
    # The table of https://www.cs.toronto.edu/~kriz/cifar.html as class indices, from another reader of it.
    expected = [
        [4, 30, 55, 72, 95], [1, 32, 67, 73, 91], [54, 62, 70, 82, 92], [9, 10, 16, 28, 61], [0, 51, 53, 57, 83],
        [22, 39, 40, 86, 87], [5, 20, 25, 84, 94], [6, 7, 14, 18, 24], [3, 42, 43, 88, 97], [12, 17, 37, 68, 76],
        [23, 33, 49, 60, 71], [15, 19, 21, 31, 38], [34, 63, 64, 66, 75], [26, 45, 77, 79, 99], [2, 11, 35, 46, 98],
        [27, 29, 44, 78, 93], [36, 50, 65, 74, 80], [47, 52, 56, 59, 96], [8, 13, 48, 58, 90], [41, 69, 81, 85, 89],
    ]  # fmt: skip
    space, above = labels.superclasses("cifar-100")
    assert [np.flatnonzero(above == place).tolist() for place in range(20)] == expected
    assert len(labels.names(space)) == 20


def test_the_synsets_are_timms() -> None:
    from timm.data import ImageNetInfo

    assert tuple(ImageNetInfo("imagenet-1k").label_names()) == SYNSETS
    assert list(SYNSETS) == sorted(SYNSETS)


def test_the_service_knows_the_same_formats_options_and_mappings() -> None:
    from app.api.datasets import DatasetOptions
    from app.domain import datasets

    assert {name: item.options for name, item in datasets.FORMATS.items()} == {
        name: options for name, options in FORMATS.items() if name != "digits"
    }
    assert {option for options in FORMATS.values() for option in options} == set(DatasetOptions.model_fields)
    sizes = labels.SPACES.items()
    for model, dataset in ((a, b) for a in sizes for b in sizes):
        try:
            labels.mapping(*model, *dataset)
        except labels.UsageError:
            assert not datasets.fits(model[0], dataset[0])
        else:
            assert datasets.fits(model[0], dataset[0])


def linear(path: Path, weights: np.ndarray, shape: tuple[int, ...]) -> Path:
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def answers(model: Path, dataset: Dataset, contract: Contract, space: str) -> Predictions:
    running = Execution(batch=32)
    return Inference(model, contract, dataset, running, progress=lambda *_: None, label_space=space).predict()


def digits_weights() -> np.ndarray:
    """Least squares on the half of the digits that is no test: right far more often than chance."""
    images, right = digits.part("train")
    return np.linalg.lstsq(images.reshape(-1, 64) / 255, np.eye(10)[right], rcond=None)[0]


def test_a_digits_model_answers_alike_through_every_format(write: SimpleNamespace, tmp_path: Path) -> None:
    images, right = (array[:80] for array in digits.part("test"))
    written = [write.encoded(image) for image in images]
    large = np.repeat(np.repeat(images, 4, axis=1), 4, axis=2)[..., None].repeat(3, axis=3)
    np.savez(tmp_path / "d.npz", images=images, labels=right)
    names = {"names": DIGIT_NAMES, "coarse_names": ["low", "high"]}
    specs = [
        {"format": "npz", "path": str(tmp_path / "d.npz")},
        write.mnist(tmp_path / "m", images, right),
        write.mnist(tmp_path / "mz", images, right, suffix=".gz"),
        write.cifar_10(tmp_path / "c10", large, right, names=DIGIT_NAMES),
        write.cifar_100(tmp_path / "c100", large, right, right // 5, **names),
        write.parquet(tmp_path / "p.parquet", written, right.tolist()),
        write.hub(tmp_path / "h", written, right.tolist()),
        write.saved(tmp_path / "s", written, right.tolist()),
        write.metadata(tmp_path / "i", written, right.tolist()),
        write.folders(tmp_path / "f", written, [str(label) for label in right]),
    ]
    contract = Contract(8, 8, (8, 8), interpolation="nearest", colour="grey", mean=(0.0,), std=(1.0,))
    weights = digits_weights()
    model = linear(tmp_path / "m.onnx", weights, (1, 8, 8))
    expected = answers(model, open_dataset({"format": "digits"}), contract, "digits")
    assert (expected.classes[:, 0] == expected.labels).mean() > 0.85
    for spec in specs:
        found = answers(model, open_dataset(spec | {"label_space": "digits"}), contract, "digits")
        order = np.argsort(right, kind="stable") if spec["format"] == "folder" else np.arange(80)
        assert (found.labels == expected.labels[:80][order]).all(), spec
        assert (found.classes == expected.classes[:80][order]).all(), spec
        assert found.scores == pytest.approx(expected.scores[:80][order], abs=1e-6), spec

    # The same network as an ImageNet model whose first ten classes are the digits.
    wide = linear(tmp_path / "wide.onnx", np.hstack([weights, np.full((64, 990), -9.0)]), (1, 8, 8))
    synsets = [SYNSETS[label] for label in right]
    for spec in (write.flat(tmp_path / "v", written, synsets), write.folders(tmp_path / "syn", written, synsets)):
        found = answers(wide, open_dataset(spec), contract, "imagenet-1k")
        order = np.argsort(right, kind="stable") if spec["format"] == "folder" else np.arange(80)
        assert (found.labels == expected.labels[:80][order]).all(), spec
        assert (found.classes == expected.classes[:80][order]).all(), spec


def test_a_fine_model_is_judged_on_superclasses(write: SimpleNamespace, tmp_path: Path) -> None:
    spec = cifar_100(write, tmp_path, RNG.integers(0, 100, 11))
    model = linear(tmp_path / "m.onnx", RNG.normal(size=(3072, 100)), (3, 32, 32))
    fine = answers(model, open_dataset(spec), Contract(32, 32), "cifar-100")
    coarse = answers(model, open_dataset(spec | {"options": {"labels": "coarse"}}), Contract(32, 32), "cifar-100")
    above = labels.superclasses("cifar-100")[1]
    assert (coarse.classes[:, 0] == above[fine.classes[:, 0]]).all()
    assert coarse.scores[:, 0] == pytest.approx(fine.scores[:, 0])
    assert (coarse.labels == above[fine.labels]).all()
    assert all(len(set(row)) == 5 for row in coarse.classes.tolist())
    pictures = np.stack([np.asarray(picture).transpose(2, 0, 1).ravel() / 255 for picture, _ in open_dataset(spec)])
    scores = pictures @ numpy_helper.to_array(onnx.load(model).graph.initializer[0])
    best = np.stack([scores[:, above == place].max(axis=1) for place in range(20)], axis=1)
    assert (coarse.classes == np.argsort(-best, axis=1)[:, :5]).all()


@pytest.mark.parametrize("dictionary", [True, False])
def test_memory_does_not_grow_with_a_row_group(write: SimpleNamespace, tmp_path: Path, dictionary: bool) -> None:  # noqa: FBT001
    noise = [write.encoded(RNG.integers(0, 256, (128, 128, 3), dtype=np.uint8)) for _ in range(8)]
    peaks = []
    for rows in (160, 800):
        path = tmp_path / f"{rows}.parquet"
        made = write.table(noise * (rows // 8), [0] * rows)
        # One row group. A page, the least that can be unpacked, ends after the values that are written at once.
        pa.parquet.write_table(made, path, use_dictionary=dictionary, write_batch_size=16)
        before = pa.total_allocated_bytes()
        dataset = open_dataset({"name": "p", "format": "parquet", "path": str(path)})
        peaks.append(max(pa.total_allocated_bytes() - before for _ in dataset))
    assert dictionary or path.stat().st_size > 35 * 1024**2
    assert peaks[1] < 1.2 * peaks[0] < 16 * 1024**2
