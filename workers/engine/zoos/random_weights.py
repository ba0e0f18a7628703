"""Seeded random weights behind ``@none``: the same rule for every zoo.

What a library would draw at random is drawn here from one generator instead: uniform with variance gain / fan-in, and
small uniform values for vectors. The gain is 1 (LeCun et al., Efficient BackProp, 1998, section 4.6), because He's 2
doubles the variance with each residual block, which saturates a ResNet's softmax; it is He's 2 for networks of swish
and hard-swish, which pass a quarter of the variance of small values where ReLU passes half, and would die out. What a
library sets to a constant stays: batch-norm remains the identity, zero biases remain zero, layer scales keep their
value.

Libraries spend most of a construction on their own random draws, which are thrown away here: they are intercepted and
skipped, which makes building a VGG-19 several times faster.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from workers.engine.zoos.base import SEED
from workers.engine.zoos.replaced import replaced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_VECTOR_LIMIT = 0.001
"""Half width of the range of random vectors (biases), which have no fan-in: small beside any signal."""

_SWISH = frozenset({"silu", "swish", "hardswish", "hard_swish", "hard_silu"})

DRAWS_IN_PLACE = frozenset({"uniform_", "normal_", "trunc_normal_", "exponential_", "bernoulli_"})
DRAWS_IN_INIT = frozenset(
    {
        "uniform_",
        "normal_",
        "trunc_normal_",
        "kaiming_uniform_",
        "kaiming_normal_",
        "xavier_uniform_",
        "xavier_normal_",
        "orthogonal_",
    }
)


class _SkipDraws(TorchFunctionMode):
    """Skips random draws into existing tensors and remembers which storage they were for."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: set[int] = set()
        # Kept alive: the address of a freed tensor could be given to one that must not be filled.
        self._kept: list[torch.UntypedStorage] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        in_init = getattr(func, "__module__", "") == "torch.nn.init" and name in DRAWS_IN_INIT
        if in_init or name in DRAWS_IN_PLACE:
            return self.skip(args[0] if args else kwargs["tensor"])
        return func(*args, **kwargs)

    def skip(self, tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Stand in for a draw: zeros, so that no library code meets uninitialised memory."""
        storage = tensor.untyped_storage()
        self._kept.append(storage)
        self.drawn.add(storage.data_ptr())
        with torch.no_grad():
            return tensor.zero_()


@contextmanager
def skipped_draws() -> Iterator[set[int]]:
    """Skip random initialisation of torch modules built inside; yields the storage addresses it was meant for.

    The modules must be given values afterwards, by ``fill`` or by loading every tensor.
    """
    mode = _SkipDraws()
    # torch draws truncated normals by rejection, in a loop that would not end on constant values.
    rejection = "_no_grad_trunc_normal_"
    with torch.random.fork_rng(devices=[]), replaced(torch.nn.init, rejection, mode.skip), mode:
        # Draws that create a tensor of their own (torch.randn) are few and small; they get a seed.
        torch.manual_seed(SEED)
        yield mode.drawn


def fill(module: torch.nn.Module, drawn: set[int]) -> None:
    """Give the tensors whose draw was skipped their seeded values, in the order of the state.

    Weights of ``torch`` modules have the output first: fan-in is the product of all other axes.
    """
    generator = torch.Generator().manual_seed(SEED)
    scale = gain(type(part).__name__ for part in module.modules())
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point() and tensor.untyped_storage().data_ptr() in drawn:
                draw(tensor, math.prod(tensor.shape[1:]) / scale if tensor.ndim > 1 else None, generator)


def gain(activations: Iterable[str]) -> float:
    """Return the gain for a network by the names of its activations (others among them do no harm)."""
    return 2.0 if any(name.lower() in _SWISH for name in activations) else 1.0


def draw(tensor: torch.Tensor, fan_in: float | None, generator: torch.Generator) -> None:
    """Fill one tensor in place: variance 1 / ``fan_in`` (already divided by the gain), or a small range when None."""
    limit = _VECTOR_LIMIT if fan_in is None else math.sqrt(3.0 / fan_in)
    tensor.uniform_(-limit, limit, generator=generator)
