"""What cameras truly see, and who saw the same: exact depth, and nothing of any memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spmem.camera import Camera
from spmem.testing.truth import covisibility
from spmem.testing.worlds import House


@dataclass(frozen=True, eq=False)
class Sight:
    """What cameras ``[N]`` see.

    depth ``[N, H, W]`` z-depth in world units, 0 = none; normal ``[N, H, W, 3]`` unit, world axes, facing the
    camera, or None where nobody knows it.
    """

    cameras: Camera
    depth: Float[Tensor, "n h w"]
    normal: Float[Tensor, "n h w 3"] | None = None

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
        normal = None if self.normal is None else self.normal[rows]
        return Sight(self.cameras[rows], self.depth[rows], normal)

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
        normal = None if self.normal is None else self.normal[:, pick, pick].contiguous()
        return Sight(Camera(K, self.cameras.c2w, width=w, height=h, validate=False), depth, normal)


def sight_of(house: House, cameras: Camera) -> Sight:
    """What cameras ``[N]`` see of a house, exactly."""
    view = house.render(cameras)
    return Sight(cameras, view.depth, view.normal)


def seen(asked: Sight, by: Sight, tolerance: float = 0.03) -> Bool[Tensor, "t n h w"]:
    """Which pixels of each of T sights each of N others saw too, occlusion included.

    Depth is reprojected (:func:`spmem.testing.truth.covisibility`). Where the asked sights know their normals, a view
    from behind a surface did not see it: a wall may be thinner than ``tolerance`` is at a distance.

    Args:
        asked: T sights.
        by: N sights.
        tolerance: Share of the depth.

    Example:
        >>> camera = Camera.from_fov(1.2, torch.eye(4), width=8, height=6)
        >>> wall = Sight(camera[None], torch.full((1, 6, 8), 2.0))
        >>> nearer = Sight(camera[None], torch.full((1, 6, 8), 1.0))
        >>> [float(seen(wall, other).float().mean()) for other in (wall, nearer)]
        [1.0, 0.0]
    """
    masks = [
        covisibility(depth, camera, by.depth, by.cameras, tolerance).masks
        for depth, camera in zip(asked.depth, asked.cameras, strict=True)
    ]
    saw = torch.stack(masks)
    if asked.normal is not None:
        points = asked.cameras.unproject(asked.depth)
        plane = (points * asked.normal).sum(-1)
        side = torch.einsum("thwc,nc->tnhw", asked.normal, by.cameras.position)
        saw &= side > plane[:, None]
    return saw
