"""One step of aligning a frame with the rendered map: which points belong together, and the motion that fits them.

Two residuals hold the pose. Of depth: the distance of a point to the map's plane, relative to the depth (Newcombe et al.,
KinectFusion, ISMAR 2011, section 3.5). Of colour: the difference between the point's brightness and the map's where it
falls, which holds what the planes leave open, as the motion along a bare wall (Steinbrücker, Sturm and Cremers, ICCV
Workshops 2011; both together: Whelan et al., ElasticFusion, RSS 2015, section III-C).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spmem import geometry
from spmem.camera import Camera
from spmem.types import Projection

DAMPING = 1e-4
"""Damping of the normal equations, relative to their mean diagonal: holds the motions that the view leaves open."""
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601."""


class FramePoints(NamedTuple):
    """What the frame's pixels with depth show; ``[n]`` each: points in the camera's axes, and their brightness."""

    points: Float[Tensor, "n 3"]
    brightness: Float[Tensor, " n"]


class RenderedMap(NamedTuple):
    """The map as one camera sees it: points and normals ``[h, w, 3]``, the mask, brightness, and its slope along x and y.

    The slope is 0 beside pixels that the map does not cover, and across depth steps.
    """

    camera: Camera
    points: Float[Tensor, "h w 3"]
    normal: Float[Tensor, "h w 3"]
    mask: Bool[Tensor, "h w"]
    brightness: Float[Tensor, "h w"]
    slope: Float[Tensor, "h w 2"]


class Pairs(NamedTuple):
    """The frame's points, and the map in the pixel that each falls into; ``[n]`` each.

    x: in the world. covered: the map covers that pixel. near: and is near enough to be the same surface.
    normal: the map's. residual: signed distance to its plane over z. z: depth in the rendered view.
    darker: the map's brightness less the frame's. slope: of the map's brightness, a pixel along x and y.
    """

    x: Float[Tensor, "n 3"]
    covered: Bool[Tensor, " n"]
    near: Bool[Tensor, " n"]
    normal: Float[Tensor, "n 3"]
    residual: Float[Tensor, " n"]
    z: Float[Tensor, " n"]
    darker: Float[Tensor, " n"]
    slope: Float[Tensor, "n 2"]


def thin_out(
    rgb: Float[Tensor, "h w 3"],
    depth: Float[Tensor, "h w"],
    guess: Camera,
    stride: int,
    pose: Float[Tensor, "4 4"],
) -> tuple[FramePoints, Camera]:
    """The camera with every stride-th pixel alone, and what half of these show in each direction.

    Depth is not averaged, which would bridge edges; brightness is, over the pixels left out.
    """
    first = stride // 2
    small = depth[first::stride, first::stride]
    K = guess.K.clone()
    K[:2, 2] -= first + 0.5  # from the centre of the first pixel kept
    K[:2] /= stride
    K[:2, 2] += 0.5
    camera = Camera(K, pose, width=small.shape[1], height=small.shape[0], validate=False)
    reach = stride | 1
    even = torch.nn.functional.avg_pool2d(
        _rgb_to_luma(rgb)[None], reach, 1, reach // 2, count_include_pad=False
    )[0]
    rays = geometry.rays(camera.K, camera.width, camera.height)[::2, ::2]
    even, small = even[first::stride, first::stride][::2, ::2], small[::2, ::2]
    there = small > 0
    return FramePoints(rays[there] * small[there][:, None], even[there]), camera


def rendered(known: Projection) -> RenderedMap:
    """The first view of a projection, made ready."""
    mask, depth = known.mask[0], known.depth[0]
    brightness = _rgb_to_luma(known.rgb[0])
    slope = torch.stack(
        [
            _brightness_slope(brightness, depth, mask),
            _brightness_slope(brightness.mT, depth.mT, mask.mT).mT,
        ],
        -1,
    )
    return RenderedMap(known.cameras[0], known.points[0], known.normal[0], mask, brightness, slope)


def associate(
    seen: FramePoints, pose: Float[Tensor, "4 4"], known: RenderedMap, gate: float
) -> Pairs:
    """Each point with the map in the pixel that it falls into."""
    camera = known.camera
    x = geometry.transform(pose, seen.points)
    pixel, z = geometry.project(x, camera.K, camera.c2w)
    column, row = pixel.floor().long().unbind(-1)
    inside = (row >= 0) & (row < camera.height) & (column >= 0) & (column < camera.width) & (z > 0)
    at = (row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1))
    covered = inside & known.mask[at]
    normal, gap = known.normal[at], known.points[at] - x
    near = covered & (gap.norm(dim=-1) < gate * z)
    z = torch.where(covered, z, torch.ones_like(z))
    slope = known.slope[at]
    # The brightness where the point falls, not at the pixel's centre: to first order.
    within = pixel - pixel.floor() - 0.5
    darker = known.brightness[at] + (slope * within).sum(-1) - seen.brightness
    return Pairs(x, covered, near, normal, (normal * gap).sum(-1) / z, z, darker, slope)


