"""The registry: lazy, without duplicates, with near names."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from workers.engine.protocol import UsageError
from workers.engine.zoos import registry

if TYPE_CHECKING:
    from workers.engine.zoos.base import Zoo


def test_opening_a_zoo_imports_only_its_framework() -> None:
    code = (
        "import sys; from workers.engine.zoos.registry import open_zoo, zoo_names; zoo_names();"
        "loaded = lambda: {'torch', 'timm', 'keras', 'onnx', 'torchvision'} & set(sys.modules);"
        "assert not loaded(), loaded(); zoo = open_zoo('onnx'); zoo.describe('resnet50-v1-12', None);"
        "list(zoo.listings());"
        "assert not loaded(), loaded(); open_zoo('timm'); assert 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_zoo_speaks_the_protocol() -> None:
    assert registry.zoo_names() == ["torchvision", "timm", "keras", "onnx", "file"]
    for name in registry.zoo_names():
        zoo: Zoo = registry.open_zoo(name)
        assert zoo.name == name
        assert all(callable(getattr(zoo, method)) for method in ("version", "listings", "describe", "fetch", "load"))


def test_unknown_zoos_get_near_names() -> None:
    with pytest.raises(UsageError, match=r"no zoo 'torchvison'. Did you mean torchvision\?"):
        registry.open_zoo("torchvison")


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'timm' is already registered"):
        registry.register("timm", "somewhere:Else")


def test_a_local_zoo_cannot_take_a_zoos_name(tmp_path: object) -> None:
    with pytest.raises(UsageError, match="cannot be called 'keras'"):
        registry.open_zoo("keras", tmp_path)  # type: ignore[arg-type]
