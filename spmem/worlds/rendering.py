"""Rendering: the three kernels, run over bands of rows by all threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.worlds.light import light
from spmem.worlds.patterns import paint
from spmem.worlds.pixels import Pixels, blank
from spmem.worlds.scene import Scene
from spmem.worlds.trace import trace

AT_ONCE = 1 << 19
"""Rays in memory at once, 76 bytes each."""

Images = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]


def render(
    scene: Scene,
    poses: NDArray[np.float64],
    K: NDArray[np.float64],
    c2w: NDArray[np.float64],
    width: int,
    height: int,
    samples: int,
) -> Images:
    """See a scene: rgb ``[T, H, W, 3]``, depth ``[T, H, W]``, normal ``[T, H, W, 3]``, instance ``[T, H, W]``.

    The kernels are free of the GIL, and threads share the rows.

    Args:
        scene: The world.
        poses: ``[T, M, 5]`` of what moves.
        K: ``[T, 3, 3]`` in pixels.
        c2w: ``[T, 4, 4]``.
        width: In pixels.
        height: In pixels.
        samples: Rays a pixel side, odd; all but rgb are the middle one's.
    """
    out = (
        np.zeros((len(K), height, width, 3), np.uint8),
        np.zeros((len(K), height, width), np.float32),
        np.zeros((len(K), height, width, 3), np.float32),
        np.zeros((len(K), height, width), np.int32),
    )
    fine = K * np.array([[samples], [samples], [1.0]])
    step = max(AT_ONCE // (width * height * samples**2), 1)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for i in range(0, len(K), step):
            some = slice(i, i + step)
            pixels = blank(len(K[some]), height * samples, width * samples)
            _fill_pixels(pool, scene, poses[some], fine[some], c2w[some], pixels)
            smooth = pixels.rgb.reshape(-1, height, samples, width, samples, 3).mean((2, 4))
            middle = slice(samples // 2, None, samples)
            out[0][some] = smooth * 255 + 0.5
            out[1][some] = pixels.depth[:, middle, middle]
            out[2][some] = pixels.normal[:, middle, middle]
            out[3][some] = scene.surface_instance[pixels.surface[:, middle, middle]]
    return out


def _fill_pixels(
    pool: ThreadPoolExecutor,
    scene: Scene,
    poses: NDArray[np.float64],
    K: NDArray[np.float64],
    c2w: NDArray[np.float64],
    pixels: Pixels,
) -> None:
    table = (scene.surface_pattern, scene.surface_colour, scene.surface_scale, scene.surface_seed)

    def band(start: int, stop: int) -> None:
        trace(scene, poses, K, c2w, pixels, start, stop)
        light(scene, poses, K, c2w, pixels, start, stop)
        paint(*table, pixels, start, stop)

    rows = pixels.depth.shape[0] * pixels.depth.shape[1]
    cuts = np.linspace(0, rows, min(4 * torch.get_num_threads(), rows) + 1).astype(int).tolist()
    list(pool.map(band, cuts[:-1], cuts[1:]))