def improve(
    pairs: Pairs, pose: Float[Tensor, "4 4"], known: RenderedMap, width: float, colour: float
) -> tuple[Float[Tensor, "4 4"], float]:
    """The pose after one reweighted least-squares step, and how far it moved: relative to the depth, or in radians.

    Tukey's function is at least ``width`` wide: narrower at once, the few pixels that hold the last free motion
    would be taken for outliers. The twist is about the camera and in units of the depth, so that damping keeps the
    camera where it is, and not the scene's middle, where the view leaves a motion open. Each residual counts by its
    own spread (its inverse variance), colour ``colour`` times that; a frame that is brighter as a whole than the
    map is no residual.
    """
    near = pairs.near
    if not bool(near.any()):
        return pose, 0.0
    centre, scale = pose[:3, 3], float(pairs.z[near].median())
    normal, right = _normal_equations(pairs.normal / pairs.z[:, None], pairs.residual, pairs, centre, scale, width)  # fmt: skip
    if colour > 0:
        K, R = known.camera.K, known.camera.c2w[:3, :3]
        point = (pairs.x - known.camera.position) @ R
        z = point[:, 2].clamp(min=1e-6)
        ahead = (pairs.slope * K.diagonal()[:2]) / z[:, None]
        along = -(ahead * point[:, :2]).sum(-1) / z
        uphill = torch.cat([ahead, along[:, None]], -1) @ R.mT  # of brightness, a world unit
        darker = pairs.darker - pairs.darker[near].median()
        more = _normal_equations(
            -uphill, darker, pairs, centre, scale, 0.05, near & (uphill != 0).any(-1)
        )
        normal, right = normal + colour * more[0], right + colour * more[1]
    normal += DAMPING * normal.diagonal().mean() * torch.eye(6, dtype=normal.dtype, device=normal.device)  # fmt: skip
    step = torch.linalg.solve(normal, right).to(pose.dtype)
    axis = step[3:] / scale
    skew = torch.linalg.cross(axis.expand(3, 3), torch.eye(3, device=axis.device)).mT
    improved = pose.clone()
    improved[:3, :3] = torch.linalg.matrix_exp(skew) @ pose[:3, :3]
    improved[:3, 3] = centre + step[:3]
    return improved, float(step.norm()) / scale


def _normal_equations(
    uphill: Float[Tensor, "n 3"],
    residual: Float[Tensor, " n"],
    pairs: Pairs,
    centre: Float[Tensor, " 3"],
    scale: float,
    width: float,
    among: Bool[Tensor, " n"] | None = None,
) -> tuple[Float[Tensor, "6 6"], Float[Tensor, " 6"]]:
    """Normal equations of residuals whose change with the point's motion is ``uphill``, by inverse variance."""
    among = pairs.near if among is None else among
    if not bool(among.any()):
        return torch.zeros(6, 6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    uphill, residual, x = uphill[among], residual[among], pairs.x[among]
    spread = 1.4826 * float(residual.abs().median())
    width = max(width, 4.685 * spread)
    weight = (1 - (residual / width).square()).clamp(min=0).square()
    turn = torch.linalg.cross((x - centre) / scale, uphill)
    rows = torch.cat([uphill, turn], -1).double()
    weighed = rows * weight[:, None]
    variance = max(spread, 1e-2 * width) ** 2
    return weighed.mT @ rows / variance, weighed.mT @ residual.double() / variance


def _rgb_to_luma(rgb: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
    return rgb @ rgb.new_tensor(LUMA)


def _brightness_slope(
    brightness: Float[Tensor, "h w"], depth: Float[Tensor, "h w"], mask: Bool[Tensor, "h w"]
) -> Float[Tensor, "h w"]:
    """Central differences along the last axis; 0 at the border, beside what is not covered and across depth steps."""
    slope = torch.zeros_like(brightness)
    one, other = slice(2, None), slice(None, -2)
    flat = (depth[:, one] - depth[:, other]).abs() < 0.1 * depth[:, 1:-1]
    sound = mask[:, one] & mask[:, other] & mask[:, 1:-1] & flat
    slope[:, 1:-1] = torch.where(sound, (brightness[:, one] - brightness[:, other]) / 2, 0)
    return slope
