import json
import os

from workers.engine.latency import machine


def test_the_fingerprint_is_stable_and_names_the_machine() -> None:
    first, second = machine.describe(), machine.describe()
    assert first == second
    assert len(first["fingerprint"]) == 64
    assert first["logical_cores"] == os.cpu_count()
    assert first["kernel"].split()[1] == os.uname().release
    assert "onnxruntime" in first["packages"]
    json.dumps(first, allow_nan=False)


def test_another_affinity_is_another_fingerprint() -> None:
    cores = os.sched_getaffinity(0)
    whole = machine.describe()["fingerprint"]
    os.sched_setaffinity(0, {min(cores)})
    try:
        narrowed = machine.describe()["fingerprint"]
    finally:
        os.sched_setaffinity(0, cores)
    assert (whole == narrowed) == (len(cores) == 1)
