"""Input contracts applied to pictures: the one implementation that every zoo's pictures go through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from workers.engine.protocol import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.engine.contracts.contract import Contract

_GREY_RANK = 2
_RGB_SHAPE = (3,)

_KERNELS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def apply(contract: Contract, picture: NDArray[np.uint8] | Image.Image) -> NDArray[np.float32]:
    """Turn one picture into the network's input, without the batch axis.

    Args:
        contract: What to do.
        picture: uint8 array of shape (H, W), (H, W, 1) or (H, W, 3) in RGB order, or a PIL image.

    Returns:
        float32 array of shape (C, H, W) or (H, W, C), as the contract's layout says.

    Raises:
        UsageError: The picture is no 8-bit grey or RGB picture, or a contract without resize and crop gets a picture
            of another size.
    """
    image = _resize(contract, _coloured(contract, picture))
    if contract.crop is not None:
        image = _centre_crop(image, contract.crop, contract)
    if image.shape[:2] != (contract.height, contract.width):
        raise UsageError(
            "picture-size",
            f"The input contract takes pictures of {contract.width} x {contract.height} pixels and does not crop, but "
            f"this one has {image.shape[1]} x {image.shape[0]}; resize the pictures first or override the contract.",
        )
    # One float32 operation after the other, in the order in which torchvision, timm and Keras do them: folding the
    # three into one multiply-add would change last bits.
    values: NDArray[np.float32] = image.astype(np.float32)
    if contract.colour == "bgr":
        values = values[..., ::-1]
    # 255, 127.5: every zoo divides, and float32's reciprocal is another number.
    divisor = round(1 / contract.scale, 1)
    divides = divisor != 0 and 1 / divisor == contract.scale
    values = values / np.float32(divisor) if divides else values * np.float32(contract.scale)
    mean, std = np.array(contract.mean, np.float32), np.array(contract.std, np.float32)
    values = (values - mean) / std
    if contract.layout == "nchw":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values, dtype=np.float32)


def batch(contract: Contract, pictures: list[Any] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """Apply a contract to several pictures and stack them: float32 of ``contract.input_shape(len(pictures))``."""
    return np.stack([apply(contract, picture) for picture in pictures])


def _coloured(contract: Contract, picture: NDArray[np.uint8] | Image.Image) -> Image.Image:
    """Return the picture as PIL's ``L`` or ``RGB``, whichever the contract's colour needs."""
    if not isinstance(picture, Image.Image):
        array = np.asarray(picture)
        if array.shape[2:] == (1,):  # (H, W, C)
            array = array[..., 0]
        if array.dtype != np.uint8 or not (array.ndim == _GREY_RANK or array.shape[2:] == _RGB_SHAPE):
            raise UsageError(
                "picture-form",
                f"A picture must be uint8 of shape (H, W), (H, W, 1) or (H, W, 3), not {array.dtype} of shape "
                f"{array.shape}; convert it to 8-bit grey or RGB first.",
            )
        picture = Image.fromarray(array)
    # ITU-R 601-2 luma for grey, the same transform that torchvision's and Keras' grey readers use.
    return picture.convert("L" if contract.colour == "grey" else "RGB")


def _resize(contract: Contract, image: Image.Image) -> NDArray[np.uint8]:
    """Scale as the contract says; returns uint8 of shape (H, W, C)."""
    size = _target(contract, image.height, image.width)
    if size is not None and size != (image.height, image.width):
        if contract.antialias or contract.interpolation == "nearest":
            image = image.resize((size[1], size[0]), _KERNELS[contract.interpolation])
        elif contract.interpolation == "bilinear":
            image = _resize_plain(image, size)
        else:
            raise UsageError(
                "interpolation",
                f"An input contract without antialias may resize by nearest or bilinear, not by "
                f"{contract.interpolation}; set antialias or change the interpolation.",
            )
    array = np.asarray(image)
    return array[..., None] if array.ndim == _GREY_RANK else array  # grey has no channel axis


def _target(contract: Contract, height: int, width: int) -> tuple[int, int] | None:
    """Return the (height, width) to scale to.

    For an int the shorter side becomes that long and the longer is truncated, as in
    ``torchvision.transforms.functional._compute_resized_output_size``; ``cover`` and ``contain`` round both, as in
    ``timm.data.transforms.ResizeKeepRatio``, and leave no side without a pixel.
    """
    if contract.resize is None:
        return None
    if isinstance(contract.resize, int):
        short, long = sorted((height, width))
        longer = int(contract.resize * long / short)
        return (contract.resize, longer) if height <= width else (longer, contract.resize)
    if contract.fit == "stretch":
        return contract.resize
    ratios = (height / contract.resize[0], width / contract.resize[1])
    ratio = min(ratios) if contract.fit == "cover" else max(ratios)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _resize_plain(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale bilinearly with two taps a side and pixel centres at .5, rounding to the nearest integer.

    This is what ``tf.image.resize``, OpenCV and ``torch.nn.functional.interpolate`` do by default. PIL always
    antialiases when it shrinks, so it cannot be used.
    """
    pixels = np.asarray(image).astype(np.float64)
    for axis, wanted in enumerate(size):
        have = pixels.shape[axis]
        at = ((np.arange(wanted) + 0.5) * have / wanted - 0.5).clip(0, have - 1)
        low = np.floor(at).astype(int)
        weight = (at - low).reshape([-1 if side == axis else 1 for side in range(pixels.ndim)])
        upper = pixels.take(np.minimum(low + 1, have - 1), axis=axis)
        pixels = pixels.take(low, axis=axis) * (1 - weight) + upper * weight
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _centre_crop(image: NDArray[np.uint8], crop: tuple[int, int], contract: Contract) -> NDArray[np.uint8]:
    """Cut (height, width) from the centre of (H, W, C).

    A side that is too short is padded with the contract's ``fill`` first; the offset is half the difference, rounded
    half to even, as in ``torchvision.transforms.functional.center_crop``, or down, as ONNX's CenterCropPad does.
    """
    missing = [max(0, wanted - have) for wanted, have in zip(crop, image.shape[:2], strict=True)]
    if any(missing):
        height, width = image.shape[:2]
        padded = np.empty((height + missing[0], width + missing[1], image.shape[2]), np.uint8)
        padded[:] = contract.fill
        # The odd pixel goes to the end, again as in torchvision.
        top, left = missing[0] // 2, missing[1] // 2
        padded[top : top + height, left : left + width] = image
        image = padded
    differences = [have - wanted for have, wanted in zip(image.shape[:2], crop, strict=True)]
    if contract.crop_offset == "floor":
        top, left = (difference // 2 for difference in differences)
    else:
        top, left = (round(difference / 2.0) for difference in differences)
    return image[top : top + crop[0], left : left + crop[1]]
