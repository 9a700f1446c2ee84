"""Pixels as the kernels fill them, one after the other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Pixels(NamedTuple):
    """What is known of every pixel of T images, as a structure of arrays.

    By :func:`trace`: depth ``[T, H, W]`` z-depth, 0 = none; normal ``[T, H, W, 3]`` world axes; surface, cell and
    mover ``[T, H, W]``, -1 = none. By :func:`light`: lit ``[T, H, W, 3]`` the light that falls there, linear;
    material ``[T, H, W]``, a row of the scene's surfaces; place ``[T, H, W, 5]`` u, v on the surface, their
    extents, the pixel's width there. By :func:`paint`: rgb ``[T, H, W, 3]`` sRGB in 0..1.
    """

    depth: NDArray[np.float32]
    normal: NDArray[np.float32]
    surface: NDArray[np.int32]
    cell: NDArray[np.int32]
    mover: NDArray[np.int32]
    lit: NDArray[np.float32]
    material: NDArray[np.int32]
    place: NDArray[np.float32]
    rgb: NDArray[np.float32]


def blank(images: int, height: int, width: int) -> Pixels:
    """Pixels that show nothing yet."""

    def real(*last: int) -> NDArray[np.float32]:
        return np.zeros((images, height, width, *last), np.float32)

    def index() -> NDArray[np.int32]:
        return np.full((images, height, width), -1, np.int32)

    return Pixels(real(), real(3), index(), index(), index(), real(3), index(), real(5), real(3))
