import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.engine.accuracy import arrays, paired, store
from workers.engine.accuracy.predictions import Predictions
from workers.engine.protocol import UsageError

RECORDED = Path(__file__).parents[5] / "shared/data/imagenet-recorded"

recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason=f"the recorded ImageNet predictions are not at {RECORDED}")


def expected_pairs() -> list[dict[str, Any]]:
    return json.loads((RECORDED / "expected.json").read_text()) if RECORDED.is_dir() else []


@recorded
@pytest.mark.parametrize("pair", expected_pairs(), ids=lambda pair: f"{pair['a']} {pair['b']}")
def test_recorded_imagenet_pairs_are_reproduced_exactly(pair: dict[str, Any]) -> None:
    a, b = (store.read(RECORDED / f"{pair[side]}.npz", dataset="imagenet-val") for side in ("a", "b"))
    block = paired.compare(a, b)
    assert block["items"] == pair["n"]
    assert block["ledger"] == {name: pair[name] for name in block["ledger"]}
    for metric in ("top1", "top5"):
        for side in ("a", "b"):
            assert block[metric][side] == pair[f"{metric}_{side}"]
    assert block["agreement"] == pair["agreement"]


@recorded
def test_recorded_columns_are_sorted_on_reading() -> None:
    path = RECORDED / "keras-densenet121.npz"
    raw = np.load(path)
    read = store.read(path)
    assert not (np.diff(raw["scores"], axis=1) <= 0).all()
    assert (np.diff(read.scores, axis=1) <= 0).all()
    best = raw["scores"].argmax(axis=1)
    assert (read.top1 == raw["classes"][np.arange(len(best)), best]).all()


def small() -> Predictions:
    return Predictions(
        labels=np.array([1, 0], dtype=np.int32),
        classes=np.array([[1, 0, 2], [-1, 2, 0]], dtype=np.int32),
        scores=np.array([[0.5, 0.25, 0.25], [0.7, 0.2, 0.1]], dtype=np.float32),
        items_digest="abc",
        dataset="letters",
        provenance={"runtime": "onnxruntime", "batch": 8},
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    digest = store.write(tmp_path / "sub/p.npz", small())
    read = store.read(tmp_path / "sub/p.npz")
    assert read.digest() == digest == small().digest()
    assert read.labels.dtype == read.classes.dtype == np.int32
    assert read.scores.dtype == np.float32
    assert read.classes.tolist() == small().classes.tolist()
    assert (read.items_digest, read.dataset, read.provenance) == ("abc", "letters", small().provenance)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["p.npz"]


def test_the_digest_sees_every_array_and_the_items() -> None:
    base = small()
    others = [
        Predictions(base.labels + 1, base.classes, base.scores, "abc"),
        Predictions(base.labels, base.classes + 1, base.scores, "abc"),
        Predictions(base.labels, base.classes, base.scores / 2, "abc"),
        Predictions(base.labels, base.classes, base.scores, "abd"),
    ]
    assert len({base.digest(), *(other.digest() for other in others)}) == 5


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    digest = store.write(path, small())
    unwritable = Predictions(small().labels, small().classes, small().scores, "abc", provenance={"no": object()})
    with pytest.raises(TypeError):
        store.write(path, unwritable)
    assert store.read(path).digest() == digest
    assert list(tmp_path.iterdir()) == [path]


GOOD = {
    "labels": np.array([0, 1, 2]),
    "classes": np.array([[0, 1], [1, 2], [2, 0]]),
    "scores": np.array([[0.6, 0.4], [0.9, 0.1], [0.5, 0.2]]),
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": None}, "has no array 'labels'"),
        ({"scores": None}, "has no array 'scores'"),
        ({"labels": np.array([0, 1])}, "'classes' has 3 rows, but 'labels' has 2"),
        ({"labels": np.array([0.0, 1.0, 2.0])}, "array 'labels' is float64"),
        ({"labels": np.array([], dtype=int)}, "array 'labels' is int64 \\(0,\\)"),
        ({"labels": np.array([0, -3, 2])}, "array 'labels', row 1"),
        ({"classes": np.array([0, 1, 2])}, "array 'classes' is int64 \\(3,\\)"),
        ({"classes": np.array([[0, 1], [1, 2], [2, 2]])}, "array 'classes', row 2 has the same class twice"),
        ({"classes": np.array([[0, 1], [-2, 2], [2, 0]])}, "array 'classes', row 1"),
        ({"scores": GOOD["scores"][:, :1]}, "array 'scores' is float64 \\(3, 1\\)"),
        ({"scores": np.array([[0.6, 0.4], [0.9, np.nan], [0.5, 0.2]])}, "array 'scores', row 1 has a score"),
        ({"scores": np.array([[0.6, 0.4], [0.9, 0.1], [np.inf, 0.2]])}, "array 'scores', row 2 has a score"),
        ({"labels": np.array([0, None, 2], dtype=object)}, "array 'labels' holds Python objects"),
        ({"about": np.array([1, 2, 3], dtype=np.uint8)}, "array 'about' is not the JSON"),
    ],
)
def test_bad_arrays_are_refused_by_name_and_row(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **{name: array for name, array in {**GOOD, **change}.items() if array is not None})
    with pytest.raises(UsageError, match=sentence) as caught:
        store.read(path)
    assert str(path) in caught.value.message


