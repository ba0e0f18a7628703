"""Reshaping: one spelling for Flatten, Reshape, Squeeze and Unsqueeze."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from workers.engine.graph.passes import rewriting as rw
from workers.engine.graph.passes.layout import moves_only_ones

_VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
_ACTIVATIONS = ("Relu", "Sigmoid", "Tanh", "Clip", "HardSwish", "Gelu", "LeakyRelu")


def one_reshape(model: ir.Model) -> int:
    """Write each run of views as one Flatten (to [batch, features]) or one Reshape to a literal shape."""
    changed = 0
    for node in rw.nodes(model, *_VIEWS, "Transpose"):
        source, shape = node.inputs[0], rw.shape_of(node.outputs[0])
        if node.op_type == "Transpose" and (len(shape or ()) != 3 or _moving_ones(node.outputs[0]) is None):  # noqa: PLR2004
            continue  # of four axes it may be a picture's layout, which other passes move
        before = rw.producer(source, *_VIEWS) or _moving_ones(source)
        if before is not None:
            source = before.inputs[0]
        start = rw.shape_of(source)
        if shape is None or start is None or source is None or not (node.outputs[0].uses() or _is_output(node)):
            continue
        if start == shape and not node.outputs[0].is_graph_output():
            rw.replace(node.outputs[0], source)
            changed += 1
            continue
        flat = len(shape) == 2 and shape[0] == start[0]  # noqa: PLR2004  (batch, features)
        if before is None and _already(node, shape, flat=flat):
            continue
        if flat:
            output = rw.new_node(node, "Flatten", [source], {"axis": 1}, shape=shape, merged=[node])
        else:
            target = rw.add_constant(model.graph, np.asarray(shape, np.int64), "shape")
            output = rw.new_node(node, "Reshape", [source, target], shape=shape, merged=[node])
        rw.replace(node.outputs[0], output)
        changed += 1
    return changed


def _moving_ones(value: ir.Value | None) -> ir.Node | None:
    """The Transpose that makes a value, when it moves axes of size 1 alone: the elements keep their order."""
    node = rw.producer(value, "Transpose")
    order = rw.attribute(node, "perm") if node is not None else None
    return node if node is not None and order and moves_only_ones(order, rw.shape_of(node.inputs[0])) else None


def _is_output(node: ir.Node) -> bool:
    return node.outputs[0].is_graph_output()


def _already(node: ir.Node, shape: tuple[int, ...], *, flat: bool) -> bool:
    if flat:
        return node.op_type == "Flatten" and rw.attribute(node, "axis", 1) == 1
    target = rw.constant(node.inputs[1]) if node.op_type == "Reshape" else None
    return target is not None and tuple(int(size) for size in target) == shape and not node.attributes


def push_reshape(model: ir.Model) -> int:
    """Move the Reshape from [batch, features] to [batch, features, 1, 1] behind an element-wise activation."""
    changed = 0
    for node in rw.nodes(model, *_ACTIVATIONS):
        view = rw.producer(node.inputs[0], "Reshape")
        flat = rw.shape_of(view.inputs[0]) if view is not None else None
        shape = rw.shape_of(node.outputs[0])
        if view is None or flat is None or shape is None or len(flat) != 2 or shape[:2] != flat:  # noqa: PLR2004
            continue
        inputs = [view.inputs[0], *node.inputs[1:]]
        moved = rw.new_node(node, node.op_type, inputs, dict(node.attributes), shape=flat, merged=[node])
        rw.replace(node.outputs[0], rw.new_node(node, "Reshape", [moved, view.inputs[1]], shape=shape))
        changed += 1
    return changed


def push_token_reshape(model: ir.Model) -> int:
    """Move a Reshape that joins the axes before the last one behind what treats every vector along that axis alike.

    Tokens of a picture are rows and columns in one model, one long axis in another, for layer normalisation, dense
    layers, activations and sums between them.
    """
    changed = 0
    for node in rw.nodes(model, "LayerNormalization", "MatMul", *_ACTIVATIONS, "Add", "Mul"):
        shape = rw.shape_of(node.outputs[0])
        views = [_token_view(value) for value in node.inputs]
        found = [view for view in views if view is not None]
        before = {rw.shape_of(view.inputs[0]) for view in found}
        if shape is None or len(before) != 1 or not _along_last_axis(node, views):
            continue
        tokens = before.pop() or ()
        inputs = [value if view is None else view.inputs[0] for value, view in zip(node.inputs, views, strict=True)]
        moved = rw.new_node(
            node, node.op_type, inputs, dict(node.attributes), shape=(*tokens[:-1], shape[-1]), merged=[node]
        )
        if node.op_type == "LayerNormalization":
            moved.producer().attributes["axis"] = ir.AttrInt64("axis", -1)
        target = rw.add_constant(model.graph, np.asarray(shape, np.int64), "shape")
        rw.replace(node.outputs[0], rw.new_node(node, "Reshape", [moved, target], shape=shape))
        changed += 1
    return changed


def _token_view(value: ir.Value | None) -> ir.Node | None:
    """The Reshape that makes a value, when it keeps the last axis and changes the tokens before it."""
    view = rw.producer(value, "Reshape")
    before, after = (rw.shape_of(view.inputs[0]), rw.shape_of(value)) if view is not None else (None, None)
    if before is None or after is None or min(len(before), len(after)) < 3:  # noqa: PLR2004  (batch, tokens, channels)
        return None
    if before[-1] != after[-1] or after[-1] == 1:
        return None
    flattens = len(before) > len(after) and before[0] == after[0]
    # One picture's tokens as the first axis: attention as torch.nn.MultiheadAttention wants its input.
    return view if flattens or (len(before) == len(after) and before[0] == 1 < after[0]) else None


def _along_last_axis(node: ir.Node, views: list[ir.Node | None]) -> bool:
    """Whether a node does the same with each vector along the last axis of its views."""
    after = {rw.shape_of(view.outputs[0]) for view in views if view is not None}
    if len(after) != 1:
        return False
    shape = after.pop() or ()
    if node.op_type == "LayerNormalization":
        return views[0] is not None and rw.attribute(node, "axis", -1) % len(shape) == len(shape) - 1
    if node.op_type == "MatMul":
        return views[0] is not None and len(rw.shape_of(node.inputs[1]) or ()) == 2 and rw.is_constant(node.inputs[1])  # noqa: PLR2004
    if node.op_type in _ACTIVATIONS:
        return views[0] is not None
    return all(view is not None or _is_vector(value, shape) for value, view in zip(node.inputs, views, strict=True))


def _is_vector(value: ir.Value | None, shape: tuple[int, ...]) -> bool:
    """Whether a constant varies along the last axis alone."""
    own = rw.shape_of(value)
    if own is None or not rw.is_constant(value) or len(own) > len(shape):
        return False
    return all(size == 1 for size in own[:-1]) and (not own or own[-1] in (1, shape[-1]))


def keep_reduced_axes(model: ir.Model) -> int:
    """Write a mean or maximum that drops the axes it reduces as one that keeps them, and a view."""
    changed = 0
    for node in rw.nodes(model, "ReduceMean", "ReduceMax"):
        before, shape = rw.shape_of(node.inputs[0]), rw.shape_of(node.outputs[0])
        axes = rw.constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if rw.attribute(node, "keepdims", 1) or before is None or shape is None or axes is None:
            continue
        reduced = {int(axis) % len(before) for axis in axes.reshape(-1)}
        kept = tuple(1 if axis in reduced else size for axis, size in enumerate(before))
        value = rw.new_node(node, node.op_type, node.inputs, {"keepdims": 1}, shape=kept, merged=[node])
        target = rw.add_constant(model.graph, np.asarray(shape, np.int64), "shape")
        rw.replace(node.outputs[0], rw.new_node(node, "Reshape", [value, target], shape=shape))
        changed += 1
    return changed


def flatten_concat(model: ir.Model) -> int:
    """Write a Concat of Concats along one axis as one Concat (DenseNet grows its features either way)."""
    changed = 0
    for node in rw.nodes(model, "Concat"):
        axis, shape = rw.attribute(node, "axis"), rw.shape_of(node.outputs[0])
        if shape is None:
            continue
        inputs: list[ir.Value | None] = []
        for value in node.inputs:
            inner = rw.producer(value, "Concat")
            same = inner is not None and rw.attribute(inner, "axis") % len(shape) == axis % len(shape)
            inputs.extend(inner.inputs if inner is not None and same else [value])
        if len(inputs) == len(node.inputs):
            continue
        output = rw.new_node(node, "Concat", inputs, {"axis": axis % len(shape)}, shape=shape, merged=[node])
        rw.replace(node.outputs[0], output)
        changed += 1
    return changed


def equal_parts(model: ir.Model) -> int:
    """Write a Split whose sizes are those of n equal parts, the last of them perhaps smaller, by n alone."""
    changed = 0
    for node in rw.nodes(model, "Split"):
        sizes = rw.constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if sizes is None or len(sizes) != len(node.outputs):
            continue
        size, count = -(-int(sizes.sum()) // len(sizes)), len(sizes)
        if any(int(each) != size for each in sizes[:-1]) or not 0 < sizes[-1] <= size:
            continue
        node.resize_inputs(1)
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", count)
        changed += 1
    return changed


def gather_in_order(model: ir.Model) -> int:
    """Write a Gather of all elements of a flat value, in order, as a Reshape (a contiguous ``as_strided``)."""
    changed = 0
    for node in rw.nodes(model, "Gather"):
        source, shape = rw.shape_of(node.inputs[0]), rw.shape_of(node.outputs[0])
        places = rw.constant(node.inputs[1])
        if source is None or shape is None or places is None or len(source) != 1 or rw.is_constant(node.inputs[0]):
            continue
        if places.size != source[0] or not np.array_equal(places.reshape(-1), np.arange(source[0])):
            continue
        target = rw.add_constant(model.graph, np.asarray(shape, np.int64), "shape")
        output = rw.new_node(node, "Reshape", [node.inputs[0], target], shape=shape, merged=[node])
        rw.replace(node.outputs[0], output)
        changed += 1
    return changed


def split_sequences(model: ir.Model) -> int:
    """Write a SplitToSequence of known sizes, each part taken by SequenceAt, as one Split."""
    changed = 0
    for node in rw.nodes(model, "SplitToSequence"):
        sizes = _part_sizes(node)
        readers = [use.node for use in node.outputs[0].uses()]
        places = [_place(reader) for reader in readers]
        if sizes is None or node.outputs[0].is_graph_output() or node.graph is None:
            continue
        if any(place is None or not -len(sizes) <= place < len(sizes) for place in places):
            continue
        axis = rw.attribute(node, "axis", 0)
        given = rw.add_constant(node.graph, np.asarray(sizes, np.int64), "sizes")
        split = ir.node("Split", [node.inputs[0], given], attributes={"axis": axis}, num_outputs=len(sizes))
        rw.absorb(split, node)
        split.metadata_props.update(node.metadata_props)  # this pass runs before names are given
        node.graph.insert_before(node, split)
        for reader, place in zip(readers, places, strict=True):
            part = split.outputs[place]
            part.dtype = reader.outputs[0].dtype
            rw.replace(reader.outputs[0], part)
            node.graph.remove(reader, safe=True)
        changed += 1
    return changed


def _part_sizes(node: ir.Node) -> list[int] | None:
    """Sizes of the parts of a SplitToSequence along its axis; a single number means parts of that size and a rest."""
    given, shape = (rw.constant(node.inputs[1]) if len(node.inputs) > 1 else None), rw.shape_of(node.inputs[0])
    if given is None or given.ndim > 0:
        return None if given is None else [int(size) for size in given]
    if shape is None or int(given) < 1:
        return None
    size, whole = int(given), shape[rw.attribute(node, "axis", 0)]
    return [min(size, whole - start) for start in range(0, whole, size)]


def _place(reader: ir.Node) -> int | None:
    """The position that a SequenceAt takes; None for other operators."""
    if reader.domain != "" or reader.op_type != "SequenceAt":
        return None
    place = rw.constant(reader.inputs[1])
    return None if place is None else int(place.reshape(()))


def split_to_slices(model: ir.Model) -> int:
    """Write a Split as one Slice for each part that is read."""
    changed = 0
    for node in rw.nodes(model, "Split"):
        whole, parts = rw.shape_of(node.inputs[0]), [rw.shape_of(output) for output in node.outputs]
        if whole is None or any(part is None for part in parts) or any(out.is_graph_output() for out in node.outputs):
            continue
        axis, start = rw.attribute(node, "axis", 0) % len(whole), 0
        for output, part in zip(node.outputs, parts, strict=True):
            size = (part or whole)[axis]
            if output.uses():
                bounds = [
                    rw.add_constant(model.graph, np.asarray([number], np.int64), name)
                    for number, name in ((start, "start"), (start + size, "end"), (axis, "axis"))
                ]
                merged = [node] if start == 0 else []
                rw.replace(output, rw.new_node(node, "Slice", [node.inputs[0], *bounds], shape=part, merged=merged))
            start += size
        changed += 1
    return changed


def gather_to_slice(model: ir.Model) -> int:
    """Write a Gather of elements that follow each other as a Slice; a Gather that drops its axis stays."""
    changed = 0
    for node in rw.nodes(model, "Gather"):
        places, whole = rw.constant(node.inputs[1]), rw.shape_of(node.inputs[0])
        shape = rw.shape_of(node.outputs[0])
        if places is None or places.ndim != 1 or not places.size or whole is None or rw.is_constant(node.inputs[0]):
            continue
        axis = rw.attribute(node, "axis", 0) % len(whole)
        start = int(places[0]) % whole[axis]
        if not np.array_equal(places % whole[axis], np.arange(start, start + places.size)):
            continue
        bounds = [
            rw.add_constant(model.graph, np.asarray([number], np.int64), name)
            for number, name in ((start, "start"), (start + places.size, "end"), (axis, "axis"))
        ]
        part = rw.new_node(node, "Slice", [node.inputs[0], *bounds], shape=shape, merged=[node])
        rw.replace(node.outputs[0], part)
        changed += 1
    return changed
