"""Depth of generated frames without a network: what memory knows, carried on."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.integrations.depth.alignment import align_depth
from spmem.integrations.depth.network import DepthAnything, DepthPro
from spmem.kernels import carry_numba, carry_torch
from spmem.types import Projection

__all__ = [
    "DepthAnything",
    "DepthPro",
    "ProjectionDepth",
    "align_depth",
    "nearest_true",
]


class ProjectionDepth:
    """Depth without a network: the map's where it covers, and its surfaces carried on as planes elsewhere.

    An uncovered pixel takes the plane of the nearest covered pixel (point and normal as rendered) where its ray
    meets it at a depth within ``stretch`` times that pixel's, and that pixel's own depth otherwise. A frame that
    memory does not cover at all takes the median depth of the covered frames of its chunk, or none.

    It does not look at the colours, so it sees nothing new: walls and floors go on, things that come into view are
    painted on them, and what a foreground object uncovers may stick to the object. Good enough to turn a camera a
    little or to fill small holes; for more, take a network (:mod:`spmem.integrations.depth.network`).

    Args:
        stretch: How many times nearer or farther than the nearest covered pixel a carried-on plane may reach, > 1.
    """

    def __init__(self, *, stretch: float = 2.0) -> None:
        if not stretch > 1:
            raise InputError(f"stretch must be > 1, got {stretch}")
        self.stretch = stretch

    def __call__(
        self, rgb: Float[Tensor, "t h w 3"], cameras: Camera, known: Projection | None = None
    ) -> Float[Tensor, "t h w"]:
        """z-depth in world units, 0 = none; raises InputError without ``known``."""
        if known is None:
            raise InputError(
                "projection-depth carries on what memory renders, and got known=None; "
                "pass retrieval.projection, or take an estimator that looks at the pixels"
            )
        covered = known.mask & (known.depth > 0)
        if not len(covered):
            return known.depth
        filled = torch.stack(
            list(map(self._carried, covered, known.depth, known.normal, known.cameras))
        )
        bare = ~covered.flatten(1).any(1)
        if bool(bare.any()) and not bool(bare.all()):
            filled[bare] = known.depth[covered].median()
        return filled

    def _carried(
        self,
        covered: Bool[Tensor, "h w"],
        depth: Float[Tensor, "h w"],
        normal: Float[Tensor, "h w 3"],
        camera: Camera,
    ) -> Float[Tensor, "h w"]:
        """One frame: none takes memory of more than itself."""
        given = (covered, depth, normal, camera.K, camera.c2w)
        if covered.device.type != "cpu":
            return carry_torch.carry(*given, self.stretch)
        mask, z, across, K, c2w = (np.ascontiguousarray(part.detach().numpy()) for part in given)
        return torch.from_numpy(carry_numba.carry(mask, z, across, K, c2w, self.stretch))


def nearest_true(mask: Bool[Tensor, "t h w"]) -> Int[Tensor, "t h w"]:
    """Flat index ``y * w + x`` of the True pixel nearest to each pixel, -1 in images without one.

    Exact on the CPU; elsewhere by jump flooding, which misses it rarely, by a fraction of a pixel.

    Example:
        >>> nearest_true(torch.tensor([[[True, False, False, False, True]]]))
        tensor([[[0, 0, 0, 4, 4]]])
    """
    if mask.device.type != "cpu":
        return torch.stack([carry_torch.nearest(image) for image in mask])
    found = [carry_numba.nearest(np.ascontiguousarray(image.numpy())) for image in mask]
    return torch.from_numpy(np.stack(found)).long() if found else torch.zeros(mask.shape).long()
