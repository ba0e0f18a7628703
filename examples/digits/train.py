"""Train the two digits zoos: ``python examples/digits/train.py``.

Each model learns from the half of scikit-learn's digits that the built-in ``digits`` dataset does not hold, through
its own input contract. Progress goes to stderr. What is already trained is left alone while its builder, contract and
recipe are unchanged; a new weights file replaces the old one as a whole, or not at all.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import sys
import tomllib
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Must be set before keras is imported: it stands on the same torch as the other zoo.
os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
from rich.console import Console
from rich.progress import Progress

from workers.engine.accuracy import digits
from workers.engine.contracts import apply
from workers.engine.contracts.contract import Contract

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from numpy.typing import NDArray

HERE = Path(__file__).parent

TAG = "v1"
"""The weights tag that this script trains."""


@dataclass(frozen=True)
class Recipe:
    """How one model is trained: Adam on the cross-entropy, pictures shuffled anew each epoch."""

    epochs: int
    learning_rate: float = 1e-3
    batch: int = 32
    seed: int = 0


RECIPES = {
    "digits-torch": {
        "lenet5": Recipe(epochs=20),
        "vgg_small": Recipe(epochs=12),
        "resnet_small": Recipe(epochs=20),
        "mlp": Recipe(epochs=40),
    },
    "digits-keras": {
        "lenet5": Recipe(epochs=10),
        "vgg_small": Recipe(epochs=12),
        "resnet_small": Recipe(epochs=16, learning_rate=2e-3, batch=64),
        "mlp": Recipe(epochs=15),
    },
}
"""One zoo trains longer than the other, as zoos do."""


@dataclass(frozen=True)
class Data:
    """Pictures through one model's contract, float32 (n, ...), and labels, int64 (n)."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float32]
    test_labels: NDArray[np.int64]


def load_data(contract: Contract) -> Data:
    """Return both halves of the digits as a contract's network receives them."""
    train, train_labels = digits.part("train")
    test, test_labels = digits.part("test")
    return Data(
        apply.batch(contract, train),
        train_labels.astype(np.int64),
        apply.batch(contract, test),
        test_labels.astype(np.int64),
    )


def train_torch(build: Callable[[], Any], data: Data, recipe: Recipe, weights: Path, tick: Callable[[], None]) -> float:
    """Train a PyTorch module, save its tensors as safetensors, return its accuracy on the held-out half."""
    import torch  # noqa: PLC0415 - only when something has to be trained
    from safetensors.torch import save_file  # noqa: PLC0415

    torch.manual_seed(recipe.seed)
    module = build()
    optimiser = torch.optim.Adam(module.parameters(), lr=recipe.learning_rate)
    inputs, labels = torch.from_numpy(data.train), torch.from_numpy(data.train_labels)
    module.train()
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(inputs)).split(recipe.batch):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(inputs[rows]), labels[rows]).backward()
            optimiser.step()
        tick()
    module.eval()
    with torch.inference_mode():
        answers = module(torch.from_numpy(data.test)).argmax(dim=1).numpy()
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, weights)
    return float((answers == data.test_labels).mean())


def train_keras(build: Callable[[], Any], data: Data, recipe: Recipe, weights: Path, tick: Callable[[], None]) -> float:
    """Train a Keras model, save its weights as HDF5, return its accuracy on the held-out half."""
    import keras  # noqa: PLC0415 - as above

    keras.utils.set_random_seed(recipe.seed)
    model = build()
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate), loss=keras.losses.SparseCategoricalCrossentropy()
    )
    each_epoch = keras.callbacks.LambdaCallback(on_epoch_end=lambda _epoch, _logs: tick())
    model.fit(
        data.train,
        data.train_labels,
        batch_size=recipe.batch,
        epochs=recipe.epochs,
        verbose=0,
        callbacks=[each_epoch],
    )
    answers = model.predict(data.test, verbose=0).argmax(axis=1)
    model.save_weights(weights)
    return float((answers == data.test_labels).mean())


