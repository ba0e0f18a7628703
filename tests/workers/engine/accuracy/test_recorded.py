import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from workers.engine.accuracy import arrays, paired, recorded
from workers.engine.accuracy.predictions import Predictions
from workers.engine.protocol import UsageError

RECORDED = Path(__file__).parents[5] / "shared/data/imagenet-recorded"

with_recorded = pytest.mark.skipif(
    not RECORDED.is_dir(), reason=f"the recorded ImageNet predictions are not at {RECORDED}"
)


def expected_pairs() -> list[dict[str, Any]]:
    return json.loads((RECORDED / "expected.json").read_text()) if RECORDED.is_dir() else []


@with_recorded
@pytest.mark.parametrize("pair", expected_pairs(), ids=lambda pair: f"{pair['a']} {pair['b']}")
def test_recorded_imagenet_pairs_are_reproduced_exactly(pair: dict[str, Any]) -> None:
    a, b = (recorded.read(RECORDED / f"{pair[side]}.npz", "imagenet-val") for side in ("a", "b"))
    block = paired.compare(a, b)
    assert block["items"] == pair["n"]
    assert block["ledger"] == {name: pair[name] for name in block["ledger"]}
    for metric in ("top1", "top5"):
        for side in ("a", "b"):
            assert block[metric][side] == pair[f"{metric}_{side}"]
    assert block["agreement"] == pair["agreement"]


@with_recorded
def test_recorded_columns_are_sorted_on_reading() -> None:
    path = RECORDED / "keras-densenet121.npz"
    raw = np.load(path)
    read = recorded.read(path, "letters")
    assert not (np.diff(raw["scores"], axis=1) <= 0).all()
    assert (np.diff(read.scores, axis=1) <= 0).all()
    best = raw["scores"].argmax(axis=1)
    assert (read.top1 == raw["classes"][np.arange(len(best)), best]).all()


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
        ({"scores": GOOD["scores"][:, :1]}, "'scores' has the shape \\(3, 1\\) and 'classes' \\(3, 2\\)"),
        ({"scores": np.array([[0.6, 0.4], [0.9, np.nan], [0.5, 0.2]])}, "array 'scores', row 1 has a score"),
        ({"scores": np.array([[0.6, 0.4], [0.9, 0.1], [np.inf, 0.2]])}, "array 'scores', row 2 has a score"),
        ({"labels": np.array([0, None, 2], dtype=object)}, "array 'labels' holds Python objects"),
        ({"ids": np.array([7, 8, 7])}, "array 'ids', row 2 has an id that another row has too"),
        ({"ids": np.array([7, 8])}, "array 'ids' has 2 rows, but 'labels' has 3"),
        ({"ids": np.array([0.5, 1.5, 2.5])}, "array 'ids' is float64"),
    ],
)
def test_bad_arrays_are_refused_by_name_and_row(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **{name: array for name, array in {**GOOD, **change}.items() if array is not None})
    with pytest.raises(UsageError, match=sentence) as caught:
        recorded.read(path, "letters")
    assert str(path) in caught.value.message


def test_truncated_archives_are_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, **{name: np.repeat(array, 500, axis=0) for name, array in GOOD.items()})
    content = whole.read_bytes()
    for size in range(0, len(content), 97):
        cut = tmp_path / "cut.npz"
        cut.write_bytes(content[:size])
        with pytest.raises(UsageError, match=r"cut\.npz"):
            recorded.read(cut, "letters")


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
        recorded.read(path, "letters")


def test_an_array_over_the_limit_is_refused_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.npz"
    np.savez_compressed(path, **{name: np.repeat(array, 100, axis=0) for name, array in GOOD.items()})
    monkeypatch.setattr(arrays, "LIMIT_BYTES", 2_000)
    with pytest.raises(UsageError, match="array 'labels' unpacks to 2400 bytes, more than 2000"):
        recorded.read(path, "letters")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.npz is not a file"):
        recorded.read(tmp_path / "nothing.npz", "letters")


def test_a_small_archive_that_unpacks_to_gigabytes_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("labels.npy", "w", force_zip64=True) as file,
    ):
        rows = 200_000_000
        file.write(npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({rows},), }}\n", b""))
        for _ in range(rows // 1_000_000):
            file.write(bytes(1_000_000))
    assert path.stat().st_size < 1_000_000
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("classes.npy", npy("{'descr': '<i8', 'fortran_order': False, 'shape': (3, 1), }\n"))
        archive.writestr("scores.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 1), }\n"))
    with pytest.raises(UsageError, match="at most 50,000,000 items"):
        recorded.read(path, "letters")


