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
        (("cifar-100-coarse", 20), ("cifar-100", 100), "no mapping is known"),
        (("cifar-10", 10), ("digits", 10), "no mapping is known"),
    ],
)
def test_spaces_that_do_not_fit(model: tuple[str | None, int], dataset: tuple[str | None, int], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        labels.mapping(*model, *dataset)


def test_superclasses_take_the_best_of_their_classes() -> None:
    mapping = labels.Mapping(np.array([1, 0, 1, 2], dtype=np.int32))
    classes, scores = mapping.merge(np.array([[0.1, 0.3, 0.4, 0.2], [5, 1, 2, -3]], dtype=np.float32))
    assert classes.tolist() == [0, 1, 2]
    assert scores == pytest.approx(np.array([[0.3, 0.4, 0.2], [1, 5, -3]]))


def test_the_background_is_no_class_of_the_1000() -> None:
    mapping = labels.mapping("imagenet-1k-background", 1001, "imagenet-1k", 1000)
    scores = np.zeros((1, 1001), dtype=np.float32)
    classes, same = mapping.merge(scores)
    assert same is scores
    assert classes[:3].tolist() == [-1, 0, 1]
