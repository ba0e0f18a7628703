import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from workers.engine.accuracy import digits
from workers.engine.accuracy.datasets import Dataset, open_dataset
from workers.engine.protocol import UsageError

RNG = np.random.default_rng(1)
IMAGES = RNG.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
LABELS = np.array([0, 2, 1, 2, 0, 1])


def npz(path: Path, **change: Any) -> Dataset:
    arrays = {"images": IMAGES, "labels": LABELS, **change}
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    return open_dataset({"name": "mine", "format": "npz", "path": str(path)})


def folder(path: Path, suffix: str = ".png") -> Path:
    for index, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        home = path / f"class{label}"
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / f"{index}{suffix}")
    return path


def open_folder(path: Path, **extra: Any) -> Dataset:
    return open_dataset({"name": "pictures", "format": "folder", "path": str(path), **extra})


def test_the_digits_are_the_half_that_training_never_sees() -> None:
    train, train_labels = digits.part("train")
    dataset = open_dataset({"name": "digits", "format": "digits"})
    items = list(dataset)
    assert (dataset.n, dataset.classes, dataset.label_space) == (len(items), 10, "digits") == (896, 10, "digits")
    assert len(train) + len(items) == 1797
    counts = np.bincount([label for _, label in items])
    assert np.abs(counts - np.bincount(train_labels)).max() <= 1
    pictures = {np.asarray(picture).tobytes() for picture, _ in items}
    shared = pictures & {picture.tobytes() for picture in train}
    assert not shared  # the whole set holds no picture twice


def test_digits_pictures_are_scikit_learns_in_eight_bits() -> None:
    images, labels = digits.pictures()
    bunch = load_digits()
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert (np.rint(images / 255 * 16) == bunch.images).all()
    assert (labels == bunch.target).all()


def test_the_split_is_frozen() -> None:
    # A change of rule, seed or order would silently make recorded accuracies another dataset's.
    digest = open_dataset({"format": "digits"}).digest()
    assert digest == "22ca5f3d4f8ec50d1557456328cadb1e1cf6b27253c77e85e7856846e50d322e"


def test_npz_items_come_in_order_and_unchanged(tmp_path: Path) -> None:
    dataset = npz(tmp_path / "d.npz")
    assert (len(dataset), dataset.classes, dataset.label_space) == (6, 3, None)
    for (picture, label), image, expected in zip(dataset, IMAGES, LABELS, strict=True):
        assert (np.asarray(picture) == image).all()
        assert label == expected


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 4, 5, 1)])
def test_grey_npz(tmp_path: Path, shape: tuple[int, ...]) -> None:
    dataset = npz(tmp_path / "d.npz", images=IMAGES[..., 0].reshape(shape))
    picture, _ = next(iter(dataset))
    assert (np.asarray(picture) == IMAGES[0, :, :, 0]).all()


def test_the_digest_is_the_same_by_reading_and_by_asking(tmp_path: Path) -> None:
    asked, read = npz(tmp_path / "a.npz"), npz(tmp_path / "b.npz")
    assert len(list(read)) == 6
    assert asked.digest() == read.digest()
    asked, read = open_folder(folder(tmp_path / "f")), open_folder(tmp_path / "f")
    assert len(list(read)) == 6
    assert asked.digest() == read.digest()


def test_the_digest_sees_pixels_labels_order_and_shape(tmp_path: Path) -> None:
    pixel = IMAGES.copy()
    pixel[3, 1, 1, 1] ^= 1
    changes: list[dict[str, Any]] = [
        {},
        {"images": pixel},
        {"labels": np.array([0, 2, 1, 2, 1, 1])},
        {"images": IMAGES[::-1], "labels": LABELS[::-1]},
        {"images": IMAGES.reshape(6, 5, 4, 3)},
        {"images": IMAGES[:5], "labels": LABELS[:5]},
    ]
    digests = {npz(tmp_path / f"{n}.npz", **change).digest() for n, change in enumerate(changes)}
    assert len(digests) == len(changes)


def test_a_half_read_dataset_still_gives_the_whole_digest(tmp_path: Path) -> None:
    dataset = npz(tmp_path / "d.npz")
    next(iter(dataset))
    assert dataset.digest() == npz(tmp_path / "e.npz").digest()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".PNG"])
