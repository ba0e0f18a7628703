import faulthandler
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.engine.latency.points import Entry, OperatingPoint
from workers.engine.latency.session import Session, measure
from workers.engine.protocol import SubjectError, UsageError

pytestmark = pytest.mark.xdist_group("latency")  # never two sessions at once

Chain = Callable[..., Path]
POINT = OperatingPoint("onnxruntime", batch=16)


def quiet(done: int, total: int, message: str) -> None:
    assert 0 <= done <= total
    assert message


def run(entries: list[Entry], points: list[OperatingPoint] | None = None, **settings: Any) -> Session:
    defaults: dict[str, Any] = {"budget_s": 4.0, "margin": 0.05, "seed": 0, "progress": quiet}
    return measure(entries, points or [POINT], **(defaults | settings))


def onnx_entry(ref: str, path: Path) -> Entry:
    return Entry(ref, path, None, (1, 256))


def test_a_listing_and_a_longer_one_and_itself(chain: Chain, tmp_path: Path) -> None:
    short, long = chain(20), chain(30)
    entries = [onnx_entry("a", short), onnx_entry("b", long), onnx_entry("c", short)]
    session = run(entries, budget_s=60.0, margin=0.2)
    (point,) = json.loads(json.dumps(session.to_json(), allow_nan=False))["operating_points"]
    ratios = {(pair["a"], pair["b"]): pair for pair in point["pairs"]}
    assert set(ratios) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert ratios["a", "b"]["ci95"][1] < 1 / 1.2  # twenty layers against thirty
    assert ratios["b", "c"]["ci95"][0] > 1.2
    low, high = ratios["a", "c"]["ci95"]
    assert low <= 1.05
    assert high >= 0.95
    assert 1.25 < ratios["b", "c"]["cpu_ratio"] < 1.8
    assert point["control"]["ref"] == "a"
    assert 0.85 < point["control"]["ratio"] < 1.15
    assert not point["void"]
    assert point["stopped"] in {"decided", "precise", "budget"}
    assert point["blocks"] >= 3
    assert point["warmup_iterations"] >= 2
    assert point["boundary"] == "host"
    assert 0 <= point["busy_beside"] <= (os.cpu_count() or 1)
    assert point["device_conditions"] is None
    for entry in point["entries"]:
        assert 0 < entry["median_ms"] < 100
        assert entry["load_ms"] > 0
        assert entry["first_call_ms"] > 0
    _check_samples(session, point, tmp_path / "samples.npz")


def _check_samples(session: Session, point: dict[str, Any], path: Path) -> None:
    session.write_samples(path)
    with np.load(path) as samples:
        columns = {name: samples[name] for name in samples.files}
    assert list(columns["refs"]) == ["a", "b", "c"]
    mine = (columns["attempt"] == columns["attempt"].max()) & (columns["entry"] == 0) & (columns["control"] == 0)
    assert len(np.unique(columns["block"][mine])) == point["blocks"]
    used = mine & ~columns["preempted"] & ~columns["stolen"] & ~columns["useless"]
    if point["entries"][0]["samples"] == used.sum():
        assert np.median(columns["wall_ns"][used]) / 1e6 == pytest.approx(point["entries"][0]["median_ms"])
    places = [np.mean(columns["order"][columns["slot"] == slot]) for slot in range(4)]
    # Each copy stands equally often at each place, but for one round of each block when their number is odd.
    turns = (columns["slot"] == 0) & (columns["call"] == 0)
    odd = np.count_nonzero(turns & (columns["round"] == 0)) / np.count_nonzero(turns)
    assert np.allclose(places, 1.5, atol=max(0.25, 1.5 * odd))
    assert (columns["wall_ns"] > 0).all()
    assert (columns["suspended_ns"] == 0).all()
    assert (columns["sm_mhz"] == -1).all()


def test_several_batches_share_a_block_and_a_fixed_batch_is_left_out_of_the_others(chain: Chain) -> None:
    points = [POINT, OperatingPoint("onnxruntime", batch=4)]
    entries = [onnx_entry("a", chain(5)), onnx_entry("b", chain(6)), onnx_entry("fixed", chain(7, batch=16))]
    large, small = run(entries, points, budget_s=3.0).to_json()["operating_points"]
    assert [entry["ref"] for entry in large["entries"]] == ["a", "b", "fixed"]
    assert [entry["ref"] for entry in small["entries"]] == ["a", "b"]
    assert large["blocks"] == small["blocks"]
    (left_out,) = small["excluded"]
    assert left_out["ref"] == "fixed"
    assert "fixed to batch 16" in left_out["reason"]
    assert small["control"] is not None


