import pytest

from app.domain.points import DEFAULT, InvalidPointError, OperatingPoint, parse, read, read_all


def test_a_point_is_written_in_one_line():
    point = read(parse("runtime=torch, batch=8,threads=2,precision=bfloat16,layout=channels_last"))
    assert point == OperatingPoint("torch", 8, 2, precision="bfloat16", layout="channels_last")
    assert read(parse("runtime=onnxruntime,graph_optimization=basic")).graph_optimization == "basic"
    assert read({"runtime": "native"}) == DEFAULT[1]


@pytest.mark.parametrize("point", [*DEFAULT, OperatingPoint("torch", 2, device="cuda", boundary="device")])
def test_a_point_is_read_back(point):
    assert read(point.to_json()) == point


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("torch", "is no operating point; write it as runtime=torch,batch=8"),
        ("", "is no operating point"),
        ("runtime=torch,", "is no operating point"),
        ("runtime=torch,batch=", "is no operating point"),
        ("runtime=torch,batch=8,batch=9", "names batch twice"),
        ("batch=8", "needs a runtime: onnxruntime, torch"),
        ("runtime=torch,bach=8", "no 'bach'. Did you mean batch?"),
        ("runtime=torch,colour=red", "no 'colour'; choose from runtime, batch"),
        ("runtime=tensorrt", "no runtime 'tensorrt'; choose from onnxruntime"),
        ("runtime=pytorch", "no runtime 'pytorch'; choose from onnxruntime, torch, torch-compile, native."),
        ("runtime=torch,batch=0", "batch is 0; it is a whole number, at least 1"),
        ("runtime=torch,batch=-1", "batch is -1"),
        ("runtime=torch,batch=two", "batch is 'two'"),
        ("runtime=torch,threads=1.5", "threads is '1.5'"),
        ("runtime=torch,device=gpu", "no device 'gpu'; choose from cpu, cuda"),
        ("runtime=torch,precision=fp16", "no precision 'fp16'; choose from float32, tf32, float16"),
        ("runtime=onnxruntime,precision=float16", "runs a file in the precision that it holds"),
        ("runtime=native,precision=bfloat16", "runs a file in the precision that it holds"),
        ("runtime=torch,precision=tf32", "a mode of NVIDIA GPUs"),
        ("runtime=torch,boundary=device", "which the CPU does not have"),
        ("runtime=onnxruntime,layout=channels_last", "layout is torch's memory format"),
        ("runtime=native,layout=channels_last", "native has none to choose"),
        ("runtime=torch,graph_optimization=all", "a level of onnxruntime, not of torch"),
    ],
)
def test_what_means_nothing_is_refused_in_a_sentence(text, said):
    with pytest.raises(InvalidPointError) as error:
        read(parse(text))
    assert said in str(error.value)
    assert str(error.value).endswith((".", "?"))


@pytest.mark.parametrize("batch", [True, 1.0, "8"])
def test_numbers_of_a_request_are_numbers(batch):
    with pytest.raises(InvalidPointError, match="batch is"):
        read({"runtime": "torch", "batch": batch})


def test_a_list_holds_each_point_once_and_not_too_many():
    assert read_all([{"runtime": "torch"}, {"runtime": "torch", "batch": 1}]) == (OperatingPoint("torch"),)
    with pytest.raises(InvalidPointError, match="at most 16"):
        read_all([{"runtime": "torch", "batch": batch} for batch in range(1, 18)])
