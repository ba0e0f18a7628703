from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workers.engine.accuracy import store
from workers.engine.accuracy.predictions import Predictions
from workers.engine.protocol import UsageError


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


def test_item_ids_are_kept(tmp_path: Path) -> None:
    named = replace(small(), ids=np.array(["b.jpg", "a.jpg"]))
    store.write(tmp_path / "p.npz", named)
    assert store.read(tmp_path / "p.npz").ids.tolist() == ["b.jpg", "a.jpg"]


def test_a_file_of_another_tool_is_sent_to_the_import(tmp_path: Path) -> None:
    arrays = {"labels": small().labels, "classes": small().classes, "scores": small().scores}
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(UsageError, match="has no array 'about'"):
        store.read(tmp_path / "p.npz")
    np.savez(tmp_path / "p.npz", **arrays, about=np.array([1, 2, 3], dtype=np.uint8))
    with pytest.raises(UsageError, match="zooaudit predictions import"):
        store.read(tmp_path / "p.npz")
