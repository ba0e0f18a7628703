"""What the models are fed: seeded arrays, or encoded pictures that go through a listing's input contract."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from workers.engine.contracts import apply

if TYPE_CHECKING:
    import numpy.typing as npt

    from workers.engine.contracts.contract import Contract

PICTURE = (375, 500)
"""Height and width of the pictures: the size most common in ImageNet's validation set."""

NO_CONTRACT = "it has no documented input contract, so nothing says what to do from the picture to its input"
"""Why a listing has no ``end_to_end``."""

_QUALITY = 90
_COARSE = (24, 32)
_GRAIN = 8.0


def random_input(shape: tuple[int, ...], dtype: str, seed: int) -> npt.NDArray[Any]:
    """Seeded input of ``shape``: standard normal values, or bytes for ``uint8``."""
    rng = np.random.default_rng((seed, *shape))
    if dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.standard_normal(shape, dtype=np.float32).astype(dtype)


def jpeg(contract: Contract, seed: int) -> bytes:
    """Return a seeded picture as JPEG: soft shapes under grain, so that it compresses about as a photograph does.

    It has ``PICTURE``'s size, or that of the network's input where the contract neither resizes nor crops.
    """
    fixed = contract.resize is None and contract.crop is None
    height, width = (contract.height, contract.width) if fixed else PICTURE
    rng = np.random.default_rng((seed, height, width))
    shapes = Image.fromarray(rng.integers(0, 256, (*_COARSE, 3), dtype=np.uint8))
    pixels = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    grain = rng.normal(0, _GRAIN, (height, width, 1)).astype(np.float32)
    encoded = io.BytesIO()
    Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=_QUALITY)
    return encoded.getvalue()


def prepared(contract: Contract, encoded: bytes, batch: int) -> npt.NDArray[np.float32]:
    """Decode and prepare a picture ``batch`` times, one after the other, as a server does with a batch of pictures."""
    return apply.batch(contract, [Image.open(io.BytesIO(encoded)) for _ in range(batch)])
