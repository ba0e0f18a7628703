from __future__ import annotations

import io

import pytest
from rich.console import Console

from app import render_latency
from app.domain.latency import findings, judge_latency
from app.domain.policies import POLICIES, Dimension


def shown(*renderables):
    stream = io.StringIO()
    console = Console(file=stream, width=100, color_system=None)
    for each in renderables:
        console.print(each)
    return stream.getvalue()


def side(median_ms, framework, **changed):
    found = {"median_ms": median_ms, "p90_ms": 1.1 * median_ms, "p99_ms": None, "framework": framework}
    found |= {"load_ms": 31.25, "compile_ms": None, "first_call_ms": 1234.5, "throughput": 1e3 / median_ms}
    found |= {"peak_rss_bytes": 210 * 2**20, "peak_device_bytes": None, "energy_per_item_j": None}
    return found | {"deterministic": True} | changed


def point(runtime, a, b, ratio, ci95, **changed):
    found = {"runtime": runtime, "device": "cpu", "batch": 1, "threads": 1, "a": a, "b": b, "ratio": ratio}
    found |= {"ci95": ci95, "control": {"ratio": 1.0, "ci95": [0.99, 1.01]}, "blocks": 6, "stopped": "decided"}
    return found | changed


@pytest.fixture
def block():
    common = point("onnxruntime", side(4.17, "onnxruntime"), side(4.3, "onnxruntime"), 0.986, [0.97, 0.996])
    framework = {"common": "onnxruntime", "ratio": 3.13, "ci95": [2.6, 3.7], "model_ratio": 0.986}
    native = point("native", side(42.1, "keras"), side(14.4, "torch"), 3.086, [2.6, 3.67], framework=framework)
    machine = {"short": "0123456789ab", "line": "AMD EPYC, 2 of 2 cores"}
    return judge_latency({"operating_points": [common, native], "machine": machine}, POLICIES["default"])


def test_both_models_stand_in_one_table_of_100_columns(block):
    text = shown(*render_latency.comparison(block))
    assert all(len(line) <= 100 for line in text.splitlines())
    assert text.count("┏") == 1
    for expected in ("native: keras | torch", "42.1", "14.4", "46.3", "3.086", "2.600 … 3.670", "0.990 … 1.010"):
        assert expected in text
    assert "p90 ≤" in text
    assert "p99" not in text  # nobody has the samples
    assert "verdict: b faster" in text


def test_what_is_the_models_and_what_the_frameworks_is_said(block):
    text = " ".join(shown(*render_latency.comparison(block)).split())
    said = "0.986 is the model's (on onnxruntime) and 3.130 (2.600 … 3.700) the framework's: B's is faster"
    assert f"native: keras | torch, batch 1: of this ratio {said}" in text


def test_costs_take_a_sentence_and_leave_out_what_nobody_measured(block):
    text = " ".join(shown(*render_latency.comparison(block)).split())
    assert "load 31.2 ms / 31.2 ms; first call 1.2 s / 1.2 s; items a second 23.8 / 69.4; memory 210 MiB" in text
    assert "compile" not in text
    assert "energy" not in text


def test_an_inconclusive_point_a_changing_output_and_a_missing_point_say_why():
    torch = point("torch", side(4.1, "torch"), side(4.3, "torch", deterministic=False), 1.03, [0.99, 1.09], batch=8)
    torch |= {"precision": "bfloat16", "boundary": "end_to_end", "blocks_needed": 40, "reason": "the budget was spent"}
    asked = {
        "operating_points": [torch],
        "machine": {},
        "not_measured": [{"operating_point": "torch cuda", "reason": "no device"}],
    }
    text = " ".join(shown(*render_latency.comparison(judge_latency(asked, POLICIES["default"]))).split())
    name = "torch, batch 8, bfloat16, end_to_end"
    assert f"{name}: inconclusive: the interval crosses the margin of 5 % (the budget was spent); about 40" in text
    assert f"{name}: equal inputs do not give B equal outputs" in text
    assert "torch cuda: not measured: no device" in text


def test_an_audit_ranks_ratios_and_frameworks(block):
    rows = [
        finding.to_json()
        | {
            "comparison_id": "1",
            "architecture": "mobilenet_v2",
            "a_ref": "keras:MobileNetV2@none",
            "b_ref": "timm:b@none",
        }
        for finding in findings(block, POLICIES["default"], [Dimension.LATENCY])
    ]
    text = shown(render_latency.ranked(rows, {"1": {"latency": block}}))
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "3.086" in text
    assert "│ framework " in text