@dataclass(frozen=True)
class Target:
    """One model of one zoo, as its ``zoo.toml`` describes it."""

    zoo: Path
    name: str
    entry: dict[str, Any]
    recipe: Recipe

    @property
    def weights(self) -> Path:
        """Where the trained weights belong."""
        return self.zoo / str(self.entry["weights"][TAG])

    @property
    def stamp(self) -> Path:
        """What the weights were trained from, and their digest."""
        return self.weights.parent / f"{self.name}.json"

    def data(self) -> Data:
        """Both halves of the digits, as this model's contract makes them."""
        return load_data(Contract.from_json(self.entry["input"]))

    def sources(self, data: Data) -> str:
        """SHA-256 of everything that decides the weights: builders, this script, recipe, and the pictures it sees."""
        value = hashlib.sha256(json.dumps(asdict(self.recipe), sort_keys=True).encode())
        for path in (self.zoo / "models.py", Path(__file__)):
            value.update(hashlib.sha256(path.read_bytes()).digest())
        for array in (data.train, data.train_labels):
            value.update(array.tobytes())
        return value.hexdigest()

    def is_trained(self) -> bool:
        """Whether the weights on disk are the ones that the present sources gave."""
        try:
            stamp = json.loads(self.stamp.read_text())
            digest = hashlib.sha256(self.weights.read_bytes()).hexdigest()
        except (OSError, ValueError):
            return False
        return bool(stamp == {**stamp, "sources": self.sources(self.data()), "weights": digest})


def targets(root: Path) -> list[Target]:
    """Return every model of both zoos under ``root``."""
    found = []
    for zoo, recipes in RECIPES.items():
        models = tomllib.loads((root / zoo / "zoo.toml").read_text())["models"]
        found += [Target(root / zoo, name, models[name], recipe) for name, recipe in recipes.items()]
    return found


def builder(target: Target) -> Callable[[], Any]:
    """Return the function that builds a target's untrained model."""
    file, function = target.entry["builder"].split(":")
    spec = importlib.util.spec_from_file_location(f"{target.zoo.name.replace('-', '_')}_models", target.zoo / file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{target.zoo / file} is no Python file; correct `builder` in {target.zoo / 'zoo.toml'}")
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)  # type: ignore[no-any-return]


def train(target: Target, tick: Callable[[], None]) -> float:
    """Train one model, put its weights and stamp in place, return its accuracy on the held-out half."""
    run = train_torch if target.entry["framework"] == "torch" else train_keras
    target.weights.parent.mkdir(parents=True, exist_ok=True)
    # Keras insists on the ending, so the temporary mark goes in front.
    unfinished = target.weights.with_name(f".{os.getpid()}.{target.weights.name}")
    data = target.data()
    try:
        top1 = run(builder(target), data, target.recipe, unfinished, tick)
        digest = hashlib.sha256(unfinished.read_bytes()).hexdigest()
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(target.weights)
    finally:
        unfinished.unlink(missing_ok=True)
    stamp = {"sources": target.sources(data), "weights": digest, "top1": top1}
    unfinished.write_text(json.dumps(stamp, indent=1) + "\n")
    unfinished.replace(target.stamp)
    return top1


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing or changed, with progress on stderr."""
    parser = argparse.ArgumentParser(description="Train the two digits zoos; what is trained and unchanged is skipped.")
    parser.add_argument("--root", type=Path, default=HERE, help="folder that holds digits-torch and digits-keras")
    parser.add_argument("--model", action="append", help="only this model of both zoos; may be repeated")
    options = parser.parse_args(arguments)
    known = sorted({name for recipes in RECIPES.values() for name in recipes})
    if unknown := set(options.model or ()) - set(known):
        parser.error(f"there is no model {min(unknown)!r}; choose from {', '.join(known)}")
    console = Console(stderr=True)
    chosen = [target for target in targets(options.root) if target.name in (options.model or known)]
    waiting = [target for target in chosen if not target.is_trained()]
    if not waiting:
        console.print("The digits zoos are trained and unchanged.")
        return 0
    import torch  # noqa: PLC0415 - a run that trains nothing does not pay for it

    # With one thread, sums are added in one order, so that the same machine gives the same weights each time.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    with Progress(console=console) as progress:
        for target in waiting:
            task = progress.add_task(f"{target.zoo.name} {target.name}", total=target.recipe.epochs)
            top1 = train(target, partial(progress.advance, task))
            console.print(f"{target.zoo.name} {target.name}: top-1 {top1:.4f} on the held-out half")
    return 0


if __name__ == "__main__":
    sys.exit(main())