def test_truncated_archives_are_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, **{name: np.repeat(array, 500, axis=0) for name, array in GOOD.items()})
    content = whole.read_bytes()
    for size in range(0, len(content), 97):
        cut = tmp_path / "cut.npz"
        cut.write_bytes(content[:size])
        with pytest.raises(UsageError, match=r"cut\.npz"):
            store.read(cut)


def test_a_flipped_byte_is_never_read_as_other_predictions(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    digest = store.write(whole, small())
    content = whole.read_bytes()
    flipped = tmp_path / "flipped.npz"
    for position in range(len(content)):
        flipped.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            assert store.read(flipped).digest() == digest, (position, content[position - 30 : position + 30])
        except UsageError:
            continue


def npy(header: str, payload: bytes = bytes(24), version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header.encode() + payload


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,)}"), "promises 8000000000000"),
        (npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2,)}"), "has 24 bytes, but its header promises 16"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}"), "holds Python objects"),
        (npy("{'descr': '<i8', 'fortran_order': True, 'shape': (3, 1)}"), "Fortran order"),
        (npy("{'descr': '<i8', 'fortran_order': False, 'shape': (3,)}", version=b"\x09\x00"), "npy format"),
        (npy("__import__('os').abort()"), "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_forged_headers_are_refused_before_unpacking(tmp_path: Path, labels: bytes, sentence: str) -> None:
    path = tmp_path / "forged.npz"
    np.savez(path, classes=GOOD["classes"], scores=GOOD["scores"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.npy", labels)
    with pytest.raises(UsageError, match=sentence):
        store.read(path)


def test_an_array_over_the_limit_is_refused_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.npz"
    np.savez_compressed(path, **{name: np.repeat(array, 100, axis=0) for name, array in GOOD.items()})
    monkeypatch.setattr(arrays, "LIMIT_BYTES", 2_000)
    with pytest.raises(UsageError, match="array 'labels' unpacks to 2400 bytes, more than 2000"):
        store.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.npz is not a file"):
        store.read(tmp_path / "nothing.npz")


def test_labels_alone_are_another_digest_than_items(tmp_path: Path) -> None:
    path = tmp_path / "recorded.npz"
    np.savez(path, **GOOD)
    read = store.read(path, dataset="mine")
    assert read.items_digest == store.labels_digest(GOOD["labels"])
    assert (read.dataset, read.provenance) == ("mine", {"recorded": True})
