"""Building torch modules whose large parameters exist as shapes only: 7 billion of them cost nothing.

Every large floating-point tensor that a constructor creates becomes a fake tensor: shape, type and device, no memory
(``torch._subclasses.FakeTensor``, the tensors that ``torch.export`` itself traces with). Small ones are real, because
their elements may be part of the architecture (a one-element scale, a table of bounds), and so are integers: index
tables (Swin's relative positions) are part of the architecture at any size.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.overrides import TorchFunctionMode

from workers.engine.zoos.random_weights import DRAWS_IN_INIT, DRAWS_IN_PLACE, skipped_draws
from workers.engine.zoos.replaced import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REAL_ELEMENTS = 4096
"""Tensors up to this many elements are real: what the graph's passes may look into (``rewriting.EAGER_ELEMENTS``)."""

_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.randn, torch.rand})


class _Absent(TorchFunctionMode):
    """Creates large floating-point tensors without memory; skips random draws into them."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self._fake = fake

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES and _is_large(args, kwargs):
            with self._fake:
                return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        in_init = getattr(func, "__module__", "") == "torch.nn.init" and name in DRAWS_IN_INIT
        if in_init or name in DRAWS_IN_PLACE:
            target = args[0] if args else kwargs["tensor"]
            if isinstance(target, FakeTensor):
                return target
        return func(*args, **kwargs)


def _is_large(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a factory is asked for more than ``REAL_ELEMENTS`` floating-point elements."""
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    size = kwargs.get("size", args[0] if args and not isinstance(args[0], int) else args)
    return bool(dtype.is_floating_point) and math.prod(size) > REAL_ELEMENTS


@contextmanager
def absent_weights() -> Iterator[FakeTensorMode]:
    """Build torch modules inside with absent large parameters; yields the mode that their fake tensors belong to.

    Random initialisation is skipped: real tensors that a library would draw at random are zeros.
    """
    fake = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    with skipped_draws():
        skip = torch.nn.init._no_grad_trunc_normal_  # draws by rejection; skipped_draws replaced it

        def truncated(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            return tensor if isinstance(tensor, FakeTensor) else skip(tensor, *args, **kwargs)

        with replaced(torch.nn.init, "_no_grad_trunc_normal_", truncated), _Absent(fake):
            yield fake


def build_absent(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """Run a constructor with absent weights; eval mode."""
    with absent_weights():
        module = build()
    module.eval()
    return module


def fake_mode(module: torch.nn.Module) -> FakeTensorMode | None:
    """Return the mode that a module's absent tensors belong to, or None when all of them are real."""
    for tensor in (*module.parameters(), *module.buffers()):
        if isinstance(tensor, FakeTensor):
            return tensor.fake_mode
    return None
