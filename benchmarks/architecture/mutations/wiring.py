"""Changes of who reads what, with every operator as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from architecture.draft import Draft, choose

if TYPE_CHECKING:
    import random

    from architecture.draft import Mutator


def _rewired(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """One operand of a sum, product or concatenation taken from an earlier value of the same shape."""
    node = choose(rng, [node for node in draft.of("Add", "Concat", "Mul") if len(node.input) > 1])
    if node is None:
        return None
    place = rng.randrange(len(node.input))
    old = node.input[place]
    if old in draft.weights or len(draft.users(old)) < 2 or draft.producer(old) is None:
        return None
    pasts = draft.pasts()
    earlier: list[str] = []
    for other in draft.nodes:
        if other.name == node.name:
            break
        earlier += [name for name in other.output if draft.shape(name) == draft.shape(old)]
    # Behind the convolution of a batch-norm there is no layer's result.
    choices = [
        name
        for name in earlier
        if pasts[name] != pasts[old]
        and name not in node.input
        and not any(user.op_type == "BatchNormalization" for user in draft.users(name))
        and draft.producer(name).op_type in ("Add", "Relu", "Concat", "HardSwish", "Gelu", "MaxPool", "Conv")  # type: ignore[union-attr]
    ]
    if not choices:
        return None
    node.input[place] = rng.choice(choices)
    return (node.name,)


def _swapped(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Two branches of a concatenation in the other order."""
    node = choose(rng, [node for node in draft.of("Concat") if len(node.input) > 1])
    if node is None:
        return None
    first = rng.randrange(len(node.input) - 1)
    pasts = draft.pasts()
    left, right = node.input[first], node.input[first + 1]
    if pasts.get(left) == pasts.get(right) or left in draft.weights or right in draft.weights:
        return None
    node.input[first], node.input[first + 1] = right, left
    return (node.name,)


def _skip(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """A residual sum without its shortcut: the branch alone goes on."""
    sums = [node for node in draft.of("Add") if not any(name in draft.weights for name in node.input)]
    node = choose(rng, sums)
    if node is None or draft.is_output(node.output[0]):
        return None
    made_at = {name: place for place, other in enumerate(draft.nodes) for name in other.output}
    shortcut = min(node.input, key=lambda name: made_at.get(name, -1))
    maker = draft.producer(shortcut)
    if len(draft.users(shortcut)) < 2 or maker is None or maker.op_type == "BatchNormalization":
        return None  # a shortcut with layers of its own would go with them
    branch = next(name for name in node.input if name != shortcut)
    draft.remove(node)
    draft.redirect(node.output[0], branch)
    return (node.name,)


def _norm_placement(draft: Draft, rng: random.Random) -> tuple[str, ...] | None:
    """Post-norm for pre-norm: a block's normalisation moved from its beginning behind its residual sum."""
    choices = []
    for norm in draft.of("LayerNormalization"):
        sums = [user for user in draft.users(norm.input[0]) if user.op_type == "Add"]
        if len(sums) == 1 and len(draft.users(norm.input[0])) == 2 and not draft.is_output(sums[0].output[0]):
            choices.append((norm, sums[0]))
    if not choices:
        return None
    norm, total = rng.choice(choices)
    draft.redirect(norm.output[0], norm.input[0])
    moved = draft.node(norm.op_type, [draft.name("value"), *norm.input[1:]], total.output[0])
    moved.attribute.extend(norm.attribute)
    total.output[0] = moved.input[0]
    readers = draft.users(moved.output[0])
    draft.insert(readers[0], moved)
    draft.remove(norm)
    return norm.name, moved.name


WIRING: dict[str, Mutator] = {
    "rewired": _rewired,
    "swapped": _swapped,
    "skip": _skip,
    "norm_placement": _norm_placement,
}
"""Kinds by name."""
