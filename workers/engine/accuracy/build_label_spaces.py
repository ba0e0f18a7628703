"""Make ``label_spaces.json``: ``python -m workers.engine.accuracy.build_label_spaces``.

It holds the class names of the known spaces. ImageNet-1k's synsets are read from the installed timm
(``timm/data/_info/imagenet_synsets.txt``, Apache-2.0; the WordNet ids of ILSVRC2012 in sorted order). CIFAR's names are
those of ``batches.meta.txt``, ``fine_label_names.txt`` and ``coarse_label_names.txt``, and the superclasses those of
https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, 2009).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_CIFAR_10 = "airplane automobile bird cat deer dog frog horse ship truck"

_CIFAR_100 = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
"""Superclass to its classes; both are numbered in sorted order."""


def spaces() -> dict[str, dict[str, Any]]:
    """Return the spaces: ``names`` in the order of the class indices, ``source``; of fine classes, ``superclasses``."""
    import timm

    synsets = (Path(timm.__file__).parent / "data" / "_info" / "imagenet_synsets.txt").read_text(encoding="utf-8")
    fine = {name: place for place, names in enumerate(_CIFAR_100.values()) for name in names.split()}
    page = "https://www.cs.toronto.edu/~kriz/cifar.html"
    return {
        "imagenet-1k": {"source": f"timm {timm.__version__}: imagenet_synsets.txt", "names": synsets.split()},
        "cifar-10": {"source": page, "names": _CIFAR_10.split()},
        "cifar-100": {
            "source": page,
            "names": sorted(fine),
            "superspace": "cifar-100-coarse",
            "superclasses": [fine[name] for name in sorted(fine)],
        },
        "cifar-100-coarse": {"source": page, "names": list(_CIFAR_100)},
    }


def main() -> None:
    """Write the data file beside this script."""
    parts = [f"{json.dumps(name)}: {json.dumps(space)}" for name, space in spaces().items()]
    path = Path(__file__).parent / "label_spaces.json"
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
