"""Writers of data sets in the formats' own bytes, without the code under test."""

from __future__ import annotations

import gzip
import io
import json
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

if TYPE_CHECKING:
    from pathlib import Path

LETTERS = tuple("abcdefghij")


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    handle = io.BytesIO()
    Image.fromarray(image).save(handle, kind)
    return handle.getvalue()


def cifar_10(root: Path, images: np.ndarray, labels: Any, *, names: Any = LETTERS, split: str = "test") -> dict:
    root.mkdir(parents=True, exist_ok=True)
    (root / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    records = [
        struct.pack("B", label) + image.transpose(2, 0, 1).tobytes()
        for image, label in zip(images, labels, strict=True)
    ]
    if split == "test":
        (root / "test_batch.bin").write_bytes(b"".join(records))
    else:
        for number in range(5):
            (root / f"data_batch_{number + 1}.bin").write_bytes(b"".join(records[number::5]))
    return {"name": "c10", "format": "cifar-10", "path": str(root), "options": {"split": split}}


def cifar_100(root: Path, images: np.ndarray, fine: Any, coarse: Any, *, names: Any, coarse_names: Any) -> dict:
    root.mkdir(parents=True, exist_ok=True)
    (root / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    (root / "coarse_label_names.txt").write_text("\n".join(coarse_names) + "\n")
    records = [
        struct.pack("BB", above, label) + image.transpose(2, 0, 1).tobytes()
        for image, label, above in zip(images, fine, coarse, strict=True)
    ]
    (root / "test.bin").write_bytes(b"".join(records))
    return {"name": "c100", "format": "cifar-100", "path": str(root)}


def mnist(root: Path, images: np.ndarray, labels: Any, *, prefix: str = "t10k", suffix: str = "") -> dict:
    root.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if suffix else bytes
    head = struct.pack(">HBBIII", 0, 8, 3, *images.shape)
    (root / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(head + images.tobytes()))
    head = struct.pack(">HBBI", 0, 8, 1, len(labels))
    (root / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(head + bytes(int(label) for label in labels)))
    return {"name": "m", "format": "mnist", "path": str(root)}


def table(pictures: list[Any], labels: list[Any], *, as_struct: bool = True, names: Any = None) -> pa.Table:
    if as_struct:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        column = pa.array([{"bytes": raw, "path": f"{n}.png"} for n, raw in enumerate(pictures)], kind)
    else:
        column = pa.array(pictures, pa.binary())
    made = pa.table({"id": pa.array(range(len(pictures))), "image": column, "label": pa.array(labels)})
    if names:
        feature = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    return made


def parquet_file(path: Path, pictures: list[Any], labels: list[Any], *, group: int = 4, **options: Any) -> dict:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table(pictures, labels, **options), path, row_group_size=group)
    return {"name": "p", "format": "parquet", "path": str(path)}


def hub(
    root: Path, pictures: list[Any], labels: list[Any], *, split: str = "test", shards: int = 2, **more: Any
) -> dict:
    for number, rows in enumerate(np.array_split(np.arange(len(pictures)), shards)):
        path = root / "data" / f"{split}-{number:05d}-of-{shards:05d}-0123456789abcdef.parquet"
        parquet_file(path, [pictures[row] for row in rows], [labels[row] for row in rows], **more)
    return {"name": "h", "format": "huggingface", "path": str(root)}


def saved(root: Path, pictures: list[Any], labels: list[Any], *, shards: int = 2, names: Any = LETTERS) -> dict:
    """Write what ``Dataset.save_to_disk`` leaves: Arrow streams, state.json, dataset_info.json."""
    root.mkdir(parents=True, exist_ok=True)
    files = [f"data-{number:05d}-of-{shards:05d}.arrow" for number in range(shards)]
    for name, rows in zip(files, np.array_split(np.arange(len(pictures)), shards), strict=True):
        made = table([pictures[row] for row in rows], [labels[row] for row in rows])
        with pa.OSFile(str(root / name), "wb") as sink, pa.ipc.new_stream(sink, made.schema) as writer:
            writer.write_table(made, max_chunksize=3)
    state = {"_data_files": [{"filename": name} for name in files], "_fingerprint": "0", "_split": None}
    (root / "state.json").write_text(json.dumps(state))
    feature = {"label": {"names": list(names), "_type": "ClassLabel"}}
    (root / "dataset_info.json").write_text(json.dumps({"features": feature}))
    return {"name": "s", "format": "huggingface", "path": str(root)}


def metadata(root: Path, pictures: list[Any], labels: list[Any], *, kind: str = "jsonl") -> dict:
    (root / "sub").mkdir(parents=True, exist_ok=True)
    rows = [{"file_name": f"sub/{number}.png", "label": label} for number, label in enumerate(labels)]
    for row, raw in zip(rows, pictures, strict=True):
        (root / row["file_name"]).write_bytes(raw)
    lines = [json.dumps(row) for row in rows]
    if kind == "csv":
        lines = ["file_name,label", *(f"{row['file_name']},{row['label']}" for row in rows)]
    (root / f"metadata.{kind}").write_text("\n".join(lines) + "\n")
    return {"name": "i", "format": "huggingface", "path": str(root)}


def class_folders(root: Path, pictures: list[Any], names: list[str]) -> dict:
    for number, (raw, name) in enumerate(zip(pictures, names, strict=True)):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / f"{number:04d}.png").write_bytes(raw)
    return {"name": "f", "format": "folder", "path": str(root)}


def imagenet_flat(root: Path, pictures: list[Any], answers: list[Any]) -> dict:
    (root / "val").mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate(pictures, start=1):
        (root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(raw)
    truth = root / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{answer}\n" for answer in answers))
    spec = {"name": "v", "format": "imagenet-flat", "path": str(root / "val")}
    return spec | {"options": {"ground_truth": str(truth)}}


@pytest.fixture(scope="session")
def write() -> SimpleNamespace:
    return SimpleNamespace(
        encoded=encoded,
        cifar_10=cifar_10,
        cifar_100=cifar_100,
        mnist=mnist,
        table=table,
        parquet=parquet_file,
        hub=hub,
        saved=saved,
        metadata=metadata,
        folders=class_folders,
        flat=imagenet_flat,
    )
