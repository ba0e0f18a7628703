"""timm (PyTorch Image Models): pretrained tags as listings, data configurations as contracts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.engine.contracts.contract import Contract
from workers.engine.protocol import SubjectError, UsageError
from workers.engine.zoos.architectures import architecture_key
from workers.engine.zoos.base import NO_WEIGHTS, Listing, Model, Structure, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNTAGGED = "default"
"""The weights tag of a model whose only published weights have no tag of their own."""


class TimmZoo:
    """The models of ``timm.list_models()`` with every pretrained tag.

    timm writes a tag behind the name, ``resnet50.a1_in1k``; that form is read too. The package carries no accuracy
    figures, so its listings make no claims.
    """

    name = "timm"

    def version(self) -> str:
        """Version of the timm package."""
        import timm

        return str(timm.__version__)

    def listings(self) -> Iterator[Listing]:
        """Every pretrained tag of every model, then ``none``; read from timm's registry."""
        from timm import list_models

        for name in list_models():
            tags = _tags(name)
            for index, tag in enumerate(tags):
                yield self._listing(name, tag, default=index == 0)
            yield self._listing(name, NO_WEIGHTS, default=not tags)

    def describe(self, name: str, weights: str | None) -> Listing:
        """Return one listing; the default is timm's own default tag, or ``none`` where nothing is published."""
        from timm import is_model, list_models

        name, dot, tag = name.partition(".")
        if dot and weights is not None and weights != tag:
            raise UsageError(
                "two-weights-tags", f"timm:{name}.{tag}@{weights} names two weights tags; write only one of them."
            )
        if not is_model(name):
            raise unknown("model", name, list_models(), where="timm", advice="`zooaudit models --zoo timm` lists all.")
        tags = _tags(name)
        default = tags[0] if tags else NO_WEIGHTS
        weights = tag if dot else (weights or default)
        if weights not in {*tags, NO_WEIGHTS}:
            advice = f"It has {', '.join([*tags, NO_WEIGHTS])}."
            raise unknown("weights tag", weights, [*tags, NO_WEIGHTS], where=f"timm:{name}", advice=advice)
        return self._listing(name, weights, default=weights == default)

    def _listing(self, name: str, tag: str, *, default: bool) -> Listing:
        from timm.data.imagenet_info import infer_imagenet_subset

        config = _config(name, tag)
        return Listing(
            zoo=self.name,
            name=name,
            weights=tag,
            architecture=architecture_key(self.name, name),
            default=default,
            label_space=infer_imagenet_subset({"num_classes": config.num_classes}),
            classes=config.num_classes or None,
            contract=_contract(name, tag, config),
            licence=config.license,
            runtimes=("onnxruntime", "torch"),
        )

    def fetch(self, listing: Listing) -> list[Path]:
        """Download into the Hugging Face cache, or torch's hub cache for weights with an address of their own."""
        if listing.weights == NO_WEIGHTS:
            return []
        from timm.models import _hub

        from workers.engine.zoos.torch_models import not_fetched

        if (cached := _cached(listing)) is not None:
            return [cached]
        config = _config(listing.name, listing.weights)
        try:
            if not config.hf_hub_id:
                return [Path(_hub.download_cached_file(config.url, check_hash=True))]
            return [_download_from_hub(config)]
        except Exception as error:  # the hub's client and urllib share no class
            raise not_fetched(listing, _folder(listing), error) from error

    def load(self, listing: Listing) -> Model:
        """Build with timm's own factory, from a file of the cache."""
        from timm import create_model

        from workers.engine.safety.sniff import sniff
        from workers.engine.zoos import artifacts, torch_models

        if listing.weights == NO_WEIGHTS:
            module = torch_models.build_random(listing, lambda: create_model(listing.name, pretrained=False))
            artifact = torch_models.memory_artifact(module)
        else:
            path = _cached(listing)
            if path is None:
                raise torch_models.not_cached(listing, _folder(listing))
            config = _config(listing.name, listing.weights)
            own_format = config.custom_load and not config.hf_hub_id
            file_format = sniff(path, allow=torch_models.TENSOR_FORMATS)
            if own_format and file_format != "npz":
                raise SubjectError(
                    "custom-weights", f"{listing.ref} needs timm's own reader for .npz, but {path} is {file_format}."
                )
            # ``file`` comes first in timm's order of sources, so neither hub nor address is asked.
            overlay = {"file": str(path), "custom_load": own_format}
            tagged = listing.name if listing.weights == _UNTAGGED else f"{listing.name}.{listing.weights}"
            with torch_models.tensors_only(path):
                module = torch_models.build_bare(
                    listing, lambda: create_model(tagged, pretrained=True, pretrained_cfg_overlay=overlay), set()
                )
            module.eval()
            artifact = artifacts.of_file(path, file_format)
        parameters, buffers = torch_models.counts(module)
        contract = _contract(listing.name, listing.weights, _config(listing.name, listing.weights))
        return Model(listing, artifact, contract, module=module, parameters=parameters, buffers=buffers)

    def structure(self, listing: Listing) -> Structure:
        """Build with timm's own factory; the tag's configuration gives classes and size, and nothing is loaded."""
        from timm import create_model

        from workers.engine.zoos import torch_models

        untagged = listing.weights in {NO_WEIGHTS, _UNTAGGED}
        tagged = listing.name if untagged else f"{listing.name}.{listing.weights}"
        contract = _contract(listing.name, listing.weights, _config(listing.name, listing.weights))
        return torch_models.build_structure(listing, contract, lambda: create_model(tagged, pretrained=False))


