import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import special

from workers.engine.accuracy.datasets import Dataset, open_dataset
from workers.engine.accuracy.inference import Inference
from workers.engine.accuracy.predictions import Predictions
from workers.engine.accuracy.runners import Execution
from workers.engine.contracts.contract import Contract
from workers.engine.protocol import Progress, SubjectError, UsageError

GREY = Contract(height=8, width=8, colour="grey", mean=(0.0,), std=(1.0,))
WEIGHTS = np.random.default_rng(7).normal(size=(64, 10)).astype(np.float32)


def classifier(
    path: Path,
    weights: np.ndarray = WEIGHTS,
    *,
    batch: int | str = "n",
    tail: tuple[str, ...] = (),
    shape: tuple[Any, ...] = (1, 8, 8),
    outputs: int = 1,
) -> Path:
    """Write a linear classifier on the flattened picture, followed by the operators in ``tail``."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y0"]),
        *[helper.make_node(op, [f"y{n}"], [f"y{n + 1}"]) for n, op in enumerate(tail)],
    ]
    names = [f"y{len(tail)}", "flat"][:outputs]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def silent(done: int, total: int, message: str) -> None:
    del done, total, message


def digits() -> Dataset:
    return open_dataset({"name": "digits", "format": "digits"})


def inference(
    model: Path,
    dataset: Dataset | None = None,
    *,
    contract: Contract = GREY,
    progress: Progress = silent,
    label_space: str | None = None,
    module: Callable[[], Any] | None = None,
    **execution: Any,
) -> Inference:
    return Inference(
        model,
        contract,
        dataset or digits(),
        Execution(**execution),
        progress=progress,
        label_space=label_space,
        module=module,
    )


def run(model: Path, dataset: Dataset | None = None, **options: Any) -> Predictions:
    return inference(model, dataset, **options).predict()


def flat_digits() -> np.ndarray:
    return np.stack([np.asarray(picture, dtype=np.float32).ravel() / np.float32(255) for picture, _ in digits()])


def test_answers_are_the_ranked_softmax_of_the_scores(tmp_path: Path) -> None:
    predictions = run(classifier(tmp_path / "m.onnx"))
    probabilities = special.softmax(flat_digits().astype(np.float64) @ WEIGHTS.astype(np.float64), axis=1)
    order = np.argsort(-probabilities, axis=1)[:, :5]
    assert (predictions.classes == order).all()
    assert predictions.scores == pytest.approx(np.take_along_axis(probabilities, order, axis=1), abs=1e-5)
    assert predictions.labels.tolist() == [label for _, label in digits()]
    assert predictions.items_digest == digits().digest()
    assert predictions.provenance["outputs"] == "logits"


def test_probabilities_are_taken_at_their_word(tmp_path: Path) -> None:
    logits = run(classifier(tmp_path / "logits.onnx"))
    softmax = run(classifier(tmp_path / "softmax.onnx", tail=("Softmax",)))
    assert softmax.provenance["outputs"] == "probabilities"
    assert (softmax.classes == logits.classes).all()
    assert softmax.scores == pytest.approx(logits.scores, abs=1e-6)


def test_log_probabilities_become_the_same_probabilities(tmp_path: Path) -> None:
    log = run(classifier(tmp_path / "log.onnx", tail=("LogSoftmax",)))
    assert log.scores == pytest.approx(run(classifier(tmp_path / "softmax.onnx", tail=("Softmax",))).scores, abs=1e-6)


def test_the_kind_of_output_does_not_hang_on_the_first_batch(tmp_path: Path) -> None:
    # Black pictures give zero logits for every class but the first; one such row alone looks like a probability.
    images = np.zeros((3, 8, 8), dtype=np.uint8)
    images[0, 0, 0] = 255
    images[2] = 255
    np.savez(tmp_path / "d.npz", images=images, labels=np.array([0, 1, 9]))
    weights = np.zeros((64, 10), dtype=np.float32)
    weights[0, 0] = 1
    weights[1, 1] = 4
    dataset = open_dataset({"name": "d", "format": "npz", "path": str(tmp_path / "d.npz")})
    predictions = run(classifier(tmp_path / "m.onnx", weights), dataset, batch=1)
    assert predictions.provenance["outputs"] == "logits"
    assert predictions.scores[0, 0] == pytest.approx(np.e / (np.e + 9))


@pytest.mark.parametrize("fixed", [1, 7, "n"])
@pytest.mark.parametrize("batch", [1, 64, 2000])
def test_the_batch_changes_no_answer(tmp_path: Path, fixed: int | str, batch: int) -> None:
    expected = run(classifier(tmp_path / "expected.onnx"))
    predictions = run(classifier(tmp_path / "m.onnx", batch=fixed), batch=batch)
    # A batch of 1 is freed; another one may mean something.
    assert predictions.provenance["batch"] == (7 if fixed == 7 else batch)
    assert (predictions.classes == expected.classes).all()
    assert predictions.scores == pytest.approx(expected.scores, abs=1e-6)


def test_equal_scores_rank_by_class(tmp_path: Path) -> None:
    predictions = run(classifier(tmp_path / "m.onnx", np.zeros((64, 10), dtype=np.float32)))
    assert (predictions.classes == np.arange(5)).all()
    assert predictions.scores == pytest.approx(np.full((896, 5), 0.1))


def test_few_classes_give_few_ranks(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.zeros((4, 8, 8), dtype=np.uint8), labels=np.array([0, 1, 2, 0]))
    dataset = open_dataset({"name": "d", "format": "npz", "path": str(tmp_path / "d.npz")})
    predictions = run(classifier(tmp_path / "m.onnx", WEIGHTS[:, :3]), dataset)
    assert predictions.classes.shape == (4, 3)
    assert predictions.summary()["top5"] is None


def test_a_convolutional_head_answers_too(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    kernel = WEIGHTS.T.reshape(10, 1, 8, 8)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10, 1, 1])],
        [numpy_helper.from_array(kernel, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), tmp_path / "head.onnx"
    )
    assert (run(tmp_path / "head.onnx").top1 == run(classifier(tmp_path / "m.onnx")).top1).all()


def imagenet(path: Path, space: str, labels: list[int]) -> Dataset:
    np.savez(path, images=np.full((len(labels), 8, 8), 255, dtype=np.uint8), labels=np.array(labels))
    return open_dataset({"name": "d", "format": "npz", "path": str(path), "label_space": space})


def always(winner: int, classes: int) -> np.ndarray:
    weights = np.zeros((64, classes), dtype=np.float32)
    weights[:, winner] = 1
    return weights


def test_a_background_class_is_mapped(tmp_path: Path) -> None:
    dataset = imagenet(tmp_path / "d.npz", "imagenet-1k", [41, 42])
    model = classifier(tmp_path / "m.onnx", always(42, 1001))
    predictions = run(model, dataset, label_space="imagenet-1k-background")
    assert predictions.top1.tolist() == [41, 41]
    assert predictions.summary()["top1"] == 0.5
    background = run(classifier(tmp_path / "b.onnx", always(0, 1001)), dataset, label_space="imagenet-1k-background")
    assert background.top1.tolist() == [-1, -1]


def test_a_dataset_with_background_is_mapped(tmp_path: Path) -> None:
    dataset = imagenet(tmp_path / "d.npz", "imagenet-1k-background", [42, 43])
    predictions = run(classifier(tmp_path / "m.onnx", always(42, 1000)), dataset, label_space="imagenet-1k")
    assert predictions.top1.tolist() == [43, 43]


@pytest.mark.parametrize("space", [None, "imagenet-1k", "digits"])
def test_a_label_space_that_does_not_fit_is_refused(tmp_path: Path, space: str | None) -> None:
    dataset = imagenet(tmp_path / "d.npz", "imagenet-1k", [1])
    with pytest.raises(UsageError, match="classes"):
        run(classifier(tmp_path / "m.onnx", always(42, 1001)), dataset, label_space=space)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    run(classifier(tmp_path / "m.onnx"), batch=100, progress=lambda done, total, _: seen.append((done, total)))
    assert seen == [*[(done, 896) for done in range(100, 900, 100)], (896, 896), *[(n + 1, 512) for n in range(512)]]


def test_memory_does_not_grow_with_the_dataset(tmp_path: Path) -> None:
    model = classifier(tmp_path / "m.onnx")
    peaks = []
    for n in (2_000, 8_000):
        images = np.random.default_rng(0).integers(0, 256, (n, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / "d.npz", images=images, labels=np.arange(n) % 10)
        dataset = open_dataset({"name": "d", "format": "npz", "path": str(tmp_path / "d.npz")})
        del images
        tracemalloc.start()
        run(model, dataset)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 6,000 more items: label, 5 classes and scores, right class, log-sum and digest are 88 bytes each, and softmax in
    # double precision takes 100 more for a while. As network input they would be 256 bytes each.
    assert peaks[1] - peaks[0] < 6_000 * 200


@pytest.mark.parametrize(
    ("contract", "shape"),
    [
        (Contract(height=8, width=8, layout="nhwc", colour="grey", mean=(0.0,), std=(1.0,)), (1, 8, 8)),
        (Contract(height=8, width=8), (1, 8, 8)),
        (Contract(height=8, width=8, colour="grey", mean=(0.0,), std=(1.0,)), (64,)),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(tmp_path: Path, contract: Contract, shape: tuple[int, ...]) -> None:
    model = classifier(tmp_path / "m.onnx", shape=shape)
    with pytest.raises(UsageError, match="input contract makes"):
        run(model, contract=contract)


def test_scores_that_are_not_finite_name_the_item(tmp_path: Path) -> None:
    weights = WEIGHTS.copy()
    weights[0] = np.nan
    with pytest.raises(SubjectError, match="item 0 with scores that are not finite"):
        run(classifier(tmp_path / "m.onnx", weights))
    with pytest.raises(SubjectError, match="answers item 0"):
        run(classifier(tmp_path / "log.onnx", -np.abs(WEIGHTS), tail=("Log",)))


def test_a_truncated_model_is_the_subjects_fault(tmp_path: Path) -> None:
    model = classifier(tmp_path / "m.onnx")
    model.write_bytes(model.read_bytes()[:200])
    with pytest.raises(SubjectError, match=r"cannot load m\.onnx"):
        run(model)


def test_a_model_that_fails_while_running_names_the_items(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match=r"m\.onnx fails on items 0 to 31"):
        run(classifier(tmp_path / "m.onnx", WEIGHTS[:63], shape=("c", "h", "w")))


def test_a_model_with_two_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match=r"outputs \['y0', 'flat'\]"):
        run(classifier(tmp_path / "m.onnx", outputs=2))


def test_outputs_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, 8, 8])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(SubjectError, match=r"answers with shape \[32, 1, 8, 8\]"):
        run(tmp_path / "m.onnx")


@pytest.mark.parametrize("options", [{"batch": 0}, {"threads": 0}])
def test_impossible_runs_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        run(classifier(tmp_path / "m.onnx"), **options)
