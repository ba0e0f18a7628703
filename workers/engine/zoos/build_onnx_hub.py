"""Make ``onnx_hub.json`` from the ONNX Model Zoo's manifest: ``python -m workers.engine.zoos.build_onnx_hub MANIFEST``.

Keeps the classifiers of pictures, and adds what the manifest does not say and the models' pages do: the input contracts
and the claimed accuracies.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_PAGES = "https://github.com/onnx/models/tree/main/validated/vision/classification"

_NORMALISED = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

_COVERED: dict[str, Any] = {
    "resize": [256, 256],
    "fit": "cover",
    "crop": [224, 224],
    "crop_offset": "floor",
} | _NORMALISED
"""The ONNX graph on the ResNet page: Resize with ``not_smaller``, then CenterCropPad."""

_SQUARED: dict[str, Any] = {
    # MXNet's ``Resize(256)`` keeps no aspect ratio and, as OpenCV's ``resize``, does not antialias.
    "resize": [256, 256],
    "antialias": False,
    "crop": [224, 224],
    "crop_offset": "floor",
} | _NORMALISED

_TORCH: dict[str, Any] = {"resize": 256, "crop": [224, 224]} | _NORMALISED

_CAFFE: dict[str, Any] = {
    "resize": [224, 224],
    # Pillow's default since 7.0, which was there when the lines were written.
    "interpolation": "bicubic",
    "colour": "bgr",
    "scale": 1.0,
    "mean": [103.939, 116.779, 123.68],
}

_EDGE: dict[str, Any] = {
    "resize": 256,
    "antialias": False,
    "crop": [224, 224],
    "crop_offset": "floor",
    "scale": 1.0,
    "mean": [127.0, 127.0, 127.0],
    "std": [128.0, 128.0, 128.0],
    "layout": "nhwc",
}

_GREY: dict[str, Any] = {"resize": [28, 28], "antialias": False, "colour": "grey"}

_VALIDATION = "section Validation, imagenet_validation.ipynb"
_IN_TABLE = "the preprocess method that its accuracies depend on"

_RESNETS = [f"resnet{depth}-v{v}-7" for depth in (18, 34, 50, 101, 152) for v in (1, 2)]


def _opset_12(stem: str) -> list[str]:
    """Return the files of opset 12, which were added with their quantized forms."""
    return [f"{stem}-12", f"{stem}-12-int8", f"{stem}-12-qdq"]


_DOCUMENTED: tuple[tuple[list[str], dict[str, Any], str], ...] = (
    ([*_RESNETS, *_opset_12("resnet50-v1")], _COVERED, "resnet (section Preprocessing)"),
    (["squeezenet1.1-7"], _SQUARED, f"squeezenet ({_VALIDATION})"),
    (["vgg16-7", "vgg16-bn-7", "vgg19-7", "vgg19-bn-7", *_opset_12("vgg16")], _SQUARED, f"vgg ({_VALIDATION})"),
    (["mobilenetv2-7", "mobilenetv2-10", *_opset_12("mobilenetv2")], _SQUARED, f"mobilenet ({_VALIDATION})"),
    (["shufflenet-v2-10", *_opset_12("shufflenet-v2")], _TORCH, "shufflenet (section Preprocessing steps)"),
    (
        [*(f"googlenet-{version}" for version in (3, 6, 7, 8, 9)), *_opset_12("googlenet")],
        _CAFFE,
        "inception_and_googlenet/googlenet (section Pre-processing steps)",
    ),
    (_opset_12("bvlcalexnet"), _CAFFE, f"alexnet ({_IN_TABLE})"),
    (_opset_12("caffenet"), _CAFFE, f"caffenet ({_IN_TABLE})"),
    (
        [f"efficientnet-lite4-11{form}" for form in ("", "-int8", "-qdq")],
        _EDGE,
        "efficientnet-lite4 (section Preprocessing steps)",
    ),
    (["mnist-7", "mnist-8", "mnist-12", "mnist-12-int8"], _GREY, "mnist (section Preprocessing)"),
)
"""Files, the fields of their contract, and the page that says so. What no page says, or what a page says in two ways
of which neither is the one that its accuracies were measured by, is left out."""

_CONTRACTS = {
    stem: fields | {"source": f"{_PAGES}/{source}"} for stems, fields, source in _DOCUMENTED for stem in stems
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
        if stem in _CONTRACTS:
            entry["contract"] = _CONTRACTS[stem]
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
