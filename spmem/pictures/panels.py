"""Tensors as images of bytes ``[H, W, 3]``: colour, depth, normals, coverage and errors."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.uint8]

NONE = (38, 41, 47)
"""Where there is nothing to show."""
UNKNOWN = (244, 132, 52)
"""The stripes over what memory does not cover."""


def rgb_image(rgb: Tensor) -> Image:
    """Colour, uint8 or float in [0, 1]."""
    array = rgb.detach().cpu().numpy()
    return array if array.dtype == np.uint8 else _to_uint8(array)


def depth_image(depth: Float[Tensor, "h w"], near: float, far: float) -> Image:
    """z-depth from ``near`` (warm) to ``far`` (cold), evenly in 1 / depth, as eyes tell it."""
    z = depth.detach().cpu().numpy()
    share = (1 / z.clip(min=near) - 1 / far) / max(1 / near - 1 / far, 1e-12)
    return np.where(
        (z > 0)[..., None], _to_uint8(colormaps["turbo"](share)[..., :3]), _fill_none_colour(z)
    )


def normal_image(normal: Float[Tensor, "h w 3"]) -> Image:
    """Unit normals, each axis from -1 to 1 as a colour from 0 to 255."""
    n = normal.detach().cpu().numpy()
    there = (n != 0).any(-1)
    return np.where(there[..., None], _to_uint8((n + 1) / 2), _fill_none_colour(there))


def coverage_image(rgb: Tensor, mask: Bool[Tensor, "h w"], *, colour: bool = False) -> Image:
    """What memory covers, in grey (or its ``colour``); stripes over what it does not."""
    image, covered = rgb_image(rgb), mask.cpu().numpy()
    if not colour:
        grey = image @ np.array([0.299, 0.587, 0.114])
        image = (70 + 0.6 * grey[..., None]).repeat(3, -1).astype(np.uint8)
    y, x = np.indices(covered.shape)
    stripe = (x + y) * 24 // max(covered.shape) % 2 == 0
    unknown = np.where(stripe[..., None], np.array(UNKNOWN, np.uint8), _fill_none_colour(covered))
    return np.where(covered[..., None], image, unknown)


def error_image(error: Float[Tensor, "h w"], ceiling: float) -> Image:
    """An error from 0 to ``ceiling``; NaN means no value."""
    e = error.cpu().numpy()
    colour = _to_uint8(colormaps["magma"](np.nan_to_num(e) / ceiling)[..., :3])
    return np.where(np.isnan(e)[..., None], _fill_none_colour(e), colour)


def _to_uint8(values: NDArray[np.floating]) -> Image:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)


def _fill_none_colour(like: NDArray[np.generic]) -> Image:
    return np.broadcast_to(np.array(NONE, np.uint8), (*like.shape, 3))
