import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workers.engine.latency.points import Entry, OperatingPoint
from workers.engine.latency.seats import Apart, Here
from workers.engine.latency.session import measure
from workers.engine.protocol import SubjectError

pytestmark = pytest.mark.xdist_group("latency")  # never two sessions at once

Chain = Callable[..., Path]
POINTS = (OperatingPoint("onnxruntime", batch=16), OperatingPoint("onnxruntime", batch=1))


def entry(ref: str, path: Path) -> Entry:
    return Entry(ref, path, None, (1, 256))


def test_a_copy_apart_answers_as_one_here(chain: Chain) -> None:
    path = chain(10, batch=16)
    here, apart = (sit(entry("a", path), POINTS, 0) for sit in (Here, Apart))
    for index in range(2):
        assert here.refusal(index) == apart.refusal(index)
        assert here.measures_waits(index) == apart.measures_waits(index)
    assert apart.load_ms > 0
    assert apart.first(0).wall_ns > 0
    ticks = [apart.timed(0) for _ in range(20)]
    assert all(tick.wall_ns > 0 for tick in ticks)
    assert sum(tick.cpu_ns for tick in ticks) > 0  # the process that runs the call reads its own clock


def test_a_copy_that_cannot_be_loaded_or_dies_is_one_sentence(tmp_path: Path, chain: Chain) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(SubjectError, match="zoo:broken: InvalidProtobuf"):
        Apart(entry("zoo:broken", broken), POINTS, 0)
    apart = Apart(entry("zoo:mortal", chain(5)), POINTS, 0)
    apart.first(0)
    os.kill(apart._pid, signal.SIGKILL)
    os.waitid(os.P_PID, apart._pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(SubjectError, match="zoo:mortal: its process was killed by SIGKILL"):
        apart.timed(0)


def clash(refs: list[str], ref: str, layers: int) -> Any:
    """Build a torch module, unless another listing has been built in this process: their libraries clash."""
    import torch

    refs.append(ref)
    if len(set(refs)) > 1:
        raise ImportError(f"{refs[0]} has loaded another build of this library")
    return torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(layers)]).eval()


def test_listings_that_cannot_share_a_process_are_measured_apart() -> None:
    import functools

    built: list[str] = []
    entries = [
        Entry(ref, None, functools.partial(clash, built, ref, layers), (16, 64))
        for ref, layers in (("a", 20), ("b", 40), ("c", 20))
    ]
    session = measure(entries, [OperatingPoint("torch", batch=16)], budget_s=30.0, margin=0.3, seed=0, progress=_quiet)
    (point,) = session.to_json()["operating_points"]
    assert re.search(r"broke while loading: ImportError: \w has loaded another build", point["apart"])
    assert point["excluded"] == []
    assert [item["ref"] for item in point["entries"]] == ["a", "b", "c"]
    ratios = {(pair["a"], pair["b"]): pair["ratio"] for pair in point["pairs"]}
    assert 0.4 < ratios["a", "b"] < 0.65
    assert 0.85 < ratios["a", "c"] < 1.18
    assert 0.85 < point["control"]["ratio"] < 1.18


def _quiet(*_: object) -> None:
    pass
