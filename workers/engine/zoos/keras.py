"""Keras Applications on Keras' torch backend: constructors as names, preprocessing modes as contracts."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.contracts.contract import Contract
from workers.engine.zoos.architectures import architecture_key
from workers.engine.zoos.base import NO_WEIGHTS, Claim, Listing, Model, Structure, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workers.engine.protocol import TransientError

_IMAGENET = "imagenet"
_TABLE = "https://keras.io/api/applications/"

_MODES: dict[str, dict[str, Any]] = {
    "caffe": {"colour": "bgr", "scale": 1.0, "mean": (103.939, 116.779, 123.68)},
    "tf": {"scale": 1 / 127.5, "mean": (1.0, 1.0, 1.0)},
    "torch": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "graph": {"scale": 1.0},
}
"""``preprocess_input`` by mode, keras/src/applications/imagenet_utils.py."""


class KerasZoo:
    """The classifiers of ``keras.applications``, by the names of their constructors."""

    name = "keras"

    def version(self) -> str:
        """Version of the Keras package."""
        from workers.engine.zoos.keras_models import import_keras

        return str(import_keras().__version__)

    def listings(self) -> Iterator[Listing]:
        """Every model with its tags ``imagenet`` and ``none``."""
        for name in _models():
            yield self._listing(name, _IMAGENET)
            yield self._listing(name, NO_WEIGHTS)

    def describe(self, name: str, weights: str | None) -> Listing:
        """Return one listing; the default tag is ``imagenet``."""
        if name not in _models():
            raise unknown("model", name, _models(), where="keras", advice="`zooaudit models --zoo keras` lists all.")
        weights = weights or _IMAGENET
        if weights not in (tags := [_IMAGENET, NO_WEIGHTS]):
            raise unknown("weights tag", weights, tags, where=f"keras:{name}", advice=f"It has {', '.join(tags)}.")
        return self._listing(name, weights)

    def _listing(self, name: str, tag: str) -> Listing:
        return Listing(
            zoo=self.name,
            name=name,
            weights=tag,
            architecture=architecture_key(self.name, name),
            default=tag == _IMAGENET,
            label_space="imagenet-1k",
            classes=1000,
            contract=_contract(name),
            claims=_claims(name, random=tag == NO_WEIGHTS),
            licence="Apache-2.0",
            runtimes=("onnxruntime", "torch"),
        )

    def fetch(self, listing: Listing) -> list[Path]:
        """Download one weights file with Keras' own code into its cache; nothing for ``none``."""
        if listing.weights == NO_WEIGHTS:
            return []
        from keras.src.utils import file_utils

        from workers.engine.zoos.torch_models import not_fetched

        download = file_utils.get_file

        def stop_after(*args: Any, **kwargs: Any) -> str:
            raise _Found(Path(download(*args, **kwargs)))

        try:
            self._construct(listing, stop_after)
        except _Found as found:
            return [found.path]
        except Exception as error:  # Keras raises a bare Exception for a failed download
            raise not_fetched(listing, _folder(), error) from error
        return []

    def load(self, listing: Listing) -> Model:
        """Build with the constructor; its download is replaced by a look into the cache."""
        from workers.engine.safety.sniff import sniff
        from workers.engine.zoos import artifacts, keras_models
        from workers.engine.zoos.torch_models import not_cached

        contract = _contract(listing.name)
        notes: list[str] = []
        read: list[Path] = []

        def from_cache(fname: str, *_: Any, file_hash: str | None = None, **__: Any) -> str:
            path = _folder() / fname
            if not path.is_file():
                missing: TransientError = not_cached(listing, _folder())
                raise missing
            sniff(path)
            if file_hash and not _validate(path, file_hash):
                notes.append(f"{fname} in the cache is not the published file: its hash is not {file_hash}.")
            read.append(path)
            return str(path)

        loads = listing.weights != NO_WEIGHTS
        model = keras_models.build(listing, contract.layout, lambda: self._construct(listing, from_cache), loads=loads)
        artifact = artifacts.of_file(read[0], sniff(read[0])) if read else keras_models.memory_artifact(model)
        parameters, buffers = keras_models.counts(model)
        return Model(listing, artifact, contract, module=model, parameters=parameters, buffers=buffers, notes=notes)

    def structure(self, listing: Listing) -> Structure:
        """Build with the constructor, with variables of zeros.

        Keras makes every variable from an initializer's value and checks it, so that its variables cannot be absent;
        the largest of its models holds 1.4 GB. Drawing random values is left out.
        """
        from workers.engine.zoos import keras_models

        contract = _contract(listing.name)
        bare = replace(listing, weights=NO_WEIGHTS)

        def nothing(*_: Any, **__: Any) -> str:
            raise AssertionError("a constructor without weights asked for a file")

        model = keras_models.build(listing, contract.layout, lambda: self._construct(bare, nothing), loads=True)
        parameters, buffers = keras_models.counts(model)
        notes = ["Built with weights of zeros: Keras' variables cannot be made without memory."]
        return Structure(listing, contract, "random", module=model, parameters=parameters, buffers=buffers, notes=notes)

    def _construct(self, listing: Listing, get_file: Callable[..., str]) -> Any:
        """Call the constructor with ``get_file`` in the place of Keras' download."""
        from workers.engine.zoos.keras_models import import_keras
        from workers.engine.zoos.replaced import replaced

        keras = import_keras()
        from keras.src.utils import file_utils

        constructor = getattr(keras.applications, listing.name)
        with replaced(file_utils, "get_file", get_file):
            return constructor(weights=None if listing.weights == NO_WEIGHTS else _IMAGENET)


class _Found(Exception):  # noqa: N818  # a way out of the constructor, not an error
    """Carries the downloaded file out of a constructor."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


@cache
def _models() -> dict[str, Any]:
    """Read ``keras.toml``: name to size, mode, layout and claims."""
    text = resources.files(__package__).joinpath("keras.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text)["models"])


def _folder() -> Path:
    """Keras' cache of weights."""
    from keras.src.backend import config

    return Path(config.keras_home()) / "models"


def _validate(path: Path, file_hash: str) -> bool:
    """Compare a file with its published MD5 or SHA-256."""
    from keras.src.utils.file_utils import validate_file

    return bool(validate_file(str(path), file_hash))


def _contract(name: str) -> Contract:
    """Return the contract of the documented use: ``load_img(target_size=...)``, then ``preprocess_input``.

    ``load_img`` squashes the picture to the target size with nearest-neighbour interpolation unless told otherwise.
    """
    entry = _models()[name]
    size = entry["size"]
    return Contract(
        height=size,
        width=size,
        resize=(size, size),
        interpolation="nearest",
        antialias=False,
        layout=entry.get("layout", "nchw"),
        source=f"keras.utils.load_img and preprocess_input of keras.applications.{name}, mode {entry['mode']}",
        **_MODES[entry["mode"]],
    )


def _claims(name: str, *, random: bool) -> tuple[Claim, ...]:
    """Return the claims of the documentation's table; those about the architecture alone when ``random``."""
    entry = _models()[name]
    metrics = ("parameters",) if random else ("top1", "top5", "parameters")
    return tuple(
        Claim(metric, float(entry[metric]), _TABLE)  # type: ignore[arg-type]
        for metric in metrics
        if metric in entry
    )
