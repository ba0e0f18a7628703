"""What is wrong with a table, or with a folder of Hugging Face's, is refused by file and row."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from workers.engine.accuracy.datasets import open_dataset
from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

RNG = np.random.default_rng(6)
LABELS = [3, 0, 9, 1, 2, 8]


def refused(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        list(open_dataset(spec))


def cut(path: Path, by: int = 10) -> None:
    path.write_bytes(path.read_bytes()[:-by])


@pytest.fixture
def pngs(write: SimpleNamespace) -> list[bytes]:
    return [write.encoded(image) for image in RNG.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)]


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    parquet.write_table(change(parquet.read_table(path)), path)


def replaced(column: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    return lambda made: made.set_column(made.schema.get_field_index(column), column, values)


TABLES: list[tuple[Callable[[Path], Any], str]] = [
    (cut, r"p\.parquet cannot be read"),
    (lambda path: path.write_bytes(b""), r"p\.parquet is empty"),
    (lambda path: path.write_bytes(b"no table"), r"p\.parquet cannot be read"),
    (lambda path: path.unlink(), r"p\.parquet is not there"),
    (lambda path: rewrite(path, lambda made: made.slice(0, 0)), "has no items"),
    (lambda path: rewrite(path, lambda made: made.drop_columns("label")), "has 0 columns 'label' .*as label_column"),
    (lambda path: rewrite(path, lambda made: made.drop_columns("image")), "has 0 columns 'image' .*as image_column"),
    (lambda path: rewrite(path, replaced("image", pa.array(["x"] * 6))), "'image' is string; it must hold encoded"),
    (lambda path: rewrite(path, replaced("label", pa.array([0.5] * 6))), "'label' is double; it must hold class ind"),
    (lambda path: rewrite(path, replaced("label", pa.array(["cat"] * 6))), "'label' holds names, and the order"),
    (lambda path: rewrite(path, replaced("label", pa.array([0, 1, None, 2, 3, 4]))), "'label', row 2 is null"),
    (lambda path: rewrite(path, replaced("label", pa.array([0, 1, 2, 2, -1, 4]))), "'label', row 4 is -1, outside"),
    (
        lambda path: rewrite(path, replaced("label", pa.array([0, 2**40, 2, 2, 1, 4]))),
        "'label', row 1 is 1099511627776",
    ),
    (
        lambda path: rewrite(path, replaced("image", pa.array([b"x", None, b"x", b"x", b"x", b"x"]))),
        "'image', row (0 cannot be decoded|1 holds no bytes)",
    ),
]


@pytest.mark.parametrize(("spoil", "sentence"), TABLES)
def test_parquet(
    write: SimpleNamespace, tmp_path: Path, pngs: list[bytes], spoil: Callable[[Path], Any], sentence: str
) -> None:
    spec = write.parquet(tmp_path / "p.parquet", pngs, LABELS)
    spoil(tmp_path / "p.parquet")
    refused(spec, sentence)


def test_parquet_with_a_path_in_place_of_a_picture(write: SimpleNamespace, tmp_path: Path, pngs: list[bytes]) -> None:
    refused(write.parquet(tmp_path / "p.parquet", [*pngs[:3], None, *pngs[4:]], LABELS), "row 3 holds no bytes")


def test_parquet_of_which_the_pages_are_damaged(write: SimpleNamespace, tmp_path: Path) -> None:
    noise = [write.encoded(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(6)]
    spec = write.parquet(tmp_path / "p.parquet", noise, LABELS)
    whole = (tmp_path / "p.parquet").read_bytes()
    said = []
    for place in range(4, len(whole), len(whole) // 60):
        (tmp_path / "p.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            list(open_dataset(spec))
        except UsageError as error:
            said.append(error.message)
    assert len(said) > 30
    assert all("p.parquet" in sentence for sentence in said)


def test_a_parquet_bomb_is_not_unpacked(tmp_path: Path) -> None:
    zeros = pa.array([bytes(1024**2)] * 100, pa.binary())
    made = pa.table({"image": zeros, "label": pa.array([0] * 100)})
    parquet.write_table(made, tmp_path / "p.parquet", compression="zstd", use_dictionary=False)
    assert (tmp_path / "p.parquet").stat().st_size < 100_000
    before = pa.total_allocated_bytes()
    refused({"name": "p", "format": "parquet", "path": str(tmp_path)}, "row group 0 unpacks from .* to 104,.* bytes")
    assert pa.total_allocated_bytes() - before < 1024**2


def test_a_dictionary_is_not_unpacked_for_all_rows_at_once(tmp_path: Path) -> None:
    big = RNG.bytes(10 * 1024**2)
    image = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array([big], pa.binary()))
    made = pa.table({"image": image, "label": pa.array([0] * 500)})
    parquet.write_table(made, tmp_path / "p.parquet", dictionary_pagesize_limit=2**30, store_schema=False)
    assert (tmp_path / "p.parquet").stat().st_size < 11 * 1024**2
    dataset = open_dataset({"name": "p", "format": "parquet", "path": str(tmp_path)})
    before = pa.total_allocated_bytes()
    peak = max(pa.total_allocated_bytes() - before for _, _ in zip(range(30), dataset.raw(), strict=False))
    assert peak < 400 * 1024**2


def test_hugging_faces_shards(write: SimpleNamespace, tmp_path: Path, pngs: list[bytes]) -> None:
    spec = write.hub(tmp_path, pngs, LABELS, shards=3)
    write.hub(tmp_path, pngs[:1], LABELS[:1], split="train", shards=1)
    refused(spec, "has 2 splits; name one as split: test, train")
    refused(spec | {"options": {"split": "dev"}}, "has no split 'dev'; name one as split: test, train")
    (tmp_path / "data" / "test-00001-of-00003-0123456789abcdef.parquet").rename(tmp_path / "kept")
    chosen = spec | {"options": {"split": "test"}}
    refused(chosen, "of split 'test' shard 00001 of 00003 is missing")
    (tmp_path / "kept").rename(tmp_path / "data" / "test-00001-of-00003.parquet")
    list(open_dataset(chosen))
    (tmp_path / "data" / "test-00001-of-00003-fedcba9876543210.parquet").write_bytes(b"x")
    refused(chosen, "of split 'test' a shard is there twice")


def edit(path: Path, **change: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


SAVED: list[tuple[Callable[[Path], Any], str]] = [
    (lambda root: cut(root / "data-00001-of-00002.arrow", 8), r"data-00001-of-00002\.arrow has no end of an Arrow"),
    (
        lambda root: (root / "data-00000-of-00002.arrow").unlink(),
        r"data-00000-of-00002\.arrow is not there; it is listed",
    ),
    (lambda root: (root / "data-00000-of-00002.arrow").write_bytes(b""), r"data-00000-of-00002\.arrow is empty"),
    (lambda root: (root / "data-00000-of-00002.arrow").write_bytes(bytes(99) + b"\xff" * 4 + bytes(4)), "be read"),
    (lambda root: (root / "state.json").write_text("{"), r"state\.json is no JSON"),
    (lambda root: (root / "state.json").write_text("[]"), r"state\.json is no JSON object"),
    (lambda root: (root / "state.json").write_text("{}"), r"state\.json lists no _data_files"),
    (lambda root: edit(root / "state.json", _data_files=[]), r"state\.json lists no file"),
    (lambda root: edit(root / "state.json", _data_files=[{"filename": "../x.arrow"}]), "outside the data set's folder"),
    (lambda root: edit(root / "state.json", _indices_data_files=[{"filename": "i"}]), r"flatten_indices\(\)"),
    (
        lambda root: edit(root / "dataset_info.json", features={"label": {"names": ["a", "b"]}}),
        "row 0 is 3, outside 0 to 1",
    ),
]


@pytest.mark.parametrize(("spoil", "sentence"), SAVED)
def test_hugging_faces_saved_folder(
    write: SimpleNamespace, tmp_path: Path, pngs: list[bytes], spoil: Callable[[Path], Any], sentence: str
) -> None:
    (tmp_path / "x.arrow").write_bytes(b"x")
    spec = write.saved(tmp_path / "s", pngs, LABELS)
    spoil(tmp_path / "s")
    refused(spec, sentence)


def test_an_arrow_file_whose_offsets_lead_outside(write: SimpleNamespace, tmp_path: Path, pngs: list[bytes]) -> None:
    spec = write.saved(tmp_path, pngs[:2], LABELS[:2], shards=1)
    path = tmp_path / "data-00000-of-00001.arrow"
    offsets = struct.pack("<3i", 0, len(pngs[0]), len(pngs[0]) + len(pngs[1]))
    content = path.read_bytes()
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, struct.pack("<3i", 0, len(pngs[0]), 2**30)))
    refused(spec, r"data-00000-of-00001\.arrow cannot be read")


METADATA: list[tuple[Callable[[Path], Any], str]] = [
    (lambda lines: [*lines, lines[2]], r"metadata\.jsonl, line 7: sub/2\.png is there twice"),
    (lambda lines: [*lines, lines[2].replace("sub/", "sub/../sub/")], r"line 7: sub/\.\./sub/2\.png is there twice"),
    (lambda lines: lines[:-1], r"sub/5\.png has no row in .*metadata\.jsonl"),
    (lambda lines: [*lines, '{"file_name": "sub/9.png", "label": 0}'], r"sub/9\.png is not there; .*line 7"),
    (lambda lines: [*lines, '{"file_name": "../out.png", "label": 0}'], r"out\.png, outside the data set's folder"),
    (lambda lines: [*lines, '{"file_name": "sub/1.png"}'], r"metadata\.jsonl, line 7 has no 'label'"),
    (lambda lines: [*lines, "[]"], r"metadata\.jsonl, line 7 has no 'file_name'"),
    (lambda lines: [*lines, "{"], r"metadata\.jsonl cannot be read"),
    (lambda lines: [lines[0].replace("3", "-3"), *lines[1:]], r"metadata\.jsonl, line 1: 'label' is -3, outside"),
    (lambda lines: [lines[0].replace("3", "9" * 30), *lines[1:]], r"metadata\.jsonl, line 1: 'label' is \d+, outside"),
    (lambda lines: [lines[0].replace("3", '"cat"'), *lines[1:]], r"line 1: 'label' is 'cat', and the order of the"),
    (lambda _: [], r"metadata\.jsonl is empty"),
]


@pytest.mark.parametrize(("change", "sentence"), METADATA)
def test_hugging_faces_metadata(
    write: SimpleNamespace, tmp_path: Path, pngs: list[bytes], change: Callable[[Any], Any], sentence: str
) -> None:
    (tmp_path / "out.png").write_bytes(pngs[0])
    spec = write.metadata(tmp_path / "m", pngs, LABELS)
    path = tmp_path / "m" / "metadata.jsonl"
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))
    refused(spec, sentence)


def test_a_folder_that_is_none_of_hugging_faces(tmp_path: Path) -> None:
    refused({"name": "h", "format": "huggingface", "path": str(tmp_path)}, "is no folder of Hugging Face's datasets")
    refused({"name": "h", "format": "huggingface", "path": "/nowhere"}, "/nowhere is not a folder")
