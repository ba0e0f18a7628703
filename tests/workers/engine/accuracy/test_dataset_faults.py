"""What is wrong with a data set is refused with one sentence that names the file, and the record or row."""

from __future__ import annotations

import gzip
import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from workers.engine.accuracy import labels
from workers.engine.accuracy.datasets import open_dataset
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

RNG = np.random.default_rng(6)
COLOUR = RNG.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
LABELS = [3, 0, 9, 1, 2, 8]
SYNSETS = labels.names("imagenet-1k")
FINE, COARSE = labels.names("cifar-100"), labels.names("cifar-100-coarse")


def refused(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        list(open_dataset(spec))


def cut(path: Path, by: int = 10) -> None:
    path.write_bytes(path.read_bytes()[:-by])


@pytest.fixture
def pngs(write: SimpleNamespace) -> list[bytes]:
    return [write.encoded(image) for image in COLOUR]


CIFAR: list[tuple[Callable[[Path], Any], str]] = [
    (lambda root: cut(root / "test_batch.bin"), r"test_batch\.bin: record 5 is cut off after 3063 of 3073"),
    (lambda root: (root / "test_batch.bin").write_bytes(b""), r"test_batch\.bin is empty"),
    (lambda root: (root / "test_batch.bin").unlink(), r"test_batch\.bin is not there"),
    (lambda root: (root / "batches.meta.txt").unlink(), r"batches\.meta\.txt is not there; it is the names"),
    (lambda root: (root / "batches.meta.txt").write_text("a\nb\n"), r"test_batch\.bin: the label of record 0 is 3"),
    (lambda root: (root / "batches.meta.txt").write_bytes(b"\xff\xfe"), r"batches\.meta\.txt cannot be read"),
]


@pytest.mark.parametrize(("spoil", "sentence"), CIFAR)
def test_cifar_10(write: SimpleNamespace, tmp_path: Path, spoil: Callable[[Path], Any], sentence: str) -> None:
    spec = write.cifar_10(tmp_path, COLOUR, LABELS)
    spoil(tmp_path)
    refused(spec, sentence)


def test_cifar_10_without_one_of_five_batches(write: SimpleNamespace, tmp_path: Path) -> None:
    spec = write.cifar_10(tmp_path, COLOUR, LABELS, split="train")
    (tmp_path / "data_batch_3.bin").unlink()
    refused(spec, r"data_batch_3\.bin is not there")


def test_cifar_in_a_label_space_of_another_size(write: SimpleNamespace, tmp_path: Path) -> None:
    spec = write.cifar_10(tmp_path, COLOUR, LABELS)
    refused(spec | {"label_space": "imagenet-1k"}, "has 10 classes, but label space imagenet-1k has 1000")


def test_cifar_that_shrinks_while_it_is_read(write: SimpleNamespace, tmp_path: Path) -> None:
    dataset = open_dataset(write.cifar_10(tmp_path, COLOUR, LABELS))
    cut(tmp_path / "test_batch.bin")
    with pytest.raises(UsageError, match=r"test_batch\.bin: record 5 is gone"):
        list(dataset)


def test_cifar_100_whose_coarse_label_is_another_superclass(write: SimpleNamespace, tmp_path: Path) -> None:
    coarse = labels.superclasses("cifar-100")[1][LABELS].tolist()
    coarse[4] += 1
    spec = write.cifar_100(tmp_path, COLOUR, LABELS, coarse, names=FINE, coarse_names=COARSE)
    refused(spec, r"test\.bin: record 4 has the fine label 2 and the coarse label 15")


def small_idx(*shape: int, kind: int = 8, values: int = 0) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + bytes(values)


MNIST: list[tuple[str, bytes, str]] = [
    ("images-idx3", small_idx(6, 4, 4, values=90), "has 106 bytes, but its header promises 112"),
    ("images-idx3", small_idx(6, 4, 4, values=97), "has 113 bytes, but its header promises 112"),
    ("images-idx3", small_idx(5, 4, 4, values=80), "has 5 pictures and .*labels.* 6 labels"),
    ("images-idx3", small_idx(6, 4, 4, kind=13, values=96), "begins with 00000d03, but IDX with 3 axes .* 00000803"),
    ("images-idx3", small_idx(6, 16, values=96), "begins with 00000802"),
    ("images-idx3", small_idx(6, 0, 4), r"has the shape \(6, 0, 4\): nothing is in it"),
    ("images-idx3", small_idx(6, 2**31, 2**31), "at most 50,000,000 pictures"),
    ("images-idx3", b"\0\0\x08", "ends within the header"),
    ("images-idx3", b"", "is empty"),
    ("labels-idx1", small_idx(6, values=5), "labels-idx1-ubyte ends within item 0"),
    ("labels-idx1", small_idx(6, values=7), "goes on after its 6 items"),
    ("labels-idx1", small_idx(2**32 - 1), "at most 50,000,000"),
    ("labels-idx1", small_idx(6) + bytes([0, 1, 2, 10, 3, 4]), "labels-idx1-ubyte: label 3 is 10, outside 0 to 9"),
]


@pytest.mark.parametrize(("part", "content", "sentence"), MNIST)
def test_mnist(write: SimpleNamespace, tmp_path: Path, part: str, content: bytes, sentence: str) -> None:
    spec = write.mnist(tmp_path, np.zeros((6, 4, 4), dtype=np.uint8), LABELS) | {"label_space": "digits"}
    (tmp_path / f"t10k-{part}-ubyte").write_bytes(content)
    refused(spec, sentence)


def test_mnist_packed_and_broken(write: SimpleNamespace, tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (6, 40, 40), dtype=np.uint8)
    spec = write.mnist(tmp_path, images, LABELS, suffix=".gz")
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    cut(path, by=4000)
    refused(spec, r"idx3-ubyte\.gz cannot be unpacked at item [1-5] ")
    path.write_bytes(whole[:-6] + b"\0" + whole[-5:])
    refused(spec, r"idx3-ubyte\.gz is damaged at its end \(CRC")
    path.write_bytes(gzip.compress(small_idx(6, 40, 40) + images.tobytes()[:-1]))
    refused(spec, r"idx3-ubyte\.gz ends within item 5")
    path.write_bytes(gzip.compress(small_idx(6, 40, 40) + images.tobytes() + bytes(10**8)))
    refused(spec, r"idx3-ubyte\.gz goes on after its 6 items")
    path.write_bytes(b"no gzip")
    refused(spec, r"idx3-ubyte\.gz cannot be unpacked at the header")
    path.unlink()
    refused(spec, "t10k-images-idx3-ubyte is not there; it is images as IDX, plain or .gz")


FLAT: list[tuple[list[Any], str]] = [
    ([1, 2, 3, 4, 5], r"val_00000006\.JPEG has no answer"),
    ([1, 2, 3, 4, 5, 6, 7, 8], r"val_00000007\.JPEG is missing \(2 of 8"),
    ([1, 2, 0, 4, 5, 6], r"ground_truth\.txt, line 3 is '0'"),
    ([1, 2, 3, 4, 1001, 6], r"ground_truth\.txt, line 5 is '1001'"),
    ([1, 2, "", 4, 5, 6], r"ground_truth\.txt, line 3 is ''"),
    ([1, "n01440764", 2, 3, 4, 5], r"ground_truth\.txt, line 2 is 'n01440764'; each line must be an id"),
    ([], r"ground_truth\.txt is empty"),
    (["n01440764"] * 5 + ["n99999999"], r"ground_truth\.txt: an answer n99999999 is no synset"),
    ([1, 2, 3, 4, 5, 6], r"meta\.mat, or a text file with the 1000 synsets .*, as synsets"),
]


@pytest.mark.parametrize(("answers", "sentence"), FLAT)
def test_imagenet_flat(
    write: SimpleNamespace, tmp_path: Path, pngs: list[bytes], answers: list[Any], sentence: str
) -> None:
    spec = write.flat(tmp_path, pngs, answers)
    if answers != [1, 2, 3, 4, 5, 6]:
        (tmp_path / "synsets.txt").write_text("\n".join(reversed(SYNSETS)))
        spec["options"]["synsets"] = str(tmp_path / "synsets.txt")
    refused(spec, sentence)


SYNSET_FILES: list[tuple[str, bytes, str]] = [
    ("s.txt", "\n".join(SYNSETS).encode(), r"s\.txt has the synsets in sorted order, which is not the order"),
    ("s.txt", "\n".join(SYNSETS[:999]).encode(), r"s\.txt has 999 synsets, not 1000"),
    ("s.txt", "\n".join([*SYNSETS[:0:-1], "n99999999"]).encode(), r"s\.txt: n99999999 is no synset"),
    ("s.txt", "\n".join([*SYNSETS[:0:-1], SYNSETS[5]]).encode(), rf"s\.txt: {SYNSETS[5]} is there twice"),
    ("s.mat", b"MATLAB 5.0 nothing", r"s\.mat cannot be read as the devkit's meta\.mat"),
    ("s.mat", b"", r"s\.mat cannot be read as the devkit's meta\.mat"),
]


@pytest.mark.parametrize("case", SYNSET_FILES)
def test_imagenet_flats_synsets(write: SimpleNamespace, tmp_path: Path, pngs: list[bytes], case: Any) -> None:
    name, content, sentence = case
    spec = write.flat(tmp_path, pngs, [1, 2, 3, 4, 5, 6])
    (tmp_path / name).write_bytes(content)
    spec["options"]["synsets"] = str(tmp_path / name)
    refused(spec, sentence)


def test_imagenet_flat_with_strangers_among_its_pictures(
    write: SimpleNamespace, tmp_path: Path, pngs: list[bytes]
) -> None:
    spec = write.flat(tmp_path, pngs, list(SYNSETS[:6]))
    refused(spec | {"options": {}}, "needs the file of its answers; name the devkit's")
    refused(spec | {"label_space": "imagenette"}, "is in label space imagenet-1k, not imagenette")
    (tmp_path / "val" / "00000003.jpg").write_bytes(pngs[0])
    refused(spec, r"00000003\.jpg is not named like ILSVRC2012_val_00000001\.JPEG")


def test_pictures_that_are_none(write: SimpleNamespace, tmp_path: Path, pngs: list[bytes]) -> None:
    handle = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(handle, "PNG")
    broken = {b"": "has 0 bytes", pngs[4][:500]: "cannot be decoded", handle.getvalue(): "could be a bomb"}
    for number, (raw, sentence) in enumerate(broken.items()):
        root = tmp_path / str(number)
        pictures = [*pngs[:4], raw, pngs[5]]
        refused(write.parquet(root / "p.parquet", pictures, LABELS), rf"p\.parquet: column 'image', row 4 .*{sentence}")
        refused(write.hub(root / "h", pictures, LABELS), rf"test-00001-.*parquet: column 'image', row 1 .*{sentence}")
        refused(write.saved(root / "s", pictures, LABELS), rf"data-00001-of-00002\.arrow: .* row 1 .*{sentence}")
        refused(
            write.metadata(root / "m", pictures, LABELS), rf"sub/4\.png .*{sentence}" if raw else r"sub/4\.png is empty"
        )
        refused(write.flat(root, pictures, list(SYNSETS[:6])), rf"val_00000005\.JPEG .*{sentence}")


def test_links_out_of_a_data_sets_folder(write: SimpleNamespace, tmp_path: Path, pngs: list[bytes]) -> None:
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    for name in ("x.png", "b/x.png"):
        (outside / name).write_bytes(pngs[0])
    specs = {
        "file": (write.folders(tmp_path / "file", pngs[:2], ["a", "b"]), "a/x.png", "x.png"),
        "folder": (write.folders(tmp_path / "folder", pngs[:2], ["a", "b"]), "c", "b"),
        "flat": (write.flat(tmp_path / "flat", pngs, list(SYNSETS[:6])), "val/ILSVRC2012_val_00000006.JPEG", "x.png"),
        "cifar": (write.cifar_10(tmp_path / "cifar", COLOUR, LABELS), "test_batch.bin", "x.png"),
        "mnist": (write.mnist(tmp_path / "mnist", COLOUR[..., 0], LABELS), "t10k-images-idx3-ubyte", "x.png"),
        "saved": (write.saved(tmp_path / "saved", pngs, LABELS), "data-00000-of-00002.arrow", "x.png"),
        "hub": (write.hub(tmp_path / "hub", pngs, LABELS, shards=1), "data/more.parquet", "x.png"),
        "metadata": (write.metadata(tmp_path / "metadata", pngs, LABELS), "sub/5.png", "x.png"),
    }
    for name, (spec, link, target) in specs.items():
        list(open_dataset(spec))
        place = tmp_path / name / link
        place.unlink(missing_ok=True)
        place.symlink_to(outside / target)
        refused(spec, "leads to .*outside.*, outside the data set's folder")
    inside = write.folders(tmp_path / "inside", pngs[:2], ["a", "b"])
    (tmp_path / "inside" / "a" / "0001.png").symlink_to(tmp_path / "inside" / "b" / "0001.png")
    assert len(open_dataset(inside)) == 3


FOLDERS: list[tuple[list[str], dict[str, Any], str]] = [
    (["n01440764", "n99999999"], {"label_space": "imagenet-1k"}, "n99999999 is no synset of label space imagenet-1k"),
    (["cat", "dog"], {"label_space": "imagenet-1k"}, "cat is no synset of label space imagenet-1k"),
    (["cat", "wolf"], {"label_space": "cifar-10"}, "wolf is no class name of label space cifar-10"),
    (["zero", "one"], {"label_space": "digits"}, "has 2 class folders, not 10"),
    (["0", "1000"], {"label_space": "imagenet-1k"}, "1000 is outside 0 to 999"),
    (["1", "01"], {}, "two folders of one class index"),
]


@pytest.mark.parametrize("case", FOLDERS)
def test_class_folders_that_do_not_fit(write: SimpleNamespace, tmp_path: Path, pngs: list[bytes], case: Any) -> None:
    names, stated, sentence = case
    refused(write.folders(tmp_path, pngs[:2], names) | stated, sentence)


def test_what_is_named_like_a_picture_and_is_none(write: SimpleNamespace, tmp_path: Path, pngs: list[bytes]) -> None:
    spec = write.folders(tmp_path, pngs[:2], ["a", "b"])
    (tmp_path / "a" / "lost.png").symlink_to(tmp_path / "a" / "gone.png")
    refused(spec, r"a/lost\.png is named like a picture and is no file")
    (tmp_path / "a" / "lost.png").unlink()
    (tmp_path / "a" / "folder.png").mkdir()
    refused(spec, r"a/folder\.png is named like a picture and is no file")


OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("mnist", {"split": "validation"}, "option split is 'validation'; it is test or train"),
    ("cifar-100", {"labels": "both"}, "option labels is 'both'; it is fine or coarse"),
    ("npz", {"split": "test"}, r"the format npz has no option 'split' \(it has: none\)"),
    ("parquet", {"label_column": 3}, "option label_column is 3; it is text"),
]


@pytest.mark.parametrize(("kind", "options", "sentence"), OPTIONS)
def test_options_that_a_format_has_not(kind: str, options: dict[str, Any], sentence: str) -> None:
    refused({"name": "x", "format": kind, "path": "/nowhere", "options": options}, sentence)
