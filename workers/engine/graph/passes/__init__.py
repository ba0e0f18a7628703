"""The fixed list of passes that gives every model its canonical form, in the order in which they run.

Each pass takes a model (``onnx_ir.Model``, inference mode, static shapes), changes it in place without changing what it
computes, and returns how many places it changed; 0 on a model in canonical form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.engine.graph.passes import (
    activations,
    arithmetic,
    batch_norm,
    constants,
    inference,
    inferring,
    layout,
    linear,
    normalisation,
    pooling,
    products,
    shapes,
    slices,
    views,
)
from workers.engine.graph.passes import rewriting as rw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx_ir as ir

    Pass = Callable[[ir.Model], int]

PREPARE: Sequence[Pass] = (
    constants.constants_to_initializers,
    linear.drop_export_bias,
    constants.fold_shapes,
    shapes.split_sequences,
)
"""What must be known before shapes can be inferred."""

STANDARD: Sequence[Pass] = (
    batch_norm.recognise_batch_norm,
    constants.fold_arithmetic,
    normalisation.layer_norm,
    normalisation.layer_norm_of_vector,
    inference.remove_no_ops,
    inference.sum_to_add,
    pooling.explicit_pads,
    pooling.merge_pad,
    layout.channels_first_input,
    # Once before: steps become one transpose before any of them is moved alone.
    layout.cancel_transposes,
    layout.push_transposes,
    layout.cancel_transposes,
    pooling.global_pool,
    shapes.gather_in_order,
    shapes.equal_parts,
    shapes.keep_reduced_axes,
    slices.explicit_slice,
    slices.crop_pad,
    slices.merge_patches,
    shapes.push_reshape,
    slices.take_one,
    shapes.one_reshape,
    shapes.push_token_reshape,
    views.one_view_chain,
    shapes.flatten_concat,
    shapes.split_to_slices,
    shapes.gather_to_slice,
    products.einsum_to_matmul,
    linear.bias_into_conv,
    batch_norm.merge_scale_chain,
    linear.matmul_to_gemm,
    linear.normalise_gemm,
    linear.gemm_on_tokens,
    linear.conv_head_to_gemm,
    arithmetic.broadcast_operand,
    arithmetic.square,
    arithmetic.reciprocal_factor,
    arithmetic.mean_of_sum,
    activations.clip_spellings,
    activations.sigmoid,
    activations.hard_sigmoid,
    activations.hard_swish,
    activations.gelu,
    activations.gelu_tanh,
    normalisation.scalar_factors,
)
"""One spelling for everything; the published parameters stay as they are, so that they can be counted."""

EXPORT: Sequence[Pass] = (
    batch_norm.recognise_batch_norm,
    inference.remove_no_ops,
    layout.push_transposes,
    layout.cancel_transposes,
)
"""What an exported file needs so that a runtime sees the layers that the model has."""

FOLD: Sequence[Pass] = (batch_norm.fold_batch_norm, arithmetic.negative_terms, products.divide_product)
"""What merges published parameters; runs after the counter."""

MAX_ROUNDS = 64
"""Rounds after which a list of passes must have reached its fixed point; a transpose moves several steps a round."""


def prepare(model: ir.Model) -> None:
    """Fold what depends on shapes and constants, and infer every static shape."""
    for _ in range(MAX_ROUNDS):
        changed = sum(apply(model) for apply in PREPARE)
        rw.sweep(model)
        if not inferring.infer_shapes(model) and changed == 0:
            return


def run(model: ir.Model, passes: Sequence[Pass]) -> int:
    """Run the passes, in order, round after round until none changes anything; return how many changes were made."""
    total = 0
    for _ in range(MAX_ROUNDS):
        changed = 0
        for apply in passes:
            here = apply(model)
            if here:
                rw.sweep(model)
            changed += here
        total += changed
        if changed == 0:
            break
    return total