def test_two_threads_are_measured(chain: Chain) -> None:
    entries = [onnx_entry("a", chain(10)), onnx_entry("b", chain(10))]
    (point,) = run(entries, [OperatingPoint("onnxruntime", 64, 2)], budget_s=2.0).to_json()["operating_points"]
    assert point["threads"] == 2
    assert point["pairs"][0]["ratio"] > 0


@pytest.mark.parametrize("budget", [1.0, 8.0])
def test_the_budget_is_kept_when_nothing_can_be_decided(chain: Chain, budget: float) -> None:
    entries = [onnx_entry("a", chain(40)), onnx_entry("b", chain(40))]
    session = run(entries, budget_s=budget, margin=0.0001)
    assert session.seconds < budget * 1.2 + 10  # a machine busy with other tests may be late by a block
    (point,) = session.to_json()["operating_points"]
    assert point["stopped"] == "budget"
    assert "budget" in point["reason"]
    assert point["blocks"] >= (2 if budget > 2 else 1)
    needed = point["pairs"][0]["blocks_needed"]
    assert needed is None or needed > point["blocks"]


def test_one_listing_alone_gets_its_times_and_a_control(chain: Chain) -> None:
    (point,) = run([onnx_entry("a", chain(5))], budget_s=1.0).to_json()["operating_points"]
    assert point["pairs"] == []
    assert point["control"]["ref"] == "a"


