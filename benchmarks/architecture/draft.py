"""An editable ONNX graph: what mutations and rewrites have in common."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from workers.engine.graph.passes.rewriting import SOURCE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    Array = np.ndarray[Any, Any]
    Elements = Callable[[Callable[[str], Array]], Array]
    """Elements of a weight, computed from those of other weights by name."""

    Mutator = Callable[["Draft", random.Random], "tuple[str, ...] | None"]
    """Makes one change at a random place; returns the names of the nodes there, or None where it cannot."""

    Rewriter = Callable[["Draft", onnx.NodeProto, random.Random], bool]
    """Writes one node, or the whole file, otherwise; returns whether it could."""

Shape = tuple[int, ...]
EAGER = 4096


class Draft:
    """One ONNX model to edit. Every node has a unique name, which the canonical graph reports as its source."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = copy.deepcopy(proto)
        self.graph = self.proto.graph
        self._serial = 0
        self.elements: dict[str, Elements] = {}
        self.shapes: dict[str, Shape] = {}
        self.integers: set[str] = set()
        for value in (*self.graph.value_info, *self.graph.input, *self.graph.output):
            tensor = value.type.tensor_type
            self.shapes[value.name] = tuple(dimension.dim_value for dimension in tensor.shape.dim)
            if tensor.elem_type != TensorProto.FLOAT:
                self.integers.add(value.name)
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes in file order."""
        return list(self.graph.node)

    def of(self, *ops: str) -> list[onnx.NodeProto]:
        """The nodes with one of these operators."""
        return [node for node in self.graph.node if node.op_type in ops]

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a value."""
        return next((node for node in self.graph.node if name in node.output), None)

    def users(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a value."""
        return [node for node in self.graph.node if name in node.input]

    def is_output(self, name: str) -> bool:
        """Whether a value is an output of the graph."""
        return any(value.name == name for value in self.graph.output)

    def shape(self, name: str) -> Shape:
        """Shape of an activation or a weight; empty when it is not known."""
        return tuple(self.weights[name].dims) if name in self.weights else self.shapes.get(name, ())

    def array(self, name: str) -> Array | None:
        """Elements of a small constant, else None."""
        tensor = self.weights.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)

    def name(self, stem: str) -> str:
        """Return a name that nothing in the graph has yet."""
        self._serial += 1
        return f"{stem}__{self._serial}"

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add a small initializer."""
        tensor = numpy_helper.from_array(np.asarray(values, dtype), self.name("constant"))
        self.graph.initializer.append(tensor)
        self.weights[tensor.name] = self.graph.initializer[-1]
        return tensor.name

    def weight(self, shape: Iterable[int], elements: Elements | None = None) -> str:
        """Add a weight of this shape, without bytes when large.

        ``elements`` says what it holds when the model is run; a weight that only has to differ from all others, in a
        mutant, is drawn then.
        """
        dims = tuple(int(size) for size in shape)
        if int(np.prod(dims)) <= EAGER:
            name = self.constant(np.random.default_rng(self._serial).uniform(0.5, 1.5, dims))
        else:
            name = self.name("weight")
            self.graph.initializer.append(absent(name, dims))
            self.weights[name] = self.graph.initializer[-1]
        if elements is not None:
            self.elements[name] = elements
        return name

    def node(
        self, op: str, inputs: list[str], output: str | None = None, shape: Shape | None = None, **attributes: Any
    ) -> onnx.NodeProto:
        """Make a node (not yet in the graph); its output has the shape given, when one is."""
        name = self.name(op)
        made = helper.make_node(op, inputs, [output or self.name("value")], name=name, **attributes)
        made.metadata_props.add(key=SOURCE, value=name)
        if shape is not None:
            self.shapes[made.output[0]] = shape
        return made

    def insert(self, before: onnx.NodeProto, *nodes: onnx.NodeProto) -> None:
        """Put nodes in front of another."""
        place = next(index for index, node in enumerate(self.graph.node) if node.name == before.name)
        for node in reversed(nodes):
            self.graph.node.insert(place, node)

    def replace(self, old: onnx.NodeProto, *nodes: onnx.NodeProto) -> None:
        """Put nodes in the place of one; the last must make what the old one made."""
        self.insert(old, *nodes)
        self.remove(old)

    def remove(self, node: onnx.NodeProto) -> None:
        """Take a node out, leaving its readers as they are."""
        del self.graph.node[next(index for index, other in enumerate(self.graph.node) if other.name == node.name)]

    def bypass(self, node: onnx.NodeProto) -> None:
        """Take a node out and let its readers read its first input."""
        self.remove(node)
        self.redirect(node.output[0], node.input[0])

    def redirect(self, old: str, new: str) -> None:
        """Let every reader of one value read another."""
        for node in self.graph.node:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def pasts(self) -> dict[str, str]:
        """Digest of what every value is computed from: operators, attributes and weight shapes, no names."""
        found: dict[str, str] = {}
        for node in self.graph.node:
            own = [node.op_type, *sorted(repr(attribute) for attribute in node.attribute)]
            own += [
                found.get(name) or (repr(self.shape(name)) if name in self.weights else name) for name in node.input
            ]
            for index, output in enumerate(node.output):
                found[output] = hashlib.sha256(f"{index}{own}".encode()).hexdigest()
        return found


def absent(name: str, dims: Shape) -> TensorProto:
    """Return a float32 tensor with a shape and no bytes."""
    tensor = TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "absent"), ("offset", "0"), ("length", str(4 * int(np.prod(dims))))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute, lists as lists."""
    for item in node.attribute:
        if item.name == name:
            value = helper.get_attribute_value(item)
            return list(value) if not isinstance(value, bytes | int | float) else value
    return default


def choose(rng: random.Random, nodes: list[onnx.NodeProto]) -> onnx.NodeProto | None:
    """Draw one of the nodes; None when there is none."""
    return rng.choice(nodes) if nodes else None


def window(draft: Draft, node: onnx.NodeProto) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, pads, strides and dilations of a convolution or pool, defaults written out."""
    kernel = attribute(node, "kernel_shape") or list(draft.shape(node.input[1])[2:])
    return (
        kernel,
        attribute(node, "pads") or [0] * (2 * len(kernel)),
        attribute(node, "strides") or [1] * len(kernel),
        attribute(node, "dilations") or [1] * len(kernel),
    )


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set or replace an attribute."""
    for index, item in enumerate(node.attribute):
        if item.name == name:
            del node.attribute[index]
            break
    node.attribute.append(helper.make_attribute(name, value))


def prepared(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with unique node names, which it reports as sources, and every shape inferred."""
    proto = copy.deepcopy(proto)
    for index, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{index}"
        del node.metadata_props[:]
        node.metadata_props.add(key=SOURCE, value=node.name)
    return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
