"""Pictures as files hold them: which decoders are tried, how large one may be, and how its failure is told."""

from __future__ import annotations

import io
import math

from PIL import Image

from workers.engine.protocol import UsageError

FORMATS = {
    ".bmp": "BMP",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".pgm": "PPM",
    ".png": "PNG",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""File endings that count as pictures in a folder, and the only decoders that are tried on any picture."""

MOST_BYTES = 256 * 1024**2
"""Largest picture, as stored: several times what PIL agrees to decode."""

ENCODED = "files"
"""What the digest of a data set of encoded pictures begins with, whatever holds them."""


def decode(raw: bytes, where: str) -> Image.Image:
    """Decode one picture; raises UsageError that begins with ``where``."""
    try:
        image = Image.open(io.BytesIO(raw), formats=sorted(set(FORMATS.values())))
        _check_pixels(image)
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(
            "picture-broken",
            f"{where} cannot be decoded as a picture ({error}); it may be truncated: replace it or remove it.",
        ) from error
    return image


def _check_pixels(image: Image.Image) -> None:
    # PIL only warns of these, and filters for warnings are shared by all threads.
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels could be a bomb")


def check_size(size: int, where: str) -> None:
    """Raise UsageError for a picture that nobody can have meant, before its bytes are read."""
    if not 0 < size <= MOST_BYTES:
        raise UsageError(
            "picture-size",
            f"{where} has {size:,} bytes; a picture has at least one and at most {MOST_BYTES:,}: replace it or remove "
            "it.",
        )


def raw_encoding(shape: tuple[int, ...]) -> str:
    """Return what the digest of a data set of raw uint8 pictures of one shape begins with."""
    return "uint8 " + "x".join(map(str, shape))
