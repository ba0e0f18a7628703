from __future__ import annotations

import io

import pytest
from rich.console import Console

from app import layers, render


def _text(renderable):
    stream = io.StringIO()
    Console(file=stream, width=160, color_system=None).print(renderable)
    return stream.getvalue()


@pytest.fixture
def answer():
    return {
        "verdict": "not_interchangeable",
        "reason": "Outside the margins of policy default: architecture.",
        "a": {"ref": "torchvision:resnet50@none"},
        "b": {"ref": "keras:ResNet50@none"},
        "architecture": {
            "verdict": "different",
            "a": {"parameters": 25_557_032, "buffers": 53_120, "flops": 8.2e9, "nodes": 122},
            "b": {"parameters": 25_583_592, "buffers": 53_120, "flops": 7.7e9, "nodes": 122},
            "differences": [
                {
                    "kind": "attribute",
                    "attribute": "strides",
                    "severity": "structural",
                    "a": {"node": "conv1", "op": "Conv", "value": [1, 1]},
                    "b": {"node": "conv2_1x1", "op": "Conv", "value": [2, 2]},
                }
            ]
            * 25,
        },
        "accuracy": None,
        "latency": {
            "verdict": "b_faster",
            "machine": {},
            "operating_points": [
                {
                    "runtime": "onnxruntime",
                    "batch": 1,
                    "device": "cpu",
                    "threads": 1,
                    "a": {"median_ms": 40.123},
                    "b": {"median_ms": 37.5},
                    "ratio": 1.07,
                    "ci95": [1.06, 1.08],
                    "control": {"ratio": 1.0, "ci95": [0.999, 1.001]},
                    "blocks": 8,
                    "verdict": "b_faster",
                }
            ],
        },
        "errors": {"accuracy": {"class": "subject", "code": "no-output", "message": "The model gives no scores."}},
    }


def test_self_noise_takes_one_line(answer):
    interval = {"a": 0.5, "b": 0.5, "difference": 0.0, "ci95": [-0.1, 0.1], "p_value": 1.0}
    ledger = dict.fromkeys(("both_right", "a_only", "b_only", "both_wrong_same", "both_wrong_different"), 1)
    noise = {"items": 512, "flips": 2, "batch": 1, "threads": 2}
    answer["accuracy"] = {
        "verdict": "equivalent",
        "dataset": "digits",
        "items": 5,
        "top1": interval,
        "top5": None,
        "agreement": 0.4,
        "ledger": ledger,
        "margin": 0.005,
        "items_needed": None,
        "self_noise": {"a": noise, "b": None},
    }
    lines = _text(render.comparison(answer)).splitlines()
    assert "answers that change with another batch and other threads: A 2 of 512" in [line.strip() for line in lines]
    answer["accuracy"]["self_noise"] = {"a": None, "b": None}
    assert "answers that change" not in _text(render.comparison(answer))


def test_a_comparison_shows_every_number_with_its_interval(answer):
    shown = _text(render.comparison(answer))
    for expected in ("25,557,032", "25,583,592", "not interchangeable", "1.070", "1.060 … 1.080", "0.999 … 1.001"):
        assert expected in shown


def test_a_long_difference_list_is_cut_and_says_so(answer):
    shown = _text(render.comparison(answer))
    assert shown.count("conv2_1x1") == layers.MOST_DIFFERENCES
    assert "5 more" in shown


def test_a_dimension_that_could_not_be_measured_says_why(answer):
    assert "accuracy was not measured: The model gives no scores." in _text(render.comparison(answer))


def test_alike_differences_are_counted_together(answer):
    assert layers.first_differences(answer["architecture"]["differences"]) == ["25× Conv strides 1 → 2"]


def test_first_differences_name_the_gravest_first():
    differences = [
        {"kind": "inserted", "severity": "cosmetic", "a": None, "b": {"op": "Identity", "value": None}},
        {"kind": "removed", "severity": "structural", "a": {"op": "LRN", "value": None}, "b": None},
    ]
    assert layers.first_differences(differences) == ["LRN only in A", "Identity only in B"]