def _tags(name: str) -> list[str]:
    """Tags of a model that have weights, timm's default first."""
    from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg

    configs = get_arch_pretrained_cfgs(name)
    tags = [config.tag or _UNTAGGED for config in configs.values() if config.has_weights]
    if not tags:
        return []
    chosen = get_pretrained_cfg(name)
    first = (chosen.tag or _UNTAGGED) if chosen else tags[0]
    return sorted(tags, key=lambda tag: tag != first)


def _config(name: str, tag: str) -> Any:
    """Return the pretrained configuration of a tag; of the default tag for ``none``."""
    from timm.models import get_pretrained_cfg
    from timm.models._pretrained import PretrainedCfg

    full = name if tag in {NO_WEIGHTS, _UNTAGGED} else f"{name}.{tag}"
    return get_pretrained_cfg(full) or PretrainedCfg(architecture=name)


def _contract(name: str, tag: str, config: Any) -> Contract:
    """Turn ``resolve_data_config`` into a contract, as ``timm.data.transforms_imagenet_eval`` would apply it."""
    from timm.data import resolve_data_config

    data = resolve_data_config(pretrained_cfg=vars(config))
    _, height, width = data["input_size"]
    scaled = (math.floor(height / data["crop_pct"]), math.floor(width / data["crop_pct"]))
    shape: dict[str, Any] = {"resize": scaled}
    if data["crop_mode"] == "border":
        # What is left over shows the mean colour.
        shape |= {"fit": "contain", "fill": tuple(round(255 * value) for value in data["mean"])}
    elif data["crop_mode"] != "squash":
        shape = {"resize": scaled[0]} if scaled[0] == scaled[1] else {"resize": scaled, "fit": "cover"}
    return Contract(
        height=height,
        width=width,
        **shape,
        crop=(height, width),
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        source=f"timm.data.resolve_data_config for {name}@{tag}",
    )


def _hub_files(config: Any) -> list[str]:
    """File names that timm tries on the hub, in its order: safetensors first."""
    from timm.models import _hub

    named = config.hf_hub_filename
    if named:
        return [named]
    return [*_hub._get_safe_alternatives(_hub.HF_WEIGHTS_NAME), _hub.HF_WEIGHTS_NAME]  # noqa: SLF001  (no public way)


def _cached(listing: Listing) -> Path | None:
    """Return the cached weights file of a listing; asks no network."""
    config = _config(listing.name, listing.weights)
    if not config.hf_hub_id:
        path = _folder(listing) / Path(config.url).name
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = config.hf_hub_id.partition("@")
    for name in _hub_files(config):
        found = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def _folder(listing: Listing) -> Path:
    """The cache folder of a listing's weights."""
    if _config(listing.name, listing.weights).hf_hub_id:
        from huggingface_hub.constants import HF_HUB_CACHE

        return Path(HF_HUB_CACHE)
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _download_from_hub(config: Any) -> Path:
    """Download the first of timm's file names that the hub has."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from timm.models import _hub

    *alternatives, last = _hub_files(config)
    for name in alternatives:
        try:
            return Path(_hub.download_from_hf(config.hf_hub_id, name))
        except LocalEntryNotFoundError:  # no answer at all; the next name would only wait as long again
            raise
        except EntryNotFoundError:
            continue
    return Path(_hub.download_from_hf(config.hf_hub_id, last))
