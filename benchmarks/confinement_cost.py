"""What confinement costs a measurement: processor time of runs of SqueezeNet, of opening a file, of becoming confined.

python benchmarks/confinement_cost.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx

from workers.engine.safety.confinement import Places, confine
from workers.engine.safety.confinement.limits import Limits

ROUNDS, RUNS, OPENS = 5, 150, 20_000


def measure(*, confined: bool) -> dict[str, float]:
    """Return processor time in this process: a run in ms (median), an opened file in µs, the confinement in ms."""
    started = time.process_time()
    if confined:
        scratch = Path(tempfile.mkdtemp(prefix="zooaudit-cost-"))
        allowed = Limits(memory_bytes=2**33, cpu_s=600, file_bytes=2**30, processes=100)
        confine(Places(scratch, hidden=Path.cwd() / ".zooaudit"), allowed, network=False, required=True)
    became = time.process_time() - started
    import onnxruntime  # noqa: PLC0415 - it starts a thread, and what has threads cannot be confined

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_squeezenet.onnx"
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    picture = {session.get_inputs()[0].name: np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)}
    runs = []
    for _ in range(RUNS):
        begun = time.thread_time()
        session.run(None, picture)
        runs.append(time.thread_time() - begun)
    begun = time.process_time()
    for _ in range(OPENS):
        os.close(os.open("/usr/lib/os-release", os.O_RDONLY))
    opened = (time.process_time() - begun) / OPENS
    return {"run_ms": 1e3 * statistics.median(runs), "open_us": 1e6 * opened, "confine_ms": 1e3 * became}


def main() -> None:
    """Print the medians over fresh processes, with and without, in turns."""
    found: dict[str, list[dict[str, float]]] = {"free": [], "confined": []}
    for _ in range(ROUNDS):
        for name, each in found.items():
            command = [sys.executable, __file__, name]
            each.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    for name, each in found.items():
        told = {key: statistics.median(one[key] for one in each) for key in each[0]}
        spread = [round(one["run_ms"], 3) for one in each]
        print(f"{name}: a run {told['run_ms']:.3f} ms {spread}, opening a file {told['open_us']:.2f} µs,", end=" ")
        print(f"becoming so {told['confine_ms']:.2f} ms of processor time")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(confined=sys.argv[1] == "confined")))
    else:
        main()
