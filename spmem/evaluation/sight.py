"""What cameras truly see, and who saw the same: exact depth, and nothing of any memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from spmem.camera import Camera
from spmem.testing.truth import covisibility
from spmem.worlds import House


@dataclass(frozen=True, eq=False)
class Sight:
    """What cameras ``[N]`` see.

    depth ``[N, H, W]`` z-depth in world units, 0 = none; normal ``[N, H, W, 3]`` unit, world axes, facing the
    camera, and rgb ``[N, H, W, 3]`` in 0..1, or None where nobody knows them.
    """

    cameras: Camera
    depth: Float[Tensor, "n h w"]
    normal: Float[Tensor, "n h w 3"] | None = None
    rgb: Float[Tensor, "n h w 3"] | None = None

    def __len__(self) -> int:
        return len(self.cameras)

    def part(self, rows: slice | Sequence[int] | Tensor) -> Sight:
        """Some of them.

        Example:
            >>> camera = Camera.from_fov(1.2, torch.eye(4), width=8, height=6)
            >>> sight = Sight(Camera.stack([camera] * 3), torch.ones(3, 6, 8))
            >>> len(sight.part([0, 2]))
            2
        """
        normal, rgb = (None if some is None else some[rows] for some in (self.normal, self.rgb))
        return Sight(self.cameras[rows], self.depth[rows], normal, rgb)

    def thinned(self, step: int) -> Sight:
        """Every ``step``-th pixel of every ``step``-th row, sampled at the blocks' middle."""
        if step == 1:
            return self
        pick = slice(step // 2, None, step)
        depth = self.depth[:, pick, pick].contiguous()
        h, w = depth.shape[1:]
        # The pixel picked lies at (step // 2 + 0.5) / step of its block, which for even steps is off the middle.
        shift = torch.eye(3)
        shift[:2, 2] = 0.5 - (step // 2 + 0.5) / step
        K = shift @ torch.diag(torch.tensor([1 / step, 1 / step, 1.0])) @ self.cameras.K
        normal, rgb = (
            None if some is None else some[:, pick, pick].contiguous() for some in (self.normal, self.rgb)
        )  # fmt: skip
        cameras = Camera(K, self.cameras.c2w, width=w, height=h, validate=False)
        return Sight(cameras, depth, normal, rgb)


def sight_of(house: House, cameras: Camera) -> Sight:
    """What cameras ``[N]`` see of a house, exactly."""
    view = house.render(cameras)
    return Sight(cameras, view.depth, view.normal, view.rgb.float() / 255)


def seen_masks(targets: Sight, by: Sight, tolerance: float = 0.03) -> Bool[Tensor, "t n h w"]:
    """Which pixels of each of T sights each of N others saw too, occlusion included.

    Depth is reprojected (:func:`spmem.testing.truth.covisibility`). Where the targets know their normals, a view
    from behind a surface did not see it: a wall may be thinner than ``tolerance`` is at a distance.

    Args:
        targets: T sights.
        by: N sights.
        tolerance: Share of the depth.

    Example:
        >>> camera = Camera.from_fov(1.2, torch.eye(4), width=8, height=6)
        >>> wall = Sight(camera[None], torch.full((1, 6, 8), 2.0))
        >>> nearer = Sight(camera[None], torch.full((1, 6, 8), 1.0))
        >>> [float(seen_masks(wall, other).float().mean()) for other in (wall, nearer)]
        [1.0, 0.0]
    """
    masks = [
        covisibility(depth, camera, by.depth, by.cameras, tolerance).masks
        for depth, camera in zip(targets.depth, targets.cameras, strict=True)
    ]
    saw = torch.stack(masks)
    if targets.normal is not None:
        points = targets.cameras.unproject(targets.depth)
        plane = (points * targets.normal).sum(-1)
        side = torch.einsum("thwc,nc->tnhw", targets.normal, by.cameras.position)
        saw &= side > plane[:, None]
    return saw


def warp_colours(targets: Sight, by: Sight) -> Float[Tensor, "t n h w 3"]:
    """The colour that each of N others has of each pixel of T targets, between its pixels bilinear.

    Pixels that :func:`seen_masks` says it did not see have some colour too.

    Args:
        targets: T sights.
        by: N sights, with colours.
    """
    if by.rgb is None:
        raise ValueError("these sights have no colours")
    points = targets.cameras.unproject(targets.depth)  # [t, h, w, 3]
    w2c, K = torch.linalg.inv(by.cameras.c2w), by.cameras.K
    there = (
        torch.einsum("nij,thwj->nthwi", w2c[:, :3, :3], points) + w2c[:, None, None, None, :3, 3]
    )
    pixel = torch.einsum("nij,nthwj->nthwi", K, there)
    size = torch.tensor([by.cameras.width, by.cameras.height], dtype=pixel.dtype)
    grid = 2 * pixel[..., :2] / pixel[..., 2:].clamp(min=1e-6) / size - 1
    n, t, h, w, _ = grid.shape
    fetched = F.grid_sample(
        by.rgb.movedim(-1, 1), grid.view(n, t * h, w, 2).clamp(-2, 2), padding_mode="border", align_corners=False
    )  # fmt: skip
    return fetched.view(n, 3, t, h, w).permute(2, 0, 3, 4, 1)
