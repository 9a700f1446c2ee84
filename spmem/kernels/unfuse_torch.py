"""Taking back out of discs what frames gave them, in plain torch, on any device: the twin that says what is computed.

Position along the normal and the normal itself are running means: of a disc of confidence c, frames that gave it w are
taken back by the mean's own formula, with what is left, c - w, as the weight of the others. What a frame gave is read from its
pixels around the disc's centre, with fusion's weights and under fusion's conditions.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from spmem.geometry.projection import rays
from spmem.kernels.columns import Columns
from spmem.kernels.fuse_torch import ALIGNED, SHARPER, Fusing, prepare
from spmem.types import Frame

SUMS = 6
"""What is summed over frames for each disc: 1, weight, weighted distance along the normal, weighted normal."""


def read(
    columns: Columns, rows: Int[Tensor, " r"], frame: Frame, how: Fusing
) -> Float[Tensor, "r 6"]:
    """What a frame gave to discs (normals in world axes); 0 where it does not show them.

    Weight, distance and normal are means over those of the four pixels around the centre that show the disc.
    """
    seen, _ = prepare(frame, how)
    w2c, (h, w) = frame.camera.w2c, seen.depth.shape
    centre = columns.position[rows] @ w2c[:3, :3].T + w2c[:3, 3]
    normal = columns.normal[rows] @ w2c[:3, :3].T
    ray = rays(seen.K, w, h).reshape(-1, 3)
    z = centre[:, 2].clamp(min=1e-30)
    x0 = (centre[:, 0] / z * seen.K[0, 0] + seen.K[0, 2] - 0.5).floor().clamp(-2, w)
    y0 = (centre[:, 1] / z * seen.K[1, 1] + seen.K[1, 2] - 0.5).floor().clamp(-2, h)
    sums = centre.new_zeros(len(rows), SUMS)
    for step in range(4):
        x, y = x0 + step % 2, y0 + step // 2
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h) & (centre[:, 2] > 0)
        pixel = (y.clamp(0, h - 1) * w + x.clamp(0, w - 1)).long()
        depth, facing = seen.depth.reshape(-1)[pixel], seen.normal.reshape(-1, 3)[pixel]
        off = ((ray[pixel] * depth[:, None] - centre) * normal).sum(-1)
        along = -(ray[pixel] * normal).sum(-1)
        shows = inside & (depth > 0) & (along > 0) & (off.abs() <= how.merge * depth * along)
        shows &= (facing * normal).sum(-1) > ALIGNED
        weight = seen.weight.reshape(-1)[pixel]
        part = torch.stack([torch.ones_like(weight), weight, weight * off], -1)
        sums += torch.cat([part, weight[:, None] * facing], -1) * shows[:, None]
    mean = sums / sums[:, :1].clamp(min=1)
    return torch.cat([mean[:, :3], mean[:, 3:] @ seen.c2w[:3, :3].T], -1)


def subtract(
    columns: Columns,
    rows: Int[Tensor, " r"],
    sums: Float[Tensor, "r 6"],
    left: Float[Tensor, " r"],
    max_confidence: float,
) -> None:
    """Leave discs without what frames gave them: ``left`` is the weight of all others.

    Colour stays, since what each view gave it is not known any more, and gives way to the next view that is as sharp.
    """
    shown = sums[:, 0] > 0
    rows, sums, left = rows[shown], sums[shown], left[shown]
    weight, normal = sums[:, 1:2], columns.normal[rows]
    columns.position[rows] -= normal * (sums[:, 2] / left)[:, None]
    turned = normal - (sums[:, 3:] - weight * normal) / left[:, None]
    columns.normal[rows] = normalize(turned, dim=-1)
    columns.confidence[rows] = left.clamp(max=max_confidence)
    columns.detail[rows] /= SHARPER
