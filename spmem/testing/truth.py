"""Ground truth that owes nothing to the memory: who saw what, by exact depth alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import CameraError, FrameError, InputError
from spmem.kernels.jit import njit
from spmem.kernels.threads import Turns, claimed, shared

WRONG = 0.05
"""A covered pixel is wrong if its depth is off by more than this share of the true depth."""


def covered_but_wrong(
    depth: Float[Tensor, "*b"], mask: Bool[Tensor, "*b"], true: Float[Tensor, "*b"]
) -> tuple[Bool[Tensor, "*b"], Bool[Tensor, "*b"]]:
    """Covered pixels whose depth lies before, and behind, the true depth by more than ``WRONG`` of it; 0 is no true depth.

    Example:
        >>> depth, true = torch.tensor([0.9, 1.02, 1.5]), torch.ones(3)
        >>> [part.tolist() for part in covered_but_wrong(depth, true > 0, true)]
        [[True, False, False], [False, False, True]]
    """
    known = mask & (true > 0)
    return known & (depth < (1 - WRONG) * true), known & (depth > (1 + WRONG) * true)


class Covisibility(NamedTuple):
    """What n views saw of one query.

    share ``[N]`` float32, the seen share of the query's valid pixels; masks ``[N, H, W]`` bool, those pixels.
    """

    share: Float[Tensor, " n"]
    masks: Bool[Tensor, "n h w"]


def covisibility(
    query_depth: Float[Tensor, "h w"],
    query: Camera,
    depths: Float[Tensor, "n hv wv"],
    cameras: Camera,
    tolerance: float = 0.03,
) -> Covisibility:
    """How much of what ``query`` sees each of n views saw too, occlusion included.

    Every valid pixel of the query is lifted to its world point and projected into each view. The view saw it when
    one of the 2x2 pixels around the projection holds the point's z-depth there, within ``tolerance`` of it:
    a farther depth means a hole between the two, a nearer one an occluder. No depth is interpolated, since a mean
    over an edge is a depth that nobody saw.

    Args:
        query_depth: ``[H, W]`` z-depth in world units, 0 = none.
        query: One camera of that size.
        depths: ``[N, Hv, Wv]`` z-depth of the views, 0 = none.
        cameras: ``[N]`` cameras of that size, any intrinsics.
        tolerance: Share of the depth.

    Returns:
        On the CPU: share ``[N]`` in 0..1 (0 where the query has no valid pixel) and masks ``[N, H, W]``.

    Raises:
        FrameError: Depth images that do not have their cameras' sizes.
        CameraError: ``query`` is not one camera, or ``cameras`` not a trajectory.
        InputError: ``tolerance`` is not positive.

    Example:
        >>> camera = Camera.from_fov(1.2, torch.eye(4), width=8, height=6)
        >>> wall = torch.full((6, 8), 2.0)
        >>> seen = covisibility(wall, camera, torch.stack([wall, wall / 2]), Camera.stack([camera, camera]))
        >>> seen.share
        tensor([1., 0.])
    """
    if query.shape or len(cameras.shape) != 1:
        raise CameraError(
            f"covisibility compares one query camera with a trajectory [N], got {list(query.shape)} and "
            f"{list(cameras.shape)}; index the first, write camera[None] for a trajectory of one"
        )
    if query_depth.shape != (query.height, query.width):
        raise FrameError(
            f"query_depth must be {[query.height, query.width]} as its camera, got {list(query_depth.shape)}"
        )
    expected = (len(cameras), cameras.height, cameras.width)
    if depths.shape != expected:
        raise FrameError(
            f"depths must be {list(expected)} as the cameras, got {list(depths.shape)}"
        )
    if not tolerance > 0:
        raise InputError(f"tolerance is a share of the depth > 0, got {tolerance}")
    points = query.to("cpu").unproject(query_depth.cpu().float()).double().numpy()
    valid = (query_depth > 0).cpu().numpy()
    masks = np.zeros((len(cameras), *valid.shape), np.bool_)
    shared(_mark_visible, len(masks), 0.03 * valid.size)(
        points,
        valid,
        np.ascontiguousarray(depths.cpu().float().numpy()),
        cameras.K.cpu().double().numpy(),
        cameras.to("cpu").w2c.double().numpy(),
        float(tolerance),
        masks,
    )
    share = masks.sum((1, 2)) / max(int(valid.sum()), 1)
    return Covisibility(torch.from_numpy(share.astype(np.float32)), torch.from_numpy(masks))


@njit()
def _mark_visible(
    turns: Turns,
    points: NDArray[np.float64],
    valid: NDArray[np.bool_],
    depths: NDArray[np.float32],
    K: NDArray[np.float64],
    w2c: NDArray[np.float64],
    tolerance: float,
    masks: NDArray[np.bool_],
) -> None:
    _, hv, wv = depths.shape
    h, w = valid.shape
    for i in claimed(turns):
        R, t = w2c[i, :3, :3], w2c[i, :3, 3]
        for y in range(h):
            for x in range(w):
                if not valid[y, x]:
                    continue
                px, py, pz = points[y, x, 0], points[y, x, 1], points[y, x, 2]
                z = R[2, 0] * px + R[2, 1] * py + R[2, 2] * pz + t[2]
                if z <= 0:
                    continue
                u = (R[0, 0] * px + R[0, 1] * py + R[0, 2] * pz + t[0]) / z * K[i, 0, 0] + K[
                    i, 0, 2
                ]
                v = (R[1, 0] * px + R[1, 1] * py + R[1, 2] * pz + t[1]) / z * K[i, 1, 1] + K[
                    i, 1, 2
                ]
                if not (0 <= u < wv and 0 <= v < hv):
                    continue
                left, top = int(np.floor(u - 0.5)), int(np.floor(v - 0.5))
                for row in range(max(top, 0), min(top + 2, hv)):
                    for column in range(max(left, 0), min(left + 2, wv)):
                        depth = depths[i, row, column]
                        if depth > 0 and abs(depth - z) <= tolerance * z:
                            masks[i, y, x] = True
