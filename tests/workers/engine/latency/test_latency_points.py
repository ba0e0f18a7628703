import dataclasses

import pytest

from app.domain import points as asked
from workers.engine.latency import points
from workers.engine.latency.points import Entry, OperatingPoint
from workers.engine.latency.session import _distinct
from workers.engine.protocol import UsageError

FILE = Entry("onnx:a", "a.onnx", None, (1, 3))
MODULE = Entry("torch:a", "a.onnx", lambda: None, (1, 3))


def test_the_service_asks_in_the_words_of_the_engine():
    known = {name: tuple(word for word in words if word) for name, words in points._WORDS.items()}
    assert known == asked._WORDS
    fields = [field.name for field in dataclasses.fields(OperatingPoint)]
    assert fields == [field.name for field in dataclasses.fields(asked.OperatingPoint)]
    for point in asked.DEFAULT:
        OperatingPoint(**point.to_json()).check()


def test_a_point_names_the_defaults_of_its_runtime():
    assert OperatingPoint("onnxruntime").graph_optimization == "all"
    assert OperatingPoint("onnxruntime").layout is None
    assert OperatingPoint("torch-compile").layout == "channels_first"
    assert OperatingPoint("torch") == OperatingPoint("torch", layout="channels_first")
    assert OperatingPoint("native").to_json()["layout"] is None


def test_points_that_differ_in_batch_and_boundary_share_a_loaded_model():
    one = OperatingPoint("torch", batch=8, boundary="end_to_end")
    assert one.process == OperatingPoint("torch").process
    assert one.process != OperatingPoint("torch", precision="bfloat16").process


def test_native_is_what_each_zoo_ships():
    native = OperatingPoint("native")
    assert [entry.runtime(native) for entry in (FILE, MODULE)] == ["onnxruntime", "torch"]
    assert FILE.runs_at(native)
    assert not FILE.runs_at(OperatingPoint("torch"))
    assert MODULE.runtime(OperatingPoint("onnxruntime")) == "onnxruntime"


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        ([FILE, FILE], ["onnxruntime"]),
        ([FILE, MODULE], ["onnxruntime", "native"]),
        ([MODULE], ["onnxruntime", "native"]),
    ],
)
def test_native_is_not_measured_a_second_time(entries, kept):
    found = _distinct([OperatingPoint("onnxruntime"), OperatingPoint("native"), OperatingPoint("onnxruntime")], entries)
    assert [point.runtime for point in found] == kept


@pytest.mark.parametrize("field", ["runtime", "device", "precision", "layout", "graph_optimization", "boundary"])
def test_words_that_nobody_knows_are_refused(field):
    with pytest.raises(UsageError, match=f"There is no {field} 'x'; choose of"):
        dataclasses.replace(OperatingPoint("torch"), **{field: "x"}).check()
