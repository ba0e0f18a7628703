import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import contracts, suspicions
from app.domain.contracts import FIELDS, InvalidContractError
from app.domain.verdicts import Place
from workers.engine.contracts.contract import Contract

IMAGENET = Contract(
    224, 224, resize=256, crop=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), source="here"
).to_json()


def test_the_fields_are_those_of_the_engine_in_its_order():
    names = [field.name for field in dataclasses.fields(Contract)]
    assert [name for name in names if name not in {"dtype", "source"}] == list(FIELDS)


def test_differences_name_the_fields_and_ignore_the_source():
    assert contracts.compare(IMAGENET, IMAGENET | {"source": "there"}) == {"differences": []}
    assert contracts.compare(IMAGENET, IMAGENET | {"resize": [256, 256], "interpolation": "bicubic"}) == {
        "differences": [
            {"field": "resize", "a": 256, "b": [256, 256]},
            {"field": "interpolation", "a": "bilinear", "b": "bicubic"},
        ]
    }
    assert contracts.compare(None, IMAGENET) is None


def test_a_difference_is_one_finding_with_both_values():
    assert contracts.findings(None) == []
    (same,) = contracts.findings(contracts.compare(IMAGENET, IMAGENET))
    assert (same.metric, same.verdict, same.severity) == ("contract", Place.INSIDE, "advisory")
    (other,) = contracts.findings(contracts.compare(IMAGENET, IMAGENET | {"resize": 232}))
    assert (other.verdict, other.details) == (
        Place.OUTSIDE,
        {"differences": [{"field": "resize", "a": 256, "b": 232}]},
    )


GOOD = {
    "height": 8,
    "resize": None,
    "fit": "contain",
    "interpolation": "lanczos",
    "antialias": False,
    "crop": [9, 8],
    "crop_offset": "floor",
    "fill": [0, 255, 7],
    "colour": "bgr",
    "scale": -1,
    "mean": [1, 0.5, 0],
    "std": [1.0],
    "layout": "nhwc",
}
BAD = {
    "height": 0,
    "width": 2.5,
    "resize": [1, 2, 3],
    "fit": "squash",
    "interpolation": "cubic",
    "antialias": 1,
    "crop": 224,
    "crop_offset": "ceil",
    "fill": [0, 256, 7],
    "colour": "yuv",
    "scale": float("nan"),
    "mean": [1, 2],
    "std": [1, 0, 1],
    "layout": ["nchw"],
    "source": "me",
}


def test_fields_are_checked_one_by_one():
    assert contracts.check(GOOD) == GOOD
    for name, value in BAD.items():
        with pytest.raises(InvalidContractError, match=name):
            contracts.check({name: value})
    with pytest.raises(InvalidContractError, match="name one"):
        contracts.check({})


def test_overriding_replaces_fields_and_says_so():
    found = contracts.overridden(IMAGENET, {"resize": 232, "interpolation": "bicubic"})
    assert Contract.from_json(found).resize == 232
    assert found["source"] == "here; overridden: resize, interpolation"
    assert found | {"resize": 256, "interpolation": "bilinear", "source": "here"} == IMAGENET


def test_another_number_of_channels_does_not_keep_the_means_of_the_old_ones():
    grey = Contract.from_json(contracts.overridden(IMAGENET, {"colour": "grey"}))
    assert (grey.mean, grey.std, grey.fill) == ((0.0,), (1.0,), (0,))
    with pytest.raises(InvalidContractError, match="3 values, but grey pictures have 1"):
        contracts.overridden(IMAGENET, {"colour": "grey", "mean": [0.1, 0.2, 0.3]})


json_values = st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=5)


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), json_values | st.lists(json_values, max_size=4), min_size=1))
def test_whatever_is_overridden_is_refused_or_read_by_the_engine(fields):
    """The engine may still refuse what does not fit together, with a sentence; nothing else may go wrong."""
    try:
        merged = contracts.overridden(IMAGENET, contracts.check(fields))
    except InvalidContractError:
        return
    try:
        contract = Contract.from_json(merged)
    except ValueError as error:
        assert "fit is" in str(error)  # noqa: PT017
    else:
        shown = contracts.steps(json.loads(json.dumps(contract.to_json())))
        assert shown[0]["step"] == "decode"


def test_steps_say_what_a_person_needs_in_order():
    keras = Contract(
        224,
        224,
        resize=(224, 224),
        interpolation="nearest",
        antialias=False,
        colour="bgr",
        scale=1 / 127.5,
        fill=(1, 2, 3),
    )
    assert contracts.steps(keras.to_json()) == [
        {"step": "decode", "what": "8-bit RGB; alpha and EXIF rotation ignored"},
        {"step": "resize", "what": "to 224 x 224, whatever its aspect ratio; nearest, rounded to whole values"},
        {"step": "colour order", "what": "RGB becomes BGR"},
        {"step": "scale", "what": "float32, times 1/127.5"},
        {"step": "normalise", "what": "minus [0.0, 0.0, 0.0], then divided by [1.0, 1.0, 1.0]"},
        {"step": "layout", "what": "channels, height, width: 3 x 224 x 224"},
    ]
    (crop,) = (step["what"] for step in contracts.steps(IMAGENET) if step["step"] == "crop")
    assert crop == "224 x 224 from the centre, offset rounded half to even; a shorter side is padded with [0, 0, 0]"


def test_a_suspicion_is_a_finding_without_a_margin():
    suspicion = {
        "kind": "swapped classes",
        "side": "b",
        "shift": None,
        "moved": 2,
        "classes": [{"label": 3, "answered": 8}, {"label": 8, "answered": 3}],
        "evidence": {"b": {"items": 180, "wrong": 171, "explained": 162}},
    }
    (found,) = suspicions.findings([suspicion])
    assert (found.metric, found.a, found.b, found.margin) == ("swapped classes", None, 0.9, None)
    assert (found.verdict, found.severity, found.details) == (Place.OUTSIDE, "advisory", suspicion)
    assert suspicions.sentence(suspicion) == ("swapped classes of B: answered are 3 as 8, 8 as 3 (162 of 180 items)")
    shifted = suspicion | {"kind": "shifted labels", "side": "both", "shift": -1}
    assert "shifted labels of both sides: most right answers stand at label -1" in suspicions.sentence(shifted)
