"""The cost model of ``docs/geometry.md``: bytes that a fused frame or a drawn view moves, and what a copy moves in a second."""

from __future__ import annotations

from time import perf_counter

import torch

from spmem import Camera
from spmem.kernels.columns import Columns
from spmem.kernels.raster import NEAR
from spmem.kernels.raster_torch import cull

COPIED = {"cpu": 1 << 27, "cuda": 1 << 30}
"""Bytes of the copied tensor: more than caches hold."""


def copy_bandwidth(device: str) -> float:
    """Gigabytes a second that a copy reads and writes; the best of ten."""
    source = torch.ones(COPIED[device] // 4, device=device)
    target, best = torch.empty_like(source), 0.0
    for _ in range(10):
        wait(device)
        start = perf_counter()
        target.copy_(source)
        wait(device)
        best = max(best, 2 * COPIED[device] / (perf_counter() - start) / 1e9)
    return best


def wait(device: str) -> None:
    """Until all that was asked for is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def in_view(columns: Columns, camera: Camera, share: float = 1.0) -> tuple[int, int]:
    """Discs whose boxes touch the image, and the pixels of the 4 x 2 tiles (single pixels on CUDA) that the boxes take."""
    _, _, box = cull(
        columns.position, columns.normal, columns.radius * share, columns.confidence, camera.w2c, camera.K,
        camera.width, camera.height, NEAR,
    )  # fmt: skip
    wide, tall = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    if columns.device.type == "cpu":
        wide, tall = (wide + 3) // 4 * 4, (tall + 1) // 2 * 2
    return len(box), int((wide * tall).sum())


def frame_bytes(columns: Columns, camera: Camera, by: int, new: int) -> int:
    """What fusing a frame moves, by the model's table."""
    pixels, discs = camera.width * camera.height, in_view(columns, camera, 0.8)[0]
    blocks, rows = pixels // by**2, columns.n
    if columns.device.type == "cuda":
        per_block = 20 + 24 + 20 + 16 + 8 + 40 + 24 + 2 * 12 + 4 * 32 + 16
        return 16 * pixels + per_block * blocks + (32 + 2 * 16) * rows + (28 + 212) * discs + 200 * new  # fmt: skip
    chunks = rows // 128
    reduce = 8 * pixels + 24 * blocks if by > 1 else 0
    return reduce + (32 + 80) * blocks + 24 * chunks + (112 + 80 + 200) * discs + 52 * new


def view_bytes(columns: Columns, camera: Camera) -> int:
    """What drawing a view moves, by the model's table."""
    pixels, (discs, tiles) = camera.width * camera.height, in_view(columns, camera)
    if columns.device.type == "cuda":
        return 2 * 16 * columns.n + (2 * 28 + 12) * discs + 8 * tiles + (2 * 44 + 45) * pixels
    return (112 + 2 * 80) * discs + (8 + 80) * tiles + 45 * pixels
