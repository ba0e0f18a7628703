"""torchvision's classification models: weights enums as listings, their transforms as contracts."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.contracts.contract import Contract
from workers.engine.zoos.architectures import architecture_key
from workers.engine.zoos.base import NO_WEIGHTS, Claim, Listing, Model, Structure, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOTES_FOR_AUX = {
    "inception_v3": "The auxiliary head is counted as torchvision publishes it; it is no part of the inference graph.",
    "googlenet": "Built without the auxiliary heads, as torchvision publishes its weights.",
}
_BUILD = {"googlenet": {"init_weights": False, "aux_logits": False}, "inception_v3": {"init_weights": False}}
"""Arguments without weights. The two old models warn unless told about their slow initialisation."""


class TorchvisionZoo:
    """The models of ``torchvision.models`` that classify pictures."""

    name = "torchvision"

    def version(self) -> str:
        """Version of the torchvision package."""
        import torchvision

        return str(torchvision.__version__)

    def listings(self) -> Iterator[Listing]:
        """Every weights tag of every classification model, then ``none``."""
        for name in _names():
            for tag in [*_tags(name), NO_WEIGHTS]:
                yield self._listing(name, tag)

    def describe(self, name: str, weights: str | None) -> Listing:
        """Return one listing; the default tag is the enum's ``DEFAULT``."""
        if name not in _names():
            raise unknown(
                "model", name, _names(), where="torchvision", advice="`zooaudit models --zoo torchvision` lists all."
            )
        tags = [*_tags(name), NO_WEIGHTS]
        if weights is None or weights == "DEFAULT":
            weights = _enum(name).DEFAULT.name
        if weights not in tags:
            raise unknown(
                "weights tag", weights, tags, where=f"torchvision:{name}", advice=f"It has {', '.join(tags)}."
            )
        return self._listing(name, str(weights))

    def _listing(self, name: str, tag: str) -> Listing:
        member = _member(name, tag)
        # VGG-16's IMAGENET1K_FEATURES has no classifier, hence no categories.
        categories = member.meta["categories"]
        return Listing(
            zoo=self.name,
            name=name,
            weights=tag,
            architecture=architecture_key(self.name, name),
            default=tag != NO_WEIGHTS and member is _enum(name).DEFAULT,
            label_space="imagenet-1k" if categories else None,
            classes=len(categories) if categories else None,
            contract=_contract(member),
            claims=_claims(member, random=tag == NO_WEIGHTS),
            licence=member.meta.get("license") or "BSD-3-Clause",
            runtimes=("onnxruntime", "torch"),
        )

    def fetch(self, listing: Listing) -> list[Path]:
        """Download one weights file into torch's hub cache; nothing for ``none``."""
        if listing.weights == NO_WEIGHTS:
            return []
        import torch

        from workers.engine.zoos.torch_models import not_fetched

        path = _cached(listing)
        if not path.exists():
            # As torch.hub.load_state_dict_from_url does, but without unpickling what came.
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                prefix = path.stem.rpartition("-")[2]
                torch.hub.download_url_to_file(
                    _enum(listing.name)[listing.weights].url, str(path), hash_prefix=prefix, progress=False
                )
            except Exception as error:  # DNS, TLS, HTTP, hash and disk errors have no common class
                raise not_fetched(listing, path.parent, error) from error
        return [path]

    def load(self, listing: Listing) -> Model:
        """Build with torchvision's own constructor; its download is replaced by a read of the cache."""
        from torchvision.models import get_model
        from torchvision.models._api import WeightsEnum

        from workers.engine.zoos import artifacts, torch_models
        from workers.engine.zoos.replaced import replaced

        notes = [_NOTES_FOR_AUX[listing.name]] if listing.name in _NOTES_FOR_AUX else []
        if listing.weights == NO_WEIGHTS:
            module = torch_models.build_random(
                listing, lambda: get_model(listing.name, weights=None, **_options(listing.name))
            )
            artifact = torch_models.memory_artifact(module)
        else:
            path = _cached(listing)
            if not path.is_file():
                raise torch_models.not_cached(listing, path.parent)
            state, file_format = torch_models.read_tensors(path)
            with replaced(WeightsEnum, "get_state_dict", lambda *_, **__: state):
                module = torch_models.build_bare(
                    listing, lambda: get_model(listing.name, weights=_enum(listing.name)[listing.weights]), set()
                )
            module.eval()
            artifact = artifacts.of_file(path, file_format)
            if not artifact.sha256.startswith(prefix := path.stem.rpartition("-")[2]):
                notes.append(
                    f"{path.name} in the cache is not the published file: its SHA-256 does not begin {prefix}."
                )
        parameters, buffers = torch_models.counts(module)
        contract = _contract(_member(listing.name, listing.weights))
        return Model(listing, artifact, contract, module=module, parameters=parameters, buffers=buffers, notes=notes)

    def structure(self, listing: Listing) -> Structure:
        """Build with torchvision's own constructor; the weights enum gives classes and size, and nothing is loaded."""
        import torch
        from torchvision.models import get_model
        from torchvision.models._api import WeightsEnum

        from workers.engine.zoos import torch_models
        from workers.engine.zoos.replaced import replaced

        notes = [_NOTES_FOR_AUX[listing.name]] if listing.name in _NOTES_FOR_AUX else []
        contract = _contract(_member(listing.name, listing.weights))

        def build() -> Any:
            if listing.weights == NO_WEIGHTS:
                return get_model(listing.name, weights=None, **_options(listing.name))
            with (
                replaced(WeightsEnum, "get_state_dict", lambda *_, **__: {}),
                replaced(torch.nn.Module, "load_state_dict", lambda *_, **__: None),
            ):
                return get_model(listing.name, weights=_enum(listing.name)[listing.weights])

        return torch_models.build_structure(listing, contract, build, notes)


