"""Runners, each in a forked process as blocks have them: a test process that has run torch must not be forked later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from workers.engine.contracts.contract import Contract
from workers.engine.latency import alone, clock, runners
from workers.engine.latency.points import Entry, OperatingPoint
from workers.engine.latency.process import Limits, run_forked
from workers.engine.latency.runners import inputs, onnx_session, torch_module
from workers.engine.protocol import EngineError

pytestmark = pytest.mark.xdist_group("latency")

CONTRACT = Contract(16, 16, resize=20, crop=(16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))


def network():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 256, 4)]
    return torch.nn.Sequential(*layers).eval()


def forked(body):
    """Return what ``body()``, run in a process of its own, returned; raise what went wrong there."""
    outcome = run_forked(lambda _: {"value": body()}, Limits(60, 60))
    if outcome.result is None:
        raise AssertionError(outcome.reason)
    return outcome.result["value"]


def answer(point, **changed):
    """Return the outputs, settings and input type of the network at a point."""
    entry = replace(Entry("torch:net", None, network, (1, 3, 16, 16), CONTRACT), **changed)

    def body():
        runner = runners.load(entry, point)
        values = [value.tolist() for value in runner.arrays(runner.call(point, 7)())]
        return {"values": values, "settings": runner.settings(), "input_type": runner.input_type}

    return forked(body)


TORCH = OperatingPoint("torch")


@pytest.mark.parametrize(
    ("point", "tolerance", "dtype"),
    [
        (replace(TORCH, layout="channels_last"), 1e-5, "float32"),
        (replace(TORCH, precision="bfloat16"), 0.05, "bfloat16"),
        (replace(TORCH, threads=2), 1e-5, "float32"),
        (OperatingPoint("native"), 0, "float32"),
    ],
)
def test_a_network_answers_alike_at_every_point(point, tolerance, dtype):
    plain, found = answer(TORCH), answer(point)
    assert found["input_type"] == dtype
    assert np.allclose(found["values"], plain["values"], rtol=0, atol=tolerance)
    assert found["settings"]["intra_op_threads"] == point.threads
    assert found["settings"]["mode"] == "eager"


def test_batches_are_what_the_point_says():
    assert np.shape(answer(replace(TORCH, batch=5))["values"][0]) == (5, 4)


def test_end_to_end_prepares_the_picture_as_the_contract_says():
    point = replace(TORCH, batch=2, boundary="end_to_end")

    def expected():
        prepared = inputs.prepared(CONTRACT, inputs.jpeg(CONTRACT, 7), 2)
        with torch.inference_mode():
            return network()(torch.from_numpy(prepared)).tolist()

    assert np.allclose(answer(point)["values"][0], forked(expected), atol=1e-5)


def test_a_listing_without_a_contract_has_no_end_to_end():
    point = replace(TORCH, boundary="end_to_end")
    entry = Entry("torch:net", None, network, (1, 3, 16, 16))
    assert "no documented input contract" in forked(lambda: runners.load(entry, point).refusal(point))


def test_pictures_have_the_size_of_photographs_or_of_the_input_where_nothing_is_resized():
    def size(contract):
        return Image.open(inputs.io.BytesIO(inputs.jpeg(contract, 0))).size

    assert size(CONTRACT) == (500, 375)
    assert size(Contract(8, 8, colour="grey")) == (8, 8)
    assert inputs.prepared(Contract(8, 8, colour="grey"), inputs.jpeg(Contract(8, 8, colour="grey"), 0), 2).shape == (
        2,
        1,
        8,
        8,
    )


@pytest.mark.parametrize("level", ["all", "extended", "basic", "none"])
def test_onnxruntime_optimises_as_far_as_it_is_told(chain, level):
    point = OperatingPoint("onnxruntime", batch=4, graph_optimization=level)
    entry = Entry("onnx:a", chain(2), None, (1, 256))
    runner = runners.load(entry, point)
    assert runner.settings()["graph_optimization"] == level
    assert runner._session.get_session_options().graph_optimization_level == onnx_session._LEVELS[level]
    assert runner.settings()["providers"] == ["CPUExecutionProvider"]
    assert runner.arrays(runner.call(point, 0)())[0].shape == (4, 256)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("runtime", ["onnxruntime", "torch", "torch-compile"])
def test_without_a_cuda_device_the_point_is_refused(chain, runtime):
    entry = Entry("a", chain(2), network, (1, 256))
    with pytest.raises(EngineError, match=r"CUDA (provider|device).*choose the device cpu") as error:
        runners.load(entry, OperatingPoint(runtime, device="cuda"))
    assert error.value.code == "no-cuda"


def test_without_a_compiler_torch_compile_is_refused():
    def body():
        from torch._inductor import config

        config.cpp.cxx = ("no-such-compiler",)
        try:
            runners.load(Entry("a", None, network, (1, 3, 16, 16)), OperatingPoint("torch-compile"))
        except EngineError as error:
            return [error.code, error.message]
        return None

    code, message = forked(body)
    assert code == "no-compiler"
    assert "install g++" in message


class Event:
    """Stands in for a CUDA event, of which there is none here: notes the order of what happens."""

    log: tuple[str, ...] = ()

    def __init__(self, *, enable_timing):
        assert enable_timing

    def record(self, stream=None):
        Event.log += (f"record {stream}",)

    def synchronize(self):
        Event.log += ("synchronize",)

    def elapsed_time(self, end):
        assert end is not self
        return 1.25


def test_on_a_device_events_keep_the_time_and_values_stay_bound(chain, monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(Event, "log", ())
    values = np.ones((2, 256), np.float32)
    session = onnxruntime.InferenceSession(str(chain(2)), providers=["CPUExecutionProvider"])
    bound = onnx_session._OnDevice(session, "x0", values, "its stream", "cpu")
    tick = clock.Clock(1, on_device=True).timed(bound)
    assert tick.wall_ns == 1_250_000
    assert Event.log == ("record its stream", "record its stream", "synchronize")
    (output,) = bound()
    assert np.allclose(output.numpy(), session.run(None, {"x0": values})[0])


def test_a_module_on_a_device_is_timed_by_events_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(Event, "log", ())
    call = torch_module._OnDevice(lambda values: values + 1, torch.ones(3))
    watch = clock.Clock(1, on_device=True)
    assert watch.timed(call).wall_ns == 1_250_000
    assert Event.log == ("record None", "record None", "synchronize")
    assert not watch.measures_waits()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ([np.array([1.0, 2.0])], [np.array([1.0, 2.0])], True),
        ([np.array([1.0, 2.0])], [np.array([1.0, 2.001])], True),
        ([np.array([1.0, 2.0])], [np.array([1.0, 2.1])], False),
        ([np.array([np.nan, 2.0])], [np.array([np.nan, 2.0])], True),
        ([np.array([np.nan, 2.0])], [np.array([1.0, 2.0])], False),
        ([np.zeros(3)], [np.zeros(3)], True),
        ([np.zeros(3)], [np.zeros(4)], False),
        ([np.zeros(3)], [], False),
        ([np.array([1, 2])], [np.array([2, 1])], False),
    ],
)
def test_outputs_are_equal_but_for_rounding(first, second, same):
    assert alone.equal(first, second, 1e-3) is same
