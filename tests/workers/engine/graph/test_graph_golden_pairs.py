"""Every pair of models that share an architecture key between the zoos, against ``golden.toml``."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workers.engine.graph.compare import compare
from workers.engine.operations.structure import graph_of
from workers.engine.zoos.base import NO_WEIGHTS
from workers.engine.zoos.registry import open_zoo

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.engine.graph.canonical import CanonicalGraph

GOLDEN = tomllib.loads((Path(__file__).parent / "golden.toml").read_text(encoding="utf-8"))

ZOOS = ("torchvision", "timm", "keras", "onnx")

QUICK = {
    "torchvision:alexnet",
    "torchvision:googlenet",
    "torchvision:mobilenet_v3_small",
    "timm:mobilenetv3_small_100",
    "torchvision:regnet_x_400mf",
    "timm:regnetx_004",
    "torchvision:resnet18",
    "timm:resnet18",
    "torchvision:squeezenet1_1",
    "torchvision:vgg11",
    "timm:vgg11",
    "torchvision:vit_b_32",
    "timm:vit_base_patch32_224",
}
"""What is built in every test run, besides the files of the onnx package; everything else needs `make golden`."""


@pytest.fixture(scope="module")
def structure() -> Callable[[str], CanonicalGraph]:
    """The canonical graph of ``zoo:name`` without weights, built once."""
    known: dict[str, CanonicalGraph] = {}

    def build(reference: str) -> CanonicalGraph:
        if reference not in known:
            zoo_name, _, name = reference.partition(":")
            zoo = open_zoo(zoo_name)
            listing = zoo.describe(name, None if zoo_name == "onnx" else NO_WEIGHTS)
            known[reference] = graph_of(zoo, listing, zoo.structure(listing))
        return known[reference]

    return build


def parameters() -> list[Any]:
    found = []
    for pair in GOLDEN["pair"]:
        quick = all(side in QUICK or side.startswith("onnx:") for side in (pair["a"], pair["b"]))
        marks = [pytest.mark.xdist_group(f"golden {pair['key']}")]
        if not quick:
            marks += [pytest.mark.slow, pytest.mark.exhaustive]
        found.append(pytest.param(pair, id=f"{pair['a']}-{pair['b']}", marks=marks))
    return found


def told(difference: dict[str, Any]) -> dict[str, Any]:
    """A difference as ``golden.toml`` writes it: operators stand for the values of inserted and removed nodes."""
    valued = difference["kind"] in {"attribute", "shape"}
    sides = {side: difference[side] or {"op": "", "value": "", "node": ""} for side in ("a", "b")}
    return {
        "severity": difference["severity"],
        "kind": difference["kind"],
        "attribute": difference["attribute"] or "",
        **{side: _written(end["value" if valued else "op"]) for side, end in sides.items()},
        "repeats": difference["repeats"],
        "at": [end["node"] for end in sides.values()],
    }


def _written(value: Any) -> Any:
    return "" if value is None else value  # TOML has no null


@pytest.mark.parametrize("pair", parameters())
def test_pair_differs_as_explained_and_not_otherwise(pair: dict[str, Any], structure: Any) -> None:
    found = compare(structure(pair["a"]), structure(pair["b"]))
    expected = [{key: value for key, value in item.items() if key != "why"} for item in pair.get("differences", ())]
    assert [told(item) for item in found["differences"]] == expected
    assert found["verdict"] == pair["verdict"]
    assert found["input_sizes"]["holds_only_there"] == pair.get("only_at_this_size")


def test_every_entry_has_its_reason() -> None:
    for pair in GOLDEN["pair"]:
        differences = pair.get("differences", [])
        structural = any(item["severity"] == "structural" for item in differences)
        reasons = [item["why"] for item in differences] + ([] if structural else [pair["why"]])
        assert set(reasons) <= set(GOLDEN["why"]), pair


def test_no_structural_difference_where_timm_serves_torchvisions_weights() -> None:
    import timm

    tags = timm.list_pretrained("*.tv*_in1k")
    served = {f"timm:{tag.partition('.')[0]}" for tag in tags}
    pairs = [pair for pair in GOLDEN["pair"] if pair["a"].startswith("torchvision:") and pair["b"] in served]
    assert len(pairs) > 30
    for pair in pairs:
        assert pair["verdict"] == "identical", pair


def test_no_shared_key_is_left_out() -> None:
    members: dict[str, list[str]] = {}
    for zoo in ZOOS:
        for listing in open_zoo(zoo).listings():
            reference = f"{zoo}:{listing.name}"
            # The hub's files are no part of the onnx package: they need a download.
            here = zoo != "onnx" or listing.weights == "placeholder"
            if listing.architecture and here and reference not in members.setdefault(listing.architecture, []):
                members[listing.architecture].append(reference)
    shared = {
        (key, a, b)
        for key, names in members.items()
        for a, b in itertools.combinations(names, 2)
        if a.partition(":")[0] != b.partition(":")[0]
    }
    checked = {(pair["key"], pair["a"], pair["b"]) for pair in GOLDEN["pair"]}
    assert checked == shared
