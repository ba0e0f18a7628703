"""``imagenet-flat``: ImageNet's validation pictures as they were published, in one folder with a list of answers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from workers.engine.accuracy import labels
from workers.engine.accuracy.datasets import pictures, places
from workers.engine.accuracy.datasets.base import FileDataset, Spec
from workers.engine.protocol import UsageError

SPACE = "imagenet-1k"
_PICTURE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_SYNSET = re.compile(r"n\d{8}")
_MOST_BYTES = 64 * 1024**2
_CLASSES = labels.SPACES[SPACE]
_WHICH = "the devkit's data/meta.mat, or a text file with the 1000 synsets in the order of the devkit's ids, one a line"


class FlatDataset(FileDataset):
    """``ILSVRC2012_val_00000001.JPEG`` and so on; picture i is answered by line i of the file ``ground_truth``.

    A line is a synset, or an id from 1 to 1000. The devkit's ids are **not** the order of the sorted synsets that
    models answer in, so ids need the file ``synsets``: the devkit's ``meta.mat``, or one synset a line in that order.
    """

    def __init__(self, spec: Spec) -> None:
        root = places.folder(spec.path, "ILSVRC2012_val_00000001.JPEG and the others")
        if spec.label_space not in {None, SPACE}:
            raise UsageError(
                "label-space",
                f"Dataset {spec.name}: the format imagenet-flat is in label space {SPACE}, not {spec.label_space}; "
                "leave it out.",
            )
        if not spec.options.get("ground_truth"):
            raise UsageError(
                "ground-truth-missing",
                f"Dataset {spec.name} needs the file of its answers; name the devkit's "
                "data/ILSVRC2012_validation_ground_truth.txt, or a file with the synset of each picture, as "
                "ground_truth.",
            )
        answers = _answers(spec)
        super().__init__(spec, SPACE, _CLASSES, list(zip(_pictures(root, len(answers)), answers, strict=True)))


def _pictures(root: Path, n: int) -> list[Path]:
    """Return the pictures 1 to n; refuses missing and further ones."""
    found: set[int] = set()
    for entry in places.entries(root, root):
        match = _PICTURE.fullmatch(entry.name)
        if match is None:
            if Path(entry.name).suffix.lower() in pictures.FORMATS:
                raise UsageError(
                    "picture-name",
                    f"{root / entry.name} is not named like ILSVRC2012_val_00000001.JPEG, so its answer is not known; "
                    "remove it.",
                )
            continue
        number = int(match[1])
        if not 1 <= number <= n or not entry.is_file():
            raise UsageError(
                "items-differ",
                f"{root / entry.name} has no answer, or is no file: the ground truth has {n} lines; give the whole "
                "ground truth, or remove the picture.",
            )
        found.add(number)
    missing = sorted(set(range(1, n + 1)) - found)
    if missing:
        raise UsageError(
            "items-differ",
            f"{root / _name(missing[0])} is missing ({len(missing)} of {n} pictures of the ground truth are); restore "
            "them.",
        )
    return [root / _name(number) for number in range(1, n + 1)]


def _name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def _answers(spec: Spec) -> list[int]:
    """Return the class of each picture in the order of the sorted synsets."""
    path = Path(spec.options["ground_truth"])
    given = places.lines(path, _MOST_BYTES)
    if not given:
        raise UsageError("file-empty", f"{path} is empty; it holds the answer of each picture: restore it.")
    if all(_SYNSET.fullmatch(line) for line in given):
        return labels.by_name(given, SPACE, what=f"{path}: an answer ", repeated=True)
    for number, line in enumerate(given, start=1):
        if not (line.isascii() and line.isdecimal() and 1 <= int(line) <= _CLASSES):
            raise UsageError(
                "label-range",
                f"{path}, line {number} is {line[:40]!r}; each line must be an id from 1 to {_CLASSES}, or each a "
                "synset such as n01440764.",
            )
    if not spec.options.get("synsets"):
        raise UsageError(
            "synsets-missing",
            f"{path} answers by the devkit's ids, which are not in the order of the classes; name {_WHICH}, as "
            "synsets.",
        )
    order = labels.by_name(_synsets(Path(spec.options["synsets"])), SPACE, what=f"{spec.options['synsets']}: ")
    return [order[int(line) - 1] for line in given]


def _synsets(path: Path) -> list[str]:
    """Return the synsets of the ids 1 to 1000."""
    found = _of_meta(path) if path.suffix == ".mat" else places.lines(path, _MOST_BYTES)
    if len(found) != _CLASSES:
        raise UsageError("synsets", f"{path} has {len(found)} synsets, not {_CLASSES}; give {_WHICH}.")
    if found == sorted(found):
        raise UsageError(
            "synsets",
            f"{path} has the synsets in sorted order, which is not the order of the devkit's ids (id 1 is n02119789); "
            f"give {_WHICH}.",
        )
    return found


def _of_meta(path: Path) -> list[str]:
    """Read the devkit's ``meta.mat``: a record a synset with its id, WNID and number of children (0 for classes)."""
    from scipy.io import loadmat  # here, because few data sets need it

    try:
        places.check_size(path, _MOST_BYTES)
        records = loadmat(path, squeeze_me=True, variable_names=["synsets"])["synsets"]
        rows = [
            (int(record["ILSVRC2012_ID"]), str(record["WNID"])) for record in records if not int(record["num_children"])
        ]
    except UsageError:
        raise
    except Exception as error:  # scipy raises what its parsing happens upon
        raise UsageError(
            "synsets", f"{path} cannot be read as the devkit's meta.mat ({error}); give {_WHICH}."
        ) from error
    ids = np.array([number for number, _ in rows])
    if sorted(ids.tolist()) != list(range(1, len(ids) + 1)):
        raise UsageError("synsets", f"{path} does not number its synsets from 1 without a gap; give {_WHICH}.")
    return [rows[place][1] for place in np.argsort(ids)]
