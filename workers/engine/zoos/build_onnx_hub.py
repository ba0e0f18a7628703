"""Make ``onnx_hub.json`` from the ONNX Model Zoo's manifest: ``python -m workers.engine.zoos.build_onnx_hub MANIFEST``.

Keeps the classifiers of pictures, and adds what the manifest does not say and the models' pages do: the input contract
of the MXNet exports and the claimed accuracies.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_PAGES = "https://github.com/onnx/models/tree/main/validated/vision/classification"

_RESNET = {f"resnet{depth}-v{v}-7": "mxnet" for depth in (18, 34, 50, 101, 152) for v in (1, 2)}
_PREPROCESSING = {
    **_RESNET,
    "resnet50-v1-12": "mxnet",
    "resnet50-v1-12-int8": "mxnet",
    "resnet50-v1-12-qdq": "mxnet",
    **dict.fromkeys((f"googlenet-{version}" for version in (3, 6, 7, 8, 9, 12, "12-int8", "12-qdq")), "caffe"),
}
"""Models whose page describes the preprocessing; those of the other models leave it out."""

_CONTRACTS: dict[str, dict[str, Any]] = {
    "mxnet": {
        # The page gives these steps as an ONNX graph: Resize with ``not_smaller``, then CenterCropPad.
        "resize": [256, 256],
        "fit": "cover",
        "crop": [224, 224],
        "crop_offset": "floor",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "source": f"{_PAGES}/resnet (section Preprocessing)",
    },
    "caffe": {
        "resize": [224, 224],
        # Pillow's default since 7.0, which was there when the page was written.
        "interpolation": "bicubic",
        "colour": "bgr",
        "scale": 1.0,
        "mean": [103.939, 116.779, 123.68],
        "source": f"{_PAGES}/inception_and_googlenet/googlenet (section Pre-processing steps)",
    },
}

_CLAIMS: dict[str, tuple[float, float | None]] = {
    "resnet18-v1-7": (0.6993, 0.8929),
    "resnet34-v1-7": (0.7373, 0.9140),
    "resnet50-v1-7": (0.7493, 0.9238),
    "resnet101-v1-7": (0.7648, 0.9320),
    "resnet152-v1-7": (0.7711, 0.9361),
    "resnet50-v1-12": (0.7497, 0.9233),
    "resnet50-v1-12-int8": (0.7477, 0.9232),
    "resnet50-v1-12-qdq": (0.7443, None),
    "resnet18-v2-7": (0.6970, 0.8949),
    "resnet34-v2-7": (0.7336, 0.9143),
    "resnet50-v2-7": (0.7581, 0.9282),
    "resnet101-v2-7": (0.7742, 0.9361),
    "resnet152-v2-7": (0.7820, 0.9421),
    "bvlcalexnet-12": (0.5480, 0.7823),
    "bvlcalexnet-12-int8": (0.5468, 0.7823),
    "bvlcalexnet-12-qdq": (0.5471, 0.7822),
    "vgg16-7": (0.7262, None),
    "vgg16-12": (0.7238, None),
    "vgg19-7": (0.7372, None),
    "mobilenetv2-7": (0.7094, None),
    "mobilenetv2-10": (0.7094, None),
    "mobilenetv2-12": (0.6948, None),
    "densenet-12": (0.6096, None),
    "googlenet-12": (0.6778, None),
    "squeezenet1.0-12": (0.5685, None),
    "squeezenet1.1-7": (0.5634, None),
    "shufflenet-v2-10": (0.6936, None),
    "shufflenet-v2-12": (0.6635, None),
}
"""Claimed top-1 and top-5 by file stem, from the tables of the models' pages."""


def entries(manifest: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one compact entry a classifier: name, path, opset, sha256, bytes, input, classes, contract, claims."""
    kept = []
    for item in manifest:
        meta = item["metadata"]
        stem = Path(item["model_path"]).stem
        if meta["tags"][:2] != ["vision", "classification"] or "preproc" in stem:
            continue
        ports = meta.get("io_ports")
        entry: dict[str, Any] = {
            "name": stem,
            "title": item["model"],
            "path": item["model_path"],
            "opset": item["opset_version"],
            "sha256": meta["model_sha"],
            "bytes": meta["model_bytes"],
        }
        if ports:
            entry["input"] = ports["inputs"][0]["shape"]
            entry["classes"] = next((size for size in ports["outputs"][0]["shape"][1:] if isinstance(size, int)), None)
        if stem in _PREPROCESSING:
            entry["contract"] = _CONTRACTS[_PREPROCESSING[stem]]
        if stem in _CLAIMS:
            top1, top5 = _CLAIMS[stem]
            entry["claims"] = {"top1": top1} | ({"top5": top5} if top5 is not None else {})
            entry["page"] = f"{_PAGES}/{'/'.join(Path(item['model_path']).parts[3:-2])}"
        kept.append(entry)
    return sorted(kept, key=lambda entry: str(entry["name"]))


def main(source: Path) -> None:
    """Write the data file beside this script, one entry a line so that changes can be read."""
    lines = ",\n".join(json.dumps(entry) for entry in entries(json.loads(source.read_text(encoding="utf-8"))))
    (Path(__file__).parent / "onnx_hub.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
