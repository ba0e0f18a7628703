"""Time of comparing large graphs, and of the largest graph that is read at all.

    python benchmarks/architecture_speed.py

Each case runs in this process on one core; times are the best of three, memory is the peak of the process so far.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from workers.engine.graph.canonical import CanonicalGraph, Node, canonicalise
from workers.engine.graph.compare import compare

if TYPE_CHECKING:
    from collections.abc import Callable

NODES = 5000


def residual(length: int, changed: Callable[[int], bool] = lambda _: False) -> CanonicalGraph:
    """A chain of residual blocks (Conv, Relu, Conv, Add, Relu) of about this many nodes; some layers changed."""
    nodes = [Node(0, "Input", {"index": 0}, (), (), (1, 64, 8, 8), "x")]

    def add(op: str, *inputs: int, **attributes: Any) -> int:
        number = len(nodes)
        edges = tuple((source, 0) for source in inputs)
        nodes.append(Node(number, op, attributes, edges, (), (1, 64, 8, 8), f"n{number}"))
        return number

    last = 0
    while len(nodes) < length:
        number = len(nodes)
        kernel = [5, 5] if changed(number) else [3, 3]
        inner = add("Relu", add("Conv", last, kernel_shape=kernel, output_channels=64))
        last = add("Relu", add("Add", add("Conv", inner, kernel_shape=[3, 3], output_channels=64), last))
    counts = dict.fromkeys(("parameters", "buffers", "macs", "flops", "activations", "nodes"), 0)
    return CanonicalGraph(tuple(nodes), ((last, 0),), counts)


def other_operators(graph: CanonicalGraph) -> CanonicalGraph:
    """The same wiring with operators that can stand for none of the first graph's."""
    names = {"Conv": "Concat", "Relu": "LRN", "Add": "Flatten"}
    nodes = tuple(dataclasses.replace(node, op=names.get(node.op, node.op), attributes={}) for node in graph.nodes)
    return CanonicalGraph(nodes, graph.outputs, graph.counts)


def fresh(graph: CanonicalGraph) -> CanonicalGraph:
    """A copy without remembered digests, so that every run computes them."""
    return CanonicalGraph(graph.nodes, graph.outputs, graph.counts)


def best_of_three(function: Callable[[], Any]) -> tuple[float, Any]:
    """Shortest of three times in seconds, and what the function returned."""
    times = []
    result = None
    for _ in range(3):
        started = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - started)
    return min(times), result


def chain_file(length: int, path: Path) -> None:
    """An ONNX file with a chain of this many nodes."""
    names = ["x", *(f"v{index}" for index in range(length - 1)), "y"]
    nodes = [
        onnx.helper.make_node("Relu" if index % 2 else "Sigmoid", [names[index]], [names[index + 1]])
        for index in range(length)
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 4)) for name in ("x", "y")]
    graph = onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def main() -> None:
    """Time every case and print a line each."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    base = residual(NODES)
    cases = {
        "equal": base,
        "one layer changed": residual(NODES, lambda number: number == 2501),
        "every tenth block changed": residual(NODES, lambda number: number % 50 == 1),
        "every block changed": residual(NODES, lambda _: True),
        "a tenth shorter": residual(NODES * 9 // 10, lambda number: number == 1),
        "nothing in common": other_operators(base),
    }
    with tempfile.TemporaryDirectory() as folder:
        picture = (Path(folder) / "diagram.svg", "A", "B")
        for name, other in cases.items():

            def compared(other: CanonicalGraph = other, picture: tuple[Path, str, str] | None = None) -> dict[str, Any]:
                return compare(fresh(base), fresh(other), None, picture)

            seconds, found = best_of_three(compared)
            drawn, _ = best_of_three(partial(compared, picture=picture))
            places = sum(item["repeats"] * len(item.get("run", "1")) for item in found["differences"])
            print(
                f"diff of two graphs of {len(base.nodes)} nodes, {name:26} {seconds:6.2f} s, with the picture"
                f" {drawn:6.2f} s  {len(found['differences'])} differences in {places} places"
            )
        path = Path(folder) / "chain.onnx"
        for length in (10_000, 100_000):
            chain_file(length, path)
            started = time.perf_counter()
            nodes = canonicalise(path).counts["nodes"]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            seconds = time.perf_counter() - started
            print(f"file of {nodes} nodes read and canonicalised in {seconds:.1f} s, peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