def _options(name: str) -> dict[str, Any]:
    """What a constructor without weights must be told: its training-only parts, and the size that ViT is built for."""
    options = dict(_BUILD.get(name, {}))
    if name.startswith("vit_"):
        (options["image_size"],) = _member(name, NO_WEIGHTS).transforms().crop_size
    return options


@cache
def _names() -> list[str]:
    """Names of the classification models."""
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


@cache
def _enum(name: str) -> Any:
    """Return the weights enum of a model."""
    from torchvision.models import get_model_weights

    return get_model_weights(name)


def _member(name: str, tag: str) -> Any:
    """Return the weights of a tag; the default's for ``none``, which has their input."""
    return _enum(name).DEFAULT if tag == NO_WEIGHTS else _enum(name)[tag]


def _tags(name: str) -> list[str]:
    """Names of a model's weights, without the alias ``DEFAULT``."""
    return [member.name for member in _enum(name)]


def _cached(listing: Listing) -> Path:
    """Where torch.hub keeps the weights file of a listing."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(_enum(listing.name)[listing.weights].url).name


def _contract(member: Any) -> Contract:
    """Read the contract of a weights enum's transform."""
    transform = member.transforms()
    (crop,) = transform.crop_size
    (resize,) = transform.resize_size
    return Contract(
        height=crop,
        width=crop,
        resize=resize,
        interpolation=transform.interpolation.value,
        antialias=bool(transform.antialias),
        crop=(crop, crop),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        source=f"torchvision.models.{member}.transforms()",
    )


def _claims(member: Any, *, random: bool) -> tuple[Claim, ...]:
    """Read the claims of a weights enum's metadata; those about the architecture alone when ``random``."""
    meta, source = member.meta, f"torchvision.models.{member}.meta"
    claims = [Claim("parameters", float(meta["num_params"]), source), Claim("macs", meta["_ops"] * 1e9, source)]
    if random:
        return tuple(claims)
    # Rounding removes the noise of the division: 76.13 / 100 is 0.7612999....
    measured = meta["_metrics"].get("ImageNet-1K", {})
    for metric, key in (("top1", "acc@1"), ("top5", "acc@5")):
        if math.isfinite(measured.get(key, math.nan)):
            claims.append(Claim(metric, round(measured[key] / 100, 6), source))  # type: ignore[arg-type]
    # torchvision's _file_size is in MiB with three decimals: precise to about a kilobyte.
    claims.append(Claim("bytes", float(round(meta["_file_size"] * 2**20)), source))
    return tuple(claims)