def test_a_listing_that_breaks_is_left_out_and_the_others_are_measured(chain: Chain, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    entries = [onnx_entry("a", chain(5)), onnx_entry("broken", broken), onnx_entry("b", chain(5))]
    (point,) = run(entries, budget_s=2.0).to_json()["operating_points"]
    assert [entry["ref"] for entry in point["entries"]] == ["a", "b"]
    (left_out,) = point["excluded"]
    assert left_out["ref"] == "broken"
    assert "broke while loading: InvalidProtobuf" in left_out["reason"]


def test_of_two_listings_one_that_breaks_is_an_error_that_names_it(chain: Chain, tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    with pytest.raises(SubjectError, match="zoo:gone broke while loading"):
        run([onnx_entry("a", chain(5)), onnx_entry("zoo:gone", missing)])


def aborting() -> Any:
    faulthandler.disable()
    os.abort()


def hanging() -> Any:
    time.sleep(3600)


@pytest.mark.parametrize(("loader", "reason"), [(aborting, "SIGABRT"), (hanging, "no sign of life")])
def test_a_loader_that_kills_or_hangs_its_process_is_one_sentence(loader: Callable[[], Any], reason: str) -> None:
    entries = [Entry("zoo:bad", None, loader, (1, 3)), Entry("zoo:worse", None, loader, (1, 3))]
    started = time.monotonic()
    with pytest.raises(SubjectError, match=reason) as error:
        run(entries, [OperatingPoint("torch")], stall_s=3.0)
    assert "zoo:" in error.value.message
    assert "Leave that listing" in error.value.message
    assert time.monotonic() - started < 60


def test_a_block_that_breaks_later_is_recorded_and_the_others_are_kept(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from workers.engine.latency import runners

    load = runners.load
    loads = tmp_path / "loads"  # a file, because each block loads in a process of its own
    loads.touch()

    def break_the_fifth_time(entry: Entry, point: OperatingPoint) -> Any:
        if entry.ref == "b":
            if loads.stat().st_size >= 4:  # alone and in three blocks
                aborting()
            with loads.open("a") as file:
                file.write("b")
        return load(entry, point)

    monkeypatch.setattr(runners, "load", break_the_fifth_time)
    entries = [onnx_entry("a", chain(40)), onnx_entry("b", chain(40))]
    (point,) = run(entries, budget_s=120.0, margin=0.0001).to_json()["operating_points"]
    assert point["stopped"] == "failed"
    assert point["blocks"] == 3
    assert len(point["failures"]) == 2
    assert point["failures"][0]["ref"] == "b"
    assert "SIGABRT" in point["failures"][0]["reason"]


def test_a_runtime_that_too_few_listings_have_is_named_not_measured(chain: Chain) -> None:
    entries = [onnx_entry("a", chain(5)), onnx_entry("b", chain(5))]
    first, second = run(entries, [POINT, OperatingPoint("torch")], budget_s=1.5).to_json()["operating_points"]
    assert first["blocks"] >= 1
    assert second["stopped"] == "not_measured"
    assert "fewer than two listings run on torch" in second["reason"]
    with pytest.raises(SubjectError, match="run on torch"):
        run(entries, [OperatingPoint("torch")])


@pytest.mark.parametrize(
    ("points", "settings"),
    [
        ([], {}),
        ([OperatingPoint("tensorrt")], {}),
        ([OperatingPoint("torch", device="tpu")], {}),
        ([OperatingPoint("torch", boundary="everything")], {}),
        ([OperatingPoint("torch", batch=0)], {}),
        ([POINT], {"budget_s": 0.0}),
        ([POINT], {"budget_s": -1.0}),
        ([POINT], {"margin": float("nan")}),
    ],
)
def test_requests_that_cannot_be_measured_are_refused_at_once(
    points: list[OperatingPoint], settings: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        measure(
            [Entry("a", Path("a.onnx"), None, (1, 3))],
            points,
            **{"budget_s": 1.0, "margin": 0.05, "seed": 0, "progress": quiet} | settings,
        )


TORCH = """
import json, os, sys
from pathlib import Path
os.environ["KERAS_BACKEND"] = "torch"
import onnxruntime, torch
import keras
from workers.engine.latency.points import Entry, OperatingPoint
from workers.engine.latency.session import measure

def native():
    return torch.nn.Sequential(*[torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(6)]).eval()

def built():
    inputs = outputs = keras.Input((32, 32, 3))
    for _ in range(6):
        outputs = keras.layers.Conv2D(3, 3, padding="same")(outputs)
    return keras.Model(inputs, outputs)

entries = [Entry("torch:a", None, native, (1, 3, 32, 32)), Entry("keras:a", None, built, (1, 32, 32, 3))]
points = [OperatingPoint("torch"), OperatingPoint("torch", batch=4), OperatingPoint("torch", threads=2)]
points += [OperatingPoint("torch", precision="bfloat16")]
session = measure(entries, points, budget_s=5.0, margin=0.5, seed=0, progress=lambda *_: None, stall_s=20.0)
print(json.dumps(session.to_json()))
"""


def test_torch_and_keras_run_in_processes_forked_after_their_import() -> None:
    done = subprocess.run([sys.executable, "-c", TORCH], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    *points, half = json.loads(done.stdout)["operating_points"]
    assert "keras:a is a Keras model, whose precision and layout are fixed" in half["reason"]
    assert [(point["batch"], point["threads"]) for point in points] == [(1, 1), (4, 1), (1, 2)]
    for point in points:
        assert [entry["ref"] for entry in point["entries"]] == ["torch:a", "keras:a"]
        assert [entry["framework"] for entry in point["entries"]] == ["torch", "keras"]
        assert point["failures"] == []
        assert point["pairs"][0]["ratio"] > 0


@pytest.mark.parametrize("moves", [1, 99])
def test_a_session_whose_control_moved_is_measured_once_more(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, moves: int
) -> None:
    from workers.engine.latency.group import Group

    asked: list[bool] = []

    def moved(_: Group) -> bool:
        asked.append(len(asked) < moves)
        return asked[-1]

    monkeypatch.setattr(Group, "void", moved)
    session = run([onnx_entry("a", chain(10)), onnx_entry("b", chain(20))], budget_s=30.0, margin=0.5)
    (point,) = session.to_json()["operating_points"]
    assert point["attempts"] == 2
    session.write_samples(tmp_path / "samples.npz")
    with np.load(tmp_path / "samples.npz") as samples:
        attempts, blocks = samples["attempt"], samples["block"]
    assert set(attempts) == {1, 2}
    assert len(np.unique(blocks[attempts == 2])) == point["blocks"]
    assert blocks[attempts == 1].max() < blocks[attempts == 2].min()
