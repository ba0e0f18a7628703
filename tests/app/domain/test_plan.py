from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import latency, plan
from app.domain.ids import new_id
from app.domain.points import DEFAULT, OperatingPoint
from app.domain.policies import POLICIES, Dimension
from app.domain.states import FINAL, TRANSITIONS, State

DATASET = {"name": "digits", "format": "digits", "path": None, "label_space": "digits"}
ALL = plan.Scope(tuple(Dimension), POLICIES["default"], dataset=DATASET)


def subject(ref):
    zoo, name = ref.split(":")
    return plan.Subject(ref, zoo, name, None)


def candidate(zoo, name, weights, architecture="resnet50", *, default=False):
    return plan.Candidate(plan.Subject(f"{zoo}:{name}@{weights}", zoo, name, weights), architecture, default)


@given(st.lists(st.sampled_from(["x:a", "y:a", "z:a", "y:b"]), min_size=2), st.sets(st.sampled_from(list(Dimension))))
def test_every_need_is_planned_before_and_nothing_twice(refs, dimensions):
    scope = plan.Scope(tuple(dimensions), POLICIES["default"], dataset=DATASET)
    subjects = [subject(ref) for ref in refs]
    specs = [
        *plan.measurements(subjects, scope, share="s"),
        plan.comparison("c", subjects[0], subjects[1], scope, share="s"),
    ]
    seen = set()
    for spec in specs:
        assert set(spec.needs.values()) <= seen
        assert spec.handle not in seen
        seen.add(spec.handle)


def test_only_some_are_run_over_the_data_set():
    specs = plan.measurements([subject("x:a"), subject("y:a")], ALL, share="s", predicted={"x:a"})
    assert [spec.handle for spec in specs if spec.kind == "predict"] == ["predict x:a"]


def test_a_scope_is_read_back_also_without_a_dimension():
    less = ALL.without(Dimension.ACCURACY, code="no-accuracy", message="why")
    assert plan.Scope.from_json(less.to_json()) == less
    assert less.dimensions == (Dimension.ARCHITECTURE, Dimension.LATENCY)
    assert less.errors == {"accuracy": {"class": "usage", "code": "no-accuracy", "message": "why"}}
    assert ALL.errors == {}


def test_one_listing_a_zoo_is_picked_by_weights_then_default_then_the_shortest_name():
    candidates = [
        candidate("timm", "resnet50_long", "a1", default=True),
        candidate("timm", "resnet50", "a1", default=True),
        candidate("timm", "resnet50", "none"),
        candidate("keras", "ResNet50", "imagenet", default=True),
        candidate("keras", "Xception", "imagenet", "xception", default=True),
    ]
    default = plan.pick(candidates, "default")
    assert {key: [item.subject.ref for item in group] for key, group in default.items()} == {
        "resnet50": ["keras:ResNet50@imagenet", "timm:resnet50@a1"]
    }
    assert plan.pick(candidates, "none") == {}


@pytest.mark.parametrize(("devices", "queue"), [(["cpu"], "cpu"), (["cpu", "cuda"], "gpu"), (["cuda"], "gpu")])
def test_a_session_with_a_gpu_goes_to_the_workers_that_have_one(devices, queue):
    wanted = tuple(OperatingPoint("torch", device=device) for device in devices)
    scope = plan.Scope((Dimension.LATENCY,), POLICIES["default"], operating_points=wanted)
    (job,) = [spec for spec in plan.measurements([subject("x:a"), subject("y:a")], scope, share="s") if spec.exclusive]
    assert (job.kind, job.device) == ("latency", queue)
    assert [point["device"] for point in job.payload["points"]] == devices
    assert plan.Scope.from_json(scope.to_json()) == scope


def test_a_scope_stored_before_there_were_operating_points_has_the_default():
    value = ALL.to_json()
    del value["operating_points"]
    assert plan.Scope.from_json(value | {"runtimes": ["torch"]}).operating_points == DEFAULT


def test_a_pair_is_cut_out_of_a_latency_session():
    pair = {"a": "x", "b": "y", "ratio": 2.0, "ci95": [1.9, 2.1]}
    first = {
        "runtime": "torch",
        "entries": [{"ref": "x", "median_ms": 2}, {"ref": "y", "median_ms": 1}],
        "pairs": [pair],
    }
    second = {"runtime": "onnxruntime", "device": "cpu", "batch": 1, "threads": 1, "excluded": [], "reason": None}
    second |= {"entries": [{"ref": "x", "median_ms": 2}], "pairs": []}
    block = latency.latency_block({"operating_points": [first, second], "machine": {"cpu": "c"}}, "x", "y")
    (point,) = block["operating_points"]
    assert (point["runtime"], point["ratio"], point["a"]["median_ms"], point["b"]["median_ms"]) == ("torch", 2.0, 2, 1)


def test_ids_made_together_keep_their_order():
    ids = [new_id() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {(item.version, item.variant) for item in ids} == {(7, "specified in RFC 4122")}


def test_final_states_are_left_by_nothing():
    assert all(not TRANSITIONS[state] for state in FINAL)
    assert set(TRANSITIONS) == set(State)


def test_an_audit_without_weights_takes_untrained_graphs_before_a_default_download():
    candidates = [
        candidate("torchvision", "resnet50", "IMAGENET1K_V2", default=True),
        candidate("torchvision", "resnet50", "none"),
        candidate("onnx", "resnet50-v1-12", "default", default=True),
        candidate("onnx", "light_resnet50", "placeholder", default=True),
    ]
    picked = plan.pick(candidates, "none")["resnet50"]
    assert [item.subject.ref for item in picked] == ["onnx:light_resnet50@placeholder", "torchvision:resnet50@none"]
