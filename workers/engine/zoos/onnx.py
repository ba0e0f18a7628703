"""The ONNX Model Zoo: the networks inside the onnx package, and the files of its hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import urllib.request
from functools import cache
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.contracts.contract import Contract
from workers.engine.protocol import SubjectError, TransientError, UsageError
from workers.engine.zoos.architectures import architecture_key
from workers.engine.zoos.base import NO_WEIGHTS, Claim, Listing, Model, Structure, structure_of_file, unknown
from workers.engine.zoos.onnx_models import load_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLACEHOLDER = "placeholder"
_DEFAULT = "default"
_URL = "https://huggingface.co/onnxmodelzoo/{name}/resolve/main/{file}"
"""Where the hub's models live since its repository was deprecated: one repository a file, of the same name."""
_TIMEOUT_S = 60
_IMAGENET_CLASSES = 1000


class OnnxZoo:
    """Networks of the onnx package (``light_resnet50@placeholder``) and of the hub (``resnet50-v1-12@default``).

    The package's networks are the hub's graphs with constants in the place of weights: good for architecture and
    latency, not for accuracy. Hub files are fetched from ``$ZOOAUDIT_ONNX_HUB_URL``, a template with ``{name}``,
    ``{file}`` and ``{path}`` or the base address of a copy of the hub's tree, into ``$ZOOAUDIT_CACHE_DIR/onnx``.
    """

    name = "onnx"

    def version(self) -> str:
        """Version of the onnx package."""
        if find_spec("onnx") is None:
            raise ImportError("No module named 'onnx'")
        return version("onnx")

    def listings(self) -> Iterator[Listing]:
        """The package's networks, then the hub's."""
        yield from (self._light(path.stem) for path in _light_files())
        yield from (self._hub(entry) for entry in _hub_entries().values())

    def describe(self, name: str, weights: str | None) -> Listing:
        """Return one listing; each name has one tag, and ``none`` is not among them: a file has its weights."""
        light = [path.stem for path in _light_files()]
        if name in light:
            listing = self._light(name)
        elif name in _hub_entries():
            listing = self._hub(_hub_entries()[name])
        else:
            raise unknown(
                "model",
                name,
                [*light, *_hub_entries()],
                where="onnx",
                advice="`zooaudit models --zoo onnx` lists all.",
            )
        if weights == NO_WEIGHTS:
            raise UsageError(
                "no-random-weights",
                f"onnx:{name} is a file with its weights inside, so it has no tag 'none'; use {listing.ref}, or one of "
                "the networks of the onnx package (onnx:light_resnet50, ...) for an audit without a download.",
            )
        if weights not in {None, listing.weights}:
            raise unknown(
                "weights tag",
                str(weights),
                [listing.weights],
                where=f"onnx:{name}",
                advice=f"It has {listing.weights}.",
            )
        return listing

    def _light(self, name: str) -> Listing:
        return Listing(
            zoo=self.name,
            name=name,
            weights=_PLACEHOLDER,
            architecture=architecture_key(self.name, name),
            default=True,
            label_space="imagenet-1k",
            classes=_IMAGENET_CLASSES,
            licence="Apache-2.0",
        )

    def _hub(self, entry: dict[str, Any]) -> Listing:
        claims = [Claim("bytes", float(entry["bytes"]), "ONNX_HUB_MANIFEST.json of the ONNX Model Zoo")]
        for metric, value in entry.get("claims", {}).items():
            claims.append(Claim(metric, value, entry["page"]))
        return Listing(
            zoo=self.name,
            name=entry["name"],
            weights=_DEFAULT,
            architecture=architecture_key(self.name, entry["name"]),
            default=True,
            label_space="imagenet-1k" if entry.get("classes") == _IMAGENET_CLASSES else None,
            classes=entry.get("classes"),
            contract=_contract(entry),
            claims=tuple(claims),
        )

    def fetch(self, listing: Listing) -> list[Path]:
        """Download a hub file and check its SHA-256 before it gets its name; the package's networks are there."""
        if listing.weights == _PLACEHOLDER:
            return [_light_folder() / f"{listing.name}.onnx"]
        entry = _hub_entries()[listing.name]
        path = _cached(entry)
        if path.is_file():
            return [path]
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        address = _address(entry)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with (
                urllib.request.urlopen(address, timeout=_TIMEOUT_S) as reply,  # noqa: S310  (the operator's address)
                partial.open("wb") as file,
            ):  # the operator's address
                shutil.copyfileobj(reply, file)
            with partial.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != entry["sha256"]:
                raise SubjectError(
                    "wrong-digest",
                    f"{address} is not the published {listing.ref}: its SHA-256 is {digest}, not {entry['sha256']}. "
                    "Set ZOOAUDIT_ONNX_HUB_URL to a faithful copy of the hub.",
                )
            partial.replace(path)
        except OSError as error:  # URLError and time-outs are OSErrors
            raise TransientError(
                "weights-not-fetched",
                f"{listing.ref} could not be downloaded from {address} ({error}); try again with a network, set "
                f"ZOOAUDIT_ONNX_HUB_URL, or copy the file to {path}. {_ALTERNATIVE}",
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return [path]

    def load(self, listing: Listing) -> Model:
        """Check the file and return it; nothing is built."""
        if listing.weights == _PLACEHOLDER:
            path = _light_folder() / f"{listing.name}.onnx"
        else:
            path = _cached(_hub_entries()[listing.name])
            if not path.is_file():
                raise TransientError(
                    "weights-not-cached",
                    f"{listing.ref} is not in {path.parent}; fetch it where there is a network or copy it there as "
                    f"{path.name}. {_ALTERNATIVE}",
                )
        return load_onnx(listing, path)

    def structure(self, listing: Listing) -> Structure:
        """Return the file: its graph is in it."""
        return structure_of_file(self, listing)


_ALTERNATIVE = (
    "A file has its weights inside, so there is no @none of it; the onnx package's own networks (onnx:light_resnet50, "
    "...) need no download."
)


def _light_folder() -> Path:
    """Folder of the networks inside the onnx package, found without importing it."""
    spec = find_spec("onnx")
    if spec is None or spec.origin is None:
        raise ImportError("No module named 'onnx'")
    return Path(spec.origin).parent / "backend" / "test" / "data" / "light"


def _light_files() -> list[Path]:
    """Files of the networks inside the onnx package."""
    return sorted(_light_folder().glob("light_*.onnx"))


@cache
def _hub_entries() -> dict[str, dict[str, Any]]:
    """Read ``onnx_hub.json``, made by ``build_onnx_hub.py``, by name."""
    text = resources.files(__package__).joinpath("onnx_hub.json").read_text(encoding="utf-8")
    return {entry["name"]: entry for entry in json.loads(text)}


def _contract(entry: dict[str, Any]) -> Contract | None:
    """Return the documented contract, or None where the zoo documents none."""
    if "contract" not in entry:
        return None
    fields = entry["contract"]
    _, *sides = entry["input"]
    height, width = sides[:2] if fields.get("layout") == "nhwc" else sides[1:]
    return Contract.from_json({"height": height, "width": width} | fields)


def _cached(entry: dict[str, Any]) -> Path:
    """Where a hub file is kept."""
    root = os.environ.get("ZOOAUDIT_CACHE_DIR")
    folder = Path(root).expanduser() if root else Path.home() / ".cache" / "zooaudit"
    return folder / "onnx" / f"{entry['name']}.onnx"


def _address(entry: dict[str, Any]) -> str:
    """Return the address of a hub file."""
    template = os.environ.get("ZOOAUDIT_ONNX_HUB_URL", _URL)
    if "{" not in template:
        template = template.rstrip("/") + "/{path}"
    return template.format(name=entry["name"], file=Path(entry["path"]).name, path=entry["path"])
