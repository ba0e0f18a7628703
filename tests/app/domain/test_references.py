from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.references import MalformedReferenceError, Reference, parse

LETTERS = string.ascii_letters + string.digits
ZOOS = st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True).filter(lambda zoo: zoo != "file")
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+/-]{0,20}", fullmatch=True)
TAGS = st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,20}", fullmatch=True)
PATHS = st.text(min_size=1).map(str.strip).filter(lambda path: path and "\0" not in path)


@given(st.builds(Reference, ZOOS, NAMES, TAGS) | st.builds(Reference, st.just("file"), PATHS))
def test_what_is_written_is_read_back(reference):
    assert parse(str(reference)) == reference


@given(st.text())
def test_any_text_is_read_or_refused_with_advice(text):
    try:
        reference = parse(text)
    except MalformedReferenceError as error:
        reference, message = None, str(error)
    if reference is None:
        assert "Write zoo:name" in message
    else:
        assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text", ["", "resnet50", ":x", "timm:", "timm:@none", "timm:a@", "Timm:a", "file:", "timm:a b"]
)
def test_malformed(text):
    with pytest.raises(MalformedReferenceError):
        parse(text)


def test_a_path_keeps_its_at_sign():
    assert parse("file:/models/a@2.onnx") == Reference("file", "/models/a@2.onnx")
