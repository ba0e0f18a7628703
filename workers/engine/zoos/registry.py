"""The zoos by name; an adapter, and with it its framework, is imported only when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from workers.engine.protocol import UsageError
from workers.engine.zoos.base import unknown

if TYPE_CHECKING:
    from pathlib import Path

    from workers.engine.zoos.base import Zoo

_UPLOAD = "upload"
"""Zoo of an uploaded file, whose place is given for its folder."""

_ADAPTERS: dict[str, str] = {}
"""Zoo name to ``module:class``."""


def register(name: str, adapter: str) -> None:
    """Add an adapter as ``module:class``; raises ValueError when the name is taken."""
    if name in _ADAPTERS:
        raise ValueError(f"the zoo {name!r} is already registered as {_ADAPTERS[name]}")
    _ADAPTERS[name] = adapter


def zoo_names() -> list[str]:
    """Names of the registered zoos, in the order of registration; local zoos are not among them."""
    return list(_ADAPTERS)


def open_zoo(name: str, folder: Path | None = None) -> Zoo:
    """Return the zoo of a name.

    ``folder`` is given for a team's own zoo and holds its ``zoo.toml``; for an upload it is the file itself.

    Raises UsageError for an unknown name, for a local zoo that takes a registered zoo's name, and when the package
    that a zoo needs is not installed.
    """
    if folder is not None:
        if name == _UPLOAD:
            from workers.engine.zoos.file import UploadZoo

            return UploadZoo(folder)
        if name in _ADAPTERS:
            raise UsageError(
                "zoo-name-taken", f"A local zoo cannot be called {name!r}: that is a zoo of its own; rename it."
            )
        from workers.engine.zoos.local import LocalZoo

        return LocalZoo(name, folder)
    if name not in _ADAPTERS:
        raise unknown(
            "zoo",
            name,
            _ADAPTERS,
            where="This installation",
            advice="A team's own zoo needs its folder in the settings.",
        )
    module, _, attribute = _ADAPTERS[name].partition(":")
    zoo: Zoo = getattr(importlib.import_module(module), attribute)()
    try:
        zoo.version()
    except ImportError as error:
        raise UsageError(
            "zoo-not-installed",
            f"The zoo {name!r} needs a package that is not installed here ({error}); install zooaudit[{name}] or "
            "zooaudit[keras], which holds all.",
        ) from error
    return zoo


register("torchvision", "workers.engine.zoos.torchvision:TorchvisionZoo")
register("timm", "workers.engine.zoos.timm:TimmZoo")
register("keras", "workers.engine.zoos.keras:KerasZoo")
register("onnx", "workers.engine.zoos.onnx:OnnxZoo")
register("file", "workers.engine.zoos.file:FileZoo")
