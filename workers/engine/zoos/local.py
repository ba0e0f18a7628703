"""A team's own zoo: a folder with a ``zoo.toml`` (docs/local-zoos.md)."""

from __future__ import annotations

import importlib.util
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workers.engine.contracts.contract import Contract
from workers.engine.protocol import SubjectError, UnsafeError, UsageError
from workers.engine.zoos.architectures import architecture_key
from workers.engine.zoos.base import NO_WEIGHTS, Claim, Listing, Model, Structure, structure_of_file, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ZOO_KEYS = {"name", "title", "team", "version", "models"}
_MODEL_KEYS = {
    "framework",
    "builder",
    "arguments",
    "architecture",
    "input",
    "label_space",
    "classes",
    "licence",
    "weights",
    "claims",
    "default",
}
_FRAMEWORKS = ("torch", "keras", "onnx")
_CLAIMS = {"top1", "top5", "parameters", "macs", "bytes"}
_FORMATS = {"torch": "safetensors", "keras": "hdf5"}


class LocalZoo:
    """The models of one ``zoo.toml``. The operator who configured the folder trusts its builders to run."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder.resolve()
        self._models, self._version = _read(self._folder)

    def version(self) -> str:
        """The ``version`` of the zoo.toml, or an empty string."""
        return self._version

    def listings(self) -> Iterator[Listing]:
        """Every weights tag of every model; ``none`` where there is a builder."""
        for name in self._models:
            for tag in self._tags(name):
                yield self._listing(name, tag)

    def describe(self, name: str, weights: str | None) -> Listing:
        """Return one listing; the default is the model's ``default``, else its first tag."""
        if name not in self._models:
            raise unknown(
                "model", name, self._models, where=self.name, advice=f"{self._folder / 'zoo.toml'} lists all."
            )
        tags = self._tags(name)
        weights = weights or self._default(name)
        if weights not in tags:
            raise unknown(
                "weights tag", weights, tags, where=f"{self.name}:{name}", advice=f"It has {', '.join(tags)}."
            )
        return self._listing(name, weights)

    def _tags(self, name: str) -> list[str]:
        entry = self._models[name]
        return [*entry.get("weights", {}), *([NO_WEIGHTS] if "builder" in entry else [])]

    def _default(self, name: str) -> str:
        return str(self._models[name].get("default") or self._tags(name)[0])

    def _listing(self, name: str, tag: str) -> Listing:
        entry = self._models[name]
        source = f"{self._folder.name}/zoo.toml"
        claims = entry.get("claims", {})
        given = claims.get(tag, {}) if tag in entry.get("weights", {}) else {}
        return Listing(
            zoo=self.name,
            name=name,
            weights=tag,
            architecture=entry.get("architecture") or architecture_key("torchvision", name),
            default=tag == self._default(name),
            label_space=entry.get("label_space"),
            classes=entry.get("classes"),
            contract=_contract(entry.get("input"), f"{source}, [models.{name}.input]"),
            claims=tuple(Claim(metric, float(value), source) for metric, value in given.items()),
            licence=entry.get("licence"),
            runtimes=("onnxruntime",) if entry["framework"] == "onnx" else ("onnxruntime", "torch"),
        )

    def fetch(self, listing: Listing) -> list[Path]:
        """Return the weights file: a folder needs no download."""
        return [] if listing.weights == NO_WEIGHTS else [self._file(listing)]

    def load(self, listing: Listing) -> Model:
        """Load an ONNX file, or build with the model's builder and read tensors into it."""
        framework = self._models[listing.name]["framework"]
        if framework == "onnx":
            from workers.engine.zoos.onnx_models import load_onnx

            return load_onnx(listing, self._file(listing))
        contract = listing.contract
        if contract is None:
            raise UsageError(
                "no-input-contract",
                f"{listing.ref} has no input contract; add [models.{listing.name}.input] to its zoo.toml.",
            )
        load = self._load_torch if framework == "torch" else self._load_keras
        return load(listing, contract)

    def structure(self, listing: Listing) -> Structure:
        """Run the model's builder without weights (torch), or load the model as it is."""
        framework = self._models[listing.name]["framework"]
        if framework == "onnx":
            return structure_of_file(self, listing)
        if framework == "torch" and listing.contract is not None:
            from workers.engine.zoos.torch_models import build_structure

            return build_structure(listing, listing.contract, self._builder(listing.name))
        model = self.load(replace(listing, weights=NO_WEIGHTS))
        return Structure(
            listing, model.contract, "random", module=model.module, parameters=model.parameters, buffers=model.buffers
        )

    def _load_torch(self, listing: Listing, contract: Contract) -> Model:
        from workers.engine.zoos import artifacts, torch_models

        module = torch_models.build_random(listing, self._builder(listing.name))
        if listing.weights == NO_WEIGHTS:
            artifact = torch_models.memory_artifact(module)
        else:
            path = self._checked(listing, "torch")
            state, _ = torch_models.read_tensors(path)
            try:
                module.load_state_dict(state)
            except RuntimeError as error:
                raise _misfit(listing, path, error) from error
            artifact = artifacts.of_file(path, "safetensors")
        parameters, buffers = torch_models.counts(module)
        return Model(listing, artifact, contract, module=module, parameters=parameters, buffers=buffers)

    def _load_keras(self, listing: Listing, contract: Contract) -> Model:
        from workers.engine.zoos import artifacts, keras_models

        model = keras_models.build(listing, contract.layout, self._builder(listing.name))
        if listing.weights == NO_WEIGHTS:
            artifact = keras_models.memory_artifact(model)
        else:
            path = self._checked(listing, "keras")
            try:
                model.load_weights(str(path))
            except Exception as error:  # Keras and h5py raise many kinds
                raise _misfit(listing, path, error) from error
            artifact = artifacts.of_file(path, "hdf5")
        parameters, buffers = keras_models.counts(model)
        return Model(listing, artifact, contract, module=model, parameters=parameters, buffers=buffers)

    def _checked(self, listing: Listing, framework: str) -> Path:
        """Return the weights file after a look at its real format."""
        from workers.engine.safety.sniff import sniff

        path = self._file(listing)
        if (found := sniff(path)) != _FORMATS[framework]:
            raise SubjectError(
                "wrong-format", f"{path} is {found}, but {listing.ref} needs {_FORMATS[framework]}; save it again."
            )
        return path

    def _file(self, listing: Listing) -> Path:
        """Return the weights file of a listing; raises for paths that leave the folder or are not there."""
        written = self._models[listing.name]["weights"][listing.weights]
        path = _inside(self._folder, written, listing.ref)
        if not path.is_file():
            raise SubjectError(
                "weights-missing",
                f"{listing.ref} has no file {path}; train or copy it there, or change its zoo.toml.",
            )
        return path

    def _builder(self, name: str) -> Callable[[], Any]:
        """Import a model's builder, ``file.py:function``, with its arguments bound."""
        entry = self._models[name]
        file, _, function = entry["builder"].partition(":")
        path = _inside(self._folder, file, f"{self.name}:{name}")
        spec = importlib.util.spec_from_file_location(f"_local_zoo_{self.name}_{path.stem}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise UsageError("no-builder", f"{self.name}:{name} has no builder file {path}; correct its zoo.toml.")
        module = importlib.util.module_from_spec(spec)
        if entry["framework"] == "keras":
            from workers.engine.zoos.keras_models import import_keras

            import_keras()  # the builder's own import must meet the torch backend
        try:
            spec.loader.exec_module(module)
            build = getattr(module, function)
        except Exception as error:  # the team's own code
            raise SubjectError(
                "cannot-build",
                f"{self.name}:{name} cannot be built: {path.name} fails with {type(error).__name__}: {error}",
            ) from error
        arguments = entry.get("arguments", {})
        return lambda: build(**arguments)


def _inside(folder: Path, written: str, what: str) -> Path:
    """Return ``folder / written``, resolved; raises UnsafeError when it lies outside."""
    path = (folder / written).resolve()
    if not path.is_relative_to(folder):
        raise UnsafeError("outside-folder", f"{what} is not loaded: {written!r} lies outside {folder}; put it inside.")
    return path


def _misfit(listing: Listing, path: Path, error: Exception) -> SubjectError:
    """Say that tensors do not fit what the builder built."""
    from workers.engine.zoos.torch_models import first_line

    return SubjectError(
        "weights-do-not-fit",
        f"{path} does not fit what the builder of {listing.ref} builds ({first_line(error)}); save the weights again "
        "or correct the builder.",
    )


def _read(folder: Path) -> tuple[dict[str, Any], str]:
    """Read and check ``zoo.toml``; returns (models, version). Raises UsageError with the place of the first fault."""
    file = folder / "zoo.toml"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError("no-zoo-toml", f"{file} cannot be read ({error.strerror}); see docs/local-zoos.md.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("bad-zoo-toml", f"{file} is no TOML: {error}.") from error
    _known(file, "", table, _ZOO_KEYS)
    models = table.get("models", {})
    if not isinstance(models, dict) or not models:
        raise UsageError("bad-zoo-toml", f"{file} has no [models.NAME] table; see docs/local-zoos.md.")
    for name, entry in models.items():
        _check_model(file, name, entry)
    return models, str(table.get("version", ""))


def _check_model(file: Path, name: str, entry: dict[str, Any]) -> None:
    """Check one model's table."""
    where = f"models.{name}"
    _known(file, where, entry, _MODEL_KEYS)
    framework = entry.get("framework")
    if framework not in _FRAMEWORKS:
        raise UsageError(
            "bad-zoo-toml", f"{file}: {where}.framework must be one of {', '.join(_FRAMEWORKS)}, not {framework!r}."
        )
    if framework == "onnx" and ("builder" in entry or not entry.get("weights")):
        raise UsageError("bad-zoo-toml", f"{file}: {where} is ONNX, which needs [{where}.weights] and no builder.")
    if framework != "onnx" and ":" not in str(entry.get("builder", "")):
        raise UsageError("bad-zoo-toml", f"{file}: {where}.builder must be 'file.py:function'.")
    if NO_WEIGHTS in entry.get("weights", {}):
        raise UsageError(
            "bad-zoo-toml", f"{file}: {where}.weights may not use the tag 'none': it means random weights."
        )
    tags = {*entry.get("weights", {}), *([NO_WEIGHTS] if "builder" in entry else [])}
    if entry.get("default") is not None and entry["default"] not in tags:
        raise UsageError("bad-zoo-toml", f"{file}: {where}.default is no weights tag of the model.")
    for tag, claims in entry.get("claims", {}).items():
        if tag not in entry.get("weights", {}):
            raise UsageError("bad-zoo-toml", f"{file}: {where}.claims.{tag} is about no weights tag of the model.")
        _known(file, f"{where}.claims.{tag}", claims, _CLAIMS)
    try:
        _contract(entry.get("input"), "")
    except (TypeError, ValueError) as error:
        raise UsageError("bad-zoo-toml", f"{file}: {where}.input is no input contract: {error}.") from error


def _known(file: Path, where: str, table: dict[str, Any], keys: set[str]) -> None:
    """Refuse keys that mean nothing, so that a misspelt one is not ignored."""
    for key in table:
        if key not in keys:
            advice = f"Known are {', '.join(sorted(keys))}."
            raise unknown("key", key, keys, where=f"{file}{': ' if where else ''}{where}", advice=advice)


def _contract(table: dict[str, Any] | None, source: str) -> Contract | None:
    """Build the contract of an ``input`` table; raises TypeError and ValueError for what is none."""
    return None if table is None else Contract.from_json({"source": source} | table)
