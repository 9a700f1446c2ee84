"""Frames to try a store with."""

from __future__ import annotations

import torch

from spmem.camera import Camera
from spmem.types import Frame


def sample_frame(
    number: int,
    *,
    width: int = 64,
    height: int = 48,
    confidence: bool = False,
    channels: int = 0,
) -> Frame:
    """A frame that is the same for the same number: smooth colours and slopes, a hole in the depth."""
    y, x = torch.meshgrid(torch.arange(height) / 64, torch.arange(width) / 64, indexing="ij")
    waves = [0.5 + 0.4 * torch.sin(3 * x * (c + 1) + 2 * y + number) for c in range(3)]
    depth = 2.0 + 0.05 * number + x + 0.3 * torch.sin(5 * y + number)
    depth[: height // 4, : width // 3] = 0
    angle = torch.tensor(0.1 * number)
    camera = Camera.look_at(
        [0.2 * number, 0.0, 0.0],
        [0.2 * number + float(angle.sin()), 0.0, float(angle.cos())],
        fov_x=1.2 - 0.01 * (number % 7),
        width=width,
        height=height,
    )
    features = torch.stack([x * (c + 1) - y for c in range(channels)], -1) if channels else None
    return Frame(
        (torch.stack(waves, -1) * 255).round().to(torch.uint8),
        depth,
        camera,
        0.25 * number,
        confidence=1 + x if confidence else None,
        features=features,
    )