def test_folder_classes_are_sorted_folder_names(tmp_path: Path, suffix: str) -> None:
    path = folder(tmp_path, suffix)
    (path / "class0" / ".hidden.png").write_bytes(b"no picture")
    (path / "class0" / "notes.txt").write_text("no picture")
    (path / ".cache").mkdir()
    dataset = open_folder(path)
    assert (dataset.n, dataset.classes) == (6, 3)
    order = [0, 4, 2, 5, 1, 3]
    for (picture, label), index in zip(dataset, order, strict=True):
        assert (np.asarray(picture) == IMAGES[index]).all()
        assert label == LABELS[index]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": None}, "has no array 'images' \\(found: labels\\)"),
        ({"labels": None}, "has no array 'labels'"),
        ({"images": IMAGES.astype(np.float32)}, "'images' is float32"),
        ({"images": IMAGES[..., :2]}, "'images' is uint8 \\(6, 4, 5, 2\\)"),
        ({"images": IMAGES[:, 0, 0]}, "'images' is uint8 \\(6, 3\\)"),
        ({"images": IMAGES[:5]}, "shape \\(5, 4, 5, 3\\), but 'labels' has 6 rows"),
        ({"images": IMAGES[:, :0]}, "at least one pixel"),
        ({"images": np.asfortranarray(IMAGES)}, "Fortran order"),
        ({"labels": LABELS.astype(float)}, "'labels' is float64"),
        ({"labels": LABELS[:, None]}, "'labels' is int64 \\(6, 1\\)"),
        ({"labels": np.array([0, 1, -1, 0, 0, 0])}, "'labels', row 2 is -1, outside 0 to 1"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "'labels' is int64 \\(0,\\)"),
        ({"labels": LABELS.astype(object)}, "'labels' holds Python objects"),
    ],
)
def test_bad_npz_is_refused_by_array_and_row(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        npz(tmp_path / "bad.npz", **change)
    assert "bad.npz" in caught.value.message


def test_labels_outside_a_named_space_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=np.array([0, 1, 2, 10, 0, 0]))
    with pytest.raises(UsageError, match="row 3 is 10, outside 0 to 9"):
        open_dataset({"name": "d", "format": "npz", "path": str(tmp_path / "d.npz"), "label_space": "digits"})


def test_a_truncated_npz_is_refused_when_opened_or_read(tmp_path: Path) -> None:
    npz(tmp_path / "whole.npz")
    content = (tmp_path / "whole.npz").read_bytes()
    for size in range(0, len(content), 41):
        cut = tmp_path / "cut.npz"
        cut.write_bytes(content[:size])
        with pytest.raises(UsageError, match=r"cut\.npz"):
            list(open_dataset({"name": "cut", "format": "npz", "path": str(cut)}))


def test_damage_inside_the_pictures_is_found_while_reading(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    images = np.repeat(IMAGES, 500, axis=1)  # longer than what is read while the header is checked
    np.savez(path, images=images, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[content.index(images.tobytes()) + 100_000] ^= 1
    path.write_bytes(content)
    dataset = open_dataset({"name": "d", "format": "npz", "path": str(path)})
    with pytest.raises(UsageError, match="CRC"):
        list(dataset)


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path)
    victim = path / "class1" / "2.png"
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match=r"class1/2\.png cannot be decoded"):
        list(open_folder(path))


def test_a_picture_that_would_fill_the_memory_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path)
    handle = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(handle, "PNG")
    (path / "class1" / "2.png").write_bytes(handle.getvalue())
    with pytest.raises(UsageError, match=r"class1/2\.png cannot be decoded"):
        list(open_folder(path))


def test_a_picture_that_vanishes_is_named(tmp_path: Path) -> None:
    dataset = open_folder(folder(tmp_path))
    (tmp_path / "class2" / "1.png").unlink()
    with pytest.raises(UsageError, match=r"class2/1\.png cannot be read"):
        list(dataset)


def test_a_class_folder_without_pictures_is_named(tmp_path: Path) -> None:
    (folder(tmp_path) / "class1b").mkdir()
    with pytest.raises(UsageError, match=r"class folder .*class1b has no pictures"):
        open_folder(tmp_path)


def test_a_subset_of_class_folders_is_no_imagenet(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has 3 classes, but label space imagenet-1k has 1000"):
        open_folder(folder(tmp_path), label_space="imagenet-1k")
    with pytest.raises(UsageError, match="has 3 class folders, not 4"):
        open_folder(tmp_path, classes=4)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"format": "nzp", "name": "x"}, "no format 'nzp'. Did you mean npz"),
        ({"name": "x"}, "Dataset x has no format 'None'"),
        ({"format": "npz", "name": "x"}, "needs a path"),
        ({"format": "npz", "name": "x", "path": "/nowhere.npz"}, "/nowhere.npz is not a file"),
        ({"format": "folder", "name": "x", "path": "/nowhere"}, "/nowhere is not a folder"),
        ({"format": "digits", "name": "x", "split": "train"}, "no field 'split'"),
    ],
)
def test_bad_specifications(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        open_dataset(spec)


def test_an_empty_folder_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no items"):
        open_folder(tmp_path)


def test_an_archive_with_other_files_is_refused(tmp_path: Path) -> None:
    npz(tmp_path / "d.npz")
    with zipfile.ZipFile(tmp_path / "d.npz", "a") as archive:
        archive.writestr("run.py", "print('no array')")
    with pytest.raises(UsageError, match=r"member 'run\.py' is no array"):
        open_dataset({"name": "d", "format": "npz", "path": str(tmp_path / "d.npz")})
