"""Artifacts: the digest of a model's bytes, from a file or from tensors in memory."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from workers.engine.zoos.base import Artifact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CHUNK = 1 << 20

_DTYPES = {
    "torch.bool": "BOOL",
    "torch.uint8": "U8",
    "torch.int8": "I8",
    "torch.int16": "I16",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int32": "I32",
    "torch.uint32": "U32",
    "torch.float32": "F32",
    "torch.float64": "F64",
    "torch.int64": "I64",
}
"""Names of the safetensors format, in its own order: it stores wide types first."""

_RANK = ["BOOL", "U8", "I8", "I16", "F16", "BF16", "I32", "U32", "F32", "F64", "I64"]


def of_file(path: Path, file_format: str) -> Artifact:
    """Return the artifact of a file: SHA-256 of its bytes, read in chunks."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Artifact(digest.hexdigest(), size, file_format)


def of_state(state: Mapping[str, Any]) -> Artifact:
    """Return the artifact of named tensors (CPU): the digest of the bytes that safetensors would write.

    Tensor by tensor, so that no second copy of the model is held. Format: 8 bytes of header length (little endian),
    a JSON header padded with spaces to 8 bytes, then the tensors' bytes, widest type first and by name
    (https://github.com/huggingface/safetensors#format).
    """
    named = {name: (_DTYPES[str(tensor.dtype)], tensor) for name, tensor in state.items()}
    order = sorted(named, key=lambda name: (-_RANK.index(named[name][0]), name.encode()))
    header: dict[str, Any] = {}
    offset = 0
    for name in order:
        dtype, tensor = named[name]
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text)
    for name in order:
        digest.update(_bytes(named[name][1]))
    return Artifact(digest.hexdigest(), 8 + len(text) + offset, "safetensors")


def _bytes(tensor: Any) -> Any:
    """Return a tensor's memory, row by row, as a buffer."""
    import torch  # ONNX-only environments have none

    flat = tensor.detach().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b""