def test_recorded_items_are_known_by_their_labels(tmp_path: Path) -> None:
    path = tmp_path / "recorded.npz"
    np.savez(path, **GOOD)
    read = recorded.read(path, "mine")
    assert read.items_digest == read.labels_digest
    assert read.items_digest.startswith("labels-")
    assert (read.dataset, read.provenance) == ("mine", {"recorded": True, "file": "recorded.npz"})


def parquet_of(path: Path, **changed: Any) -> Path:
    columns = {"label": GOOD["labels"], "classes": GOOD["classes"].tolist(), "scores": GOOD["scores"].tolist()}
    kept = {name: column for name, column in {**columns, **changed}.items() if column is not None}
    parquet.write_table(pa.table(kept), path)
    return path


def test_parquet_holds_the_same_as_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "p.npz"
    np.savez(archive, **GOOD, ids=np.array(["x", "y", "z"]))
    table = parquet_of(tmp_path / "p.parquet", id=["x", "y", "z"])
    one, other = recorded.read(archive, "d"), recorded.read(table, "d")
    assert one.digest() == other.digest()
    assert other.ids is not None
    assert other.ids.tolist() == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"label": None}, "has no column 'label' \\(found: classes, scores\\)"),
        ({"classes": [[0, 1], [1], [2, 0]]}, "column 'classes', row 1 has 1 values and row 0 has 2"),
        ({"label": pa.array([0, None, 2])}, "column 'label', row 1 is null"),
        ({"classes": [[0, 1], [1, 0], [2, None]]}, "column 'classes', row 2 holds a null"),
        ({"scores": [[0.6, 0.4], [0.9, float("nan")], [0.5, 0.2]]}, "array 'scores', row 1 has a score"),
        ({"label": ["a", "b", "c"]}, "array 'labels' is object"),
        ({"id": ["x", "y", "x"]}, "array 'ids', row 2 has an id that another row has too"),
    ],
)
def test_bad_parquet_is_refused_by_column_and_row(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = parquet_of(tmp_path / "bad.parquet", **change)
    with pytest.raises(UsageError, match=sentence):
        recorded.read(path, "letters")


def test_a_small_parquet_that_unpacks_to_much_is_refused_by_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet_of(tmp_path / "zeros.parquet", scores=[[0.0] * 2] * 3, note=["x" * 1000] * 3)
    monkeypatch.setattr(arrays, "LIMIT_BYTES", 40)
    with pytest.raises(UsageError, match="column 'classes' unpacks to 48 bytes, more than 40"):
        recorded.read(path, "letters")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.parquet"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        recorded.read(path, "letters")


def predictions(labels: list[int], ids: list[str] | None = None) -> Predictions:
    scores = np.array([[0.75, 0.25]] * len(labels), dtype=np.float32)
    classes = np.array([[label, label + 1] for label in labels], dtype=np.int32)
    rows = np.array(labels, dtype=np.int32)
    return Predictions(rows, classes, scores, f"digest of {labels}", "mine", {}, None if ids is None else np.array(ids))


def test_rows_are_put_into_the_data_sets_order_by_their_ids() -> None:
    known = predictions([4, 5, 6], ["a", "b", "c"])
    found = recorded.aligned(predictions([6, 4, 5], ["c", "a", "b"]), known)
    assert found.labels.tolist() == [4, 5, 6]
    assert found.classes[:, 0].tolist() == [4, 5, 6]
    assert found.items_digest == known.items_digest


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (predictions([4, 5]), "Array 'labels' has 2 rows, and data set mine has 3 items"),
        (predictions([4, 6, 5]), "row 1 is 6, but data set mine has 5 there \\(2 of 3 differ\\)"),
        (predictions([4, 5, 6], ["a", "b", "x"]), "lacks the item 'c' of data set mine \\(1 of 3 are missing\\)"),
        (predictions([4, 5, 7], ["a", "b", "c"]), "item c is 7, but data set mine has 6"),
    ],
)
def test_other_items_do_not_join_a_data_set(found: Predictions, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        recorded.aligned(found, predictions([4, 5, 6], ["a", "b", "c"]))
