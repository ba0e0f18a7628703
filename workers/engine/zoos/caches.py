"""The folders that zoos download into, the only ones besides the scratch folder that ``fetch`` may write."""

from __future__ import annotations

import os
from pathlib import Path


def folders() -> list[Path]:
    """Return the caches of torch hub, Hugging Face, Keras and this project, by the variables that these read."""
    home = Path.home()
    shared = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    hub = os.environ.get("HF_HOME") or shared / "huggingface"
    written = [
        os.environ.get("TORCH_HOME") or shared / "torch",
        hub,
        os.environ.get("HF_HUB_CACHE") or Path(hub) / "hub",
        os.environ.get("KERAS_HOME") or home / ".keras",
        os.environ.get("ZOOAUDIT_CACHE_DIR") or home / ".cache" / "zooaudit",
    ]
    return [Path(folder).expanduser() for folder in written]
