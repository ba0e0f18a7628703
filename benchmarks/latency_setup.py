"""Networks that the latency benchmarks time, and the neighbour that keeps a core busy beside them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torchvision

from app.domain.latency import judge_latency, latency_block
from workers.engine.graph.export import export_module
from workers.engine.latency.points import Entry, OperatingPoint
from workers.engine.latency.session import measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.policies import Policy

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "digits" / "digits-torch"))
import models as digits

BURST_S = 0.2
"""Mean length of the neighbour's bursts of work and of its rests."""


def resnet50() -> torch.nn.Module:
    """ResNet-50 with random weights: some tens of milliseconds."""
    return torchvision.models.resnet50(weights=None).eval()


def mobilenet_v2() -> torch.nn.Module:
    """MobileNetV2 with random weights: some milliseconds."""
    return torchvision.models.mobilenet_v2(weights=None).eval()


def lenet5() -> torch.nn.Module:
    """LeNet-5 on digits: less than a millisecond."""
    module: torch.nn.Module = digits.lenet5().eval()
    return module


WIDTH = 64
"""Channels of the planted convolutions."""
SHAPES = {resnet50: (1, 3, 224, 224), mobilenet_v2: (1, 3, 224, 224), lenet5: (1, 1, 32, 32)}
NETWORKS = {build.__name__: build for build in SHAPES}


class Planted(torch.nn.Module):
    """A network beside which two convolutions run on a corner of the picture, ``side`` pixels wide and high.

    Their cost is arithmetic on data that stays in the cache, so that it is the same whatever else the machine does.
    """

    def __init__(self, name: str, side: int) -> None:
        super().__init__()
        self.network = NETWORKS[name]()
        self.side = side
        self.planted = torch.nn.Sequential(
            torch.nn.Conv2d(3, WIDTH, 1),
            torch.nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(WIDTH, 1000),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the sum of both answers."""
        corner = pictures[:, :, : self.side, : self.side]
        found: torch.Tensor = self.network(pictures) + self.planted(corner)
        return found


def planted(name: str, side: int) -> torch.nn.Module:
    """Return the network with layers planted on a corner of this side, or as it is for 0."""
    return Planted(name, side).eval() if side else NETWORKS[name]()


def entry(ref: str, name: str, folder: Path, side: int = 0) -> Entry:
    """Return a listing that runs on onnxruntime and on torch; its file is made at the first call."""
    path = folder / f"{name}-{side}.onnx"
    shape = SHAPES[NETWORKS[name]]
    if not path.exists():
        # In a process of its own: blocks are forked from this one, which must not have run torch's threads.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(_export, name, side, shape, path).result()
    return Entry(ref, path, partial(planted, name, side), shape)


def _export(name: str, side: int, shape: tuple[int, ...], path: Path) -> None:
    torch.manual_seed(0)
    export_module(planted(name, side), shape, path)


@contextlib.contextmanager
def busy_neighbour() -> Iterator[None]:
    """Keep the last core busy half of the time, in bursts of random length, from another process."""
    pid = os.fork()
    if pid == 0:
        _work_and_rest()
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _work_and_rest() -> None:
    """Multiply matrices larger than the second-level cache and sleep, in turns; never returns."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    draw = random.Random(0)  # noqa: S311 - no secret
    first, second = (np.random.default_rng(seed).standard_normal(1 << 20) for seed in (1, 2))
    while True:
        end = time.monotonic() + draw.expovariate(1 / BURST_S)
        while time.monotonic() < end:
            first += second
        time.sleep(draw.expovariate(1 / BURST_S))


def judged(first: Entry, second: Entry, runtime: str, policy: Policy, *, budget_s: float, seed: int) -> dict[str, Any]:
    """Measure two entries and judge them as a comparison does; return the operating point of its answer."""
    session = measure(
        [first, second],
        [OperatingPoint(runtime)],
        budget_s=budget_s,
        margin=policy.latency_margin,
        seed=seed,
        progress=lambda *_: None,
    )
    (point,) = judge_latency(latency_block(session.to_json(), first.ref, second.ref), policy)["operating_points"]
    return dict(point)


def described(point: dict[str, Any]) -> str:
    """Say in one line what was measured."""
    interval = "-" if point["ci95"] is None else " … ".join(f"{end:.4f}" for end in point["ci95"])
    return (
        f"{point['verdict']:12} {point['ratio']:.4f} ({interval}), {point['blocks']} blocks, "
        f"{point['a']['median_ms']:.2f} ms, control {point['control']['ratio']:.4f}"
        f"{', void' if point['void'] else ''}, {point['stopped']}, {point['seconds']:.1f} s"
    )
