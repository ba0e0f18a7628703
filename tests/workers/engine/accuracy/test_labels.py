import numpy as np
import pytest

from workers.engine.accuracy import labels
from workers.engine.protocol import UsageError


@pytest.mark.parametrize(
    ("model", "dataset", "expected"),
    [
        (("imagenet-1k", 1000), ("imagenet-1k", 1000), 0),
        (("imagenet-1k-background", 1001), ("imagenet-1k", 1000), -1),
        (("imagenet-1k", 1000), ("imagenet-1k-background", 1001), 1),
        (("plants", 17), ("plants", 17), 0),
        ((None, 10), ("digits", 10), 0),
        (("digits", 10), (None, 10), 0),
        ((None, 7), (None, 7), 0),
    ],
)
def test_spaces_that_fit(model: tuple[str | None, int], dataset: tuple[str | None, int], expected: int) -> None:
    targets = labels.mapping(*model, *dataset).targets
    assert (targets == np.arange(model[1]) + expected).all()


@pytest.mark.parametrize(
    ("model", "dataset", "sentence"),
    [
        (("imagenet-1k", 1001), ("imagenet-1k", 1000), "has 1001 classes, but label space imagenet-1k has 1000"),
        ((None, 1001), ("imagenet-1k", 1000), "has 1001 classes and the dataset 1000"),
        (("imagenet-21k", 1000), ("imagenet-1k", 1000), "in label space imagenet-21k .* imagenet-1k"),
        (("plants", 10), ("digits", 10), "no mapping is known"),
        (("plants", 17), ("plants", 16), "17 classes and the dataset 16"),
    ],
)
def test_spaces_that_do_not_fit(model: tuple[str | None, int], dataset: tuple[str | None, int], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        labels.mapping(*model, *dataset)