def test_a_proof_is_one_line(answer):
    proof = {
        "ran": True,
        "inputs": 3,
        "error_float32": {"a": 3.1e-7, "b": 2.9e-2},
        "error_float64": 2.8e-2,
        "tolerance": 1e-6,
        "first_divergence": {"a": {"node": "stem"}, "b": {"node": "conv1"}, "error": 6e-4},
    }
    answer["architecture"] |= {"proof": proof, "note": "No structural difference"}
    text = _text(render.comparison(answer))
    assert "float32 error of A 3.1e-07, of B 2.9e-02 (at most 1.0e-06 allowed)" in text
    assert "first at stem / conv1" in text
    answer["architecture"]["proof"] = {"ran": False, "error_float32": None}
    assert "No structural difference" in _text(render.comparison(answer))


def test_the_only_input_size_that_holds_is_named(answer):
    sizes = {"compared_at": {"a": [3, 224, 224], "b": [3, 224, 224]}, "holds_only_there": True, "because": ["B turns"]}
    answer["architecture"]["input_sizes"] = sizes
    assert "holds at input 3x224x224 only: B turns" in _text(render.comparison(answer))
    sizes["holds_only_there"] = False
    assert "holds at" not in _text(render.comparison(answer))


@pytest.fixture
def pair():
    """One finding of an audit and the comparison that it belongs to."""
    finding = {
        "comparison_id": "1",
        "architecture": "mlp",
        "a_ref": "digits-keras:mlp@v1",
        "b_ref": "digits-torch:mlp@v1",
        "a": 0.9587,
        "b": 0.9676,
        "effect": -0.0089,
        "ci95": [-0.0209, 0.0019],
    }
    block = {
        "dataset": "digits",
        "items": 896,
        "agreement": 0.9688,
        "verdict": "inconclusive",
        "items_needed": 9183,
    }
    return finding, {"1": {"accuracy": block}}


def _audit(pair, groups, **changes):
    finding, answers = pair
    ranked = {"accuracy": [finding | changes]}
    summary = {"verdicts": {"inconclusive": 1}, "accuracy_groups": groups}
    return _text(render.audit({"zoos": ["digits-torch", "digits-keras"], "summary": summary}, ranked, answers))


def test_an_audit_shows_both_accuracies_with_interval_agreement_and_what_would_decide(pair):
    group = {"architecture": "mlp", "models": [{"ref": "digits-torch:mlp@v1", "top1": 0.9676}]}
    shown = _audit(pair, [group])
    for expected in ("digits, 896 items", "95.87 %", "96.76 %", "-0.89 %", "-2.09 … +0.19", "96.88 %", "needs 9,183"):
        assert expected in shown
    assert shown.index("no test tells apart") < shown.rindex("digits-torch:mlp@v1")
    assert max(map(len, (line.rstrip() for line in shown.splitlines()))) <= 100


def test_an_audit_of_models_without_a_common_name_has_no_empty_column(pair):
    groups = [{"architecture": None, "models": [{"ref": f"recorded:{n}", "top1": 0.5}]} for n in range(50)]
    shown = _audit(pair, groups, architecture=None)
    assert "model " not in shown
    assert "recorded:39" in shown
    assert "… and 10 more" in shown
    assert "tells apart" not in _audit(pair, [])


def test_latency_names_its_machine_and_why_it_is_undecided(answer):
    answer["latency"]["machine"] = {"short": "0123456789ab", "line": "AMD EPYC, 2 of 2 cores"}
    (point,) = answer["latency"]["operating_points"]
    point |= {"verdict": "inconclusive", "undecided": "time and CPU time disagree"}
    shown = _text(render.comparison(answer))
    assert "machine 0123456789ab: AMD EPYC, 2 of 2 cores" in shown
    assert "onnxruntime, batch 1: inconclusive: time and CPU time disagree" in shown


@pytest.mark.parametrize("machines", [["m1"], ["m1", "m2"]])
def test_an_audit_over_several_machines_says_which_ratio_is_from_which(machines):
    found, answers = [], {}
    for name in machines:
        details = {"control": None, "verdict": "b_faster", "machine": name}
        found.append(
            {
                "comparison_id": name,
                "architecture": "resnet50",
                "a_ref": "a:x",
                "b_ref": "b:x",
                "metric": "latency torch",
            }
            | {"a": 2.0, "b": 1.0, "effect": 1.0, "ci95": None, "details": details}
        )
        answers[name] = {"latency": {"machine": {"short": name, "line": f"the machine {name}"}}}
    value = {"zoos": ["a", "b"], "state": "succeeded"}
    shown = _text(render.audit(value, {"latency": found}, answers))
    for name in machines:
        assert f"machine {name}: the machine {name}" in shown
        assert shown.count(name) == 2 + (len(machines) > 1)
