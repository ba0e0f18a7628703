"""The list of differences and the aligned layers as a person reads them, and the files of the picture."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group

from app import diagram, layers
from app.errors import InvalidError

HOSTILE = "[/]</td><script>alert(1)</script>\x1b[31m"


def _text(block, width):
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None)
    console.print(Group(*layers.differences(block), *layers.aligned(block)))
    return stream.getvalue()


def _layer(text, node="a.layer"):
    return {"node": node, "op": text.split()[0], "text": text, "shape": [1, 8, 4, 4]}


@pytest.fixture
def block():
    strides = {"kind": "attribute", "attribute": "strides", "severity": "structural", "text": "strides 1×1 → 2×2"}
    strides |= {"a": {"node": "layer2.0.conv1", "op": "Conv", "value": [1, 1]}, "repeats": 3}
    strides |= {"b": {"node": "conv3_block1_1_conv", "op": "Conv", "value": [2, 2]}}
    softmax = {"kind": "inserted", "attribute": None, "severity": "interface", "text": "Softmax only in B", "a": None}
    softmax |= {"b": {"node": "softmax", "op": "Softmax", "value": {"axis": 1}}, "repeats": 1}
    conv = _layer("Conv 1×1, 128 channels"), _layer("Conv 1×1, 128 channels, stride 2", "x" * 60 + "_conv")
    rows = [
        {"kind": "folded", "a": {"Conv": 10, "Relu": 12}, "b": {"Conv": 10, "Relu": 12}, "equal": 22},
        {"kind": "different", "a": conv[0], "b": conv[1], "differences": [{"index": 0, "places": 1}], "equal": 0},
        {"kind": "folded", "a": {"Conv": 7}, "b": {"Conv": 6}, "differences": [{"index": 0, "places": 2}], "equal": 4},
        {"kind": "only_b", "a": None, "b": _layer("Softmax axis 1"), "differences": [{"index": 1, "places": 1}]},
    ]
    rows = [{"differences": [], "equal": 0} | row for row in rows]
    return {
        "verdict": "different",
        "differences": [strides, softmax],
        "aligned": {"rows": rows, "most": 160, "left_out": 0},
        "note": None,
    }


@pytest.mark.parametrize("width", [80, 140])
def test_rows_show_both_sides_and_what_differs(block, width):
    shown = _text(block, width)
    assert max(map(len, shown.splitlines())) <= width
    flat = " ".join(shown.split())
    for expected in ("2 differences", "strides 1×1 → 2×2", "22 equal layers: 10 Conv, 12 Relu", "1: 2 × strides"):
        assert expected in flat or width == 80, expected
    for expected in ("structural", "interface", "≠", "+", "Softmax axis 1", "2: Softmax only in B", "xxx_conv"):
        assert expected in shown, expected


def test_a_long_view_is_cut_and_says_so(block):
    block["aligned"] |= {"rows": block["aligned"]["rows"] * 20, "left_out": 5}
    assert "… and 45 rows more; --diagram draws them" in _text(block, 140)


def test_nothing_is_shown_where_nothing_differs(block):
    assert _text(block | {"differences": []}, 80).strip() == ""


def test_answers_from_before_have_no_aligned_layers(block):
    del block["aligned"], block["differences"][0]["text"]
    shown = _text(block, 140)
    assert "Conv strides 1 → 2" in shown
    assert "Aligned" not in shown


def test_names_of_strangers_neither_style_nor_command_the_terminal(block):
    block["differences"][0]["a"]["node"] = block["aligned"]["rows"][1]["a"]["node"] = HOSTILE[:20]
    block["differences"][1]["b"]["node"] = "\x1b[2Jgone"
    shown = _text(block, 140)
    assert "[/]</td><script>" in shown
    assert "\x1b" not in shown


def test_the_page_holds_the_picture_and_a_table(block, tmp_path):
    block["differences"][0]["a"]["node"] = HOSTILE[:20]
    block["differences"][0]["text"] = HOSTILE
    answer = {"a": {"ref": "<b>a"}, "b": {"ref": "b"}, "architecture": block}
    diagram.write(tmp_path / "d.html", "<svg><text>x</text></svg>", answer)
    page = (tmp_path / "d.html").read_text()
    assert page.count("<svg>") == 1
    assert "<script" not in page
    assert "&lt;b&gt;a beside b" in page
    assert page.count("<tr>") == 3
    diagram.write(tmp_path / "d.SVG", "<svg/>", answer)
    assert (tmp_path / "d.SVG").read_text() == "<svg/>"


def test_a_file_that_cannot_be_written_is_a_sentence(block, tmp_path):
    (tmp_path / "file").touch()
    answer = {"a": {"ref": "a"}, "b": {"ref": "b"}, "architecture": block}
    with pytest.raises(InvalidError, match="cannot be written"):
        diagram.write(tmp_path / "file" / "d.svg", "<svg/>", answer)
