"""The per-pixel work of fusion in plain torch, on any device: the twin that says what the fast kernels compute."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spmem.geometry.projection import rays
from spmem.kernels.raster_torch import assign_first, cull, hits

TAPS = 2
"""The plane fit looks at (2 TAPS + 1)^2 pixels, ``stride`` apart."""
SUPPORT = 8
"""Of them so many must lie on the same surface."""
ALIGNED = 0.3
"""Cosine between two normals above which they may be of one surface."""
COARSE = 0.5
"""A surfel gives way to pixels that see finer than this share of its radius."""
UNUSED, MERGED, NEW, FINER = range(4)
"""What becomes of a pixel: nothing; part of the surfel it shows; a new surfel where none was, or for a coarser one."""


@dataclass(frozen=True, eq=False)
class Observed:
    """A frame as fusion takes it; normals in camera axes, weight 0 where a pixel is not to be used."""

    depth: Float[Tensor, "h w"]
    normal: Float[Tensor, "h w 3"]
    weight: Float[Tensor, "h w"]
    rgb: Float[Tensor, "h w 3"]
    features: Float[Tensor, "h w c"] | None
    K: Float[Tensor, "3 3"]
    c2w: Float[Tensor, "4 4"]
    voxel: float


def prepare(
    depth: Float[Tensor, "h w"],
    confidence: Float[Tensor, "h w"],
    K: Float[Tensor, "3 3"],
    *,
    edge: float,
    grazing: float,
    reference: float,
    stride: int,
) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
    """Unit normals towards the camera (camera axes) and fusion weights; weight 0 where a pixel is not to be used.

    A plane's inverse depth is affine in the pixel, a dx + b dy + c, and (a, b, c) is its normal: a masked least
    squares over the neighbourhood gives it with the noise model of a disparity sensor. Left out: pixels beside a
    depth step larger than ``edge`` x depth (flying pixels), with little support, or seen more obliquely than
    ``grazing``. Weight: cosine x min(1, (reference / depth)^2) x confidence.
    """
    h, w = depth.shape
    # a pixel's depth may change by this share within a surface; coarse pixels may change more
    step = max(edge, 8 / float(K[0, 0]))
    pad = TAPS * stride
    padded = torch.nn.functional.pad(depth[None, None], (pad,) * 4)[0, 0]

    def shifted(dy: int, dx: int) -> Tensor:
        return padded[pad + dy : pad + dy + h, pad + dx : pad + dx + w]

    valid = depth > 0
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            other = shifted(dy, dx)
            valid = valid & ~((other > 0) & ((other - depth).abs() > step * depth))

    q0 = torch.where(depth > 0, 1 / depth, torch.zeros_like(depth))
    n, sx, sy, sxx, sxy, syy, sq, sxq, syq = (torch.zeros_like(depth) for _ in range(9))
    for j in range(-TAPS, TAPS + 1):
        for i in range(-TAPS, TAPS + 1):
            other = shifted(j * stride, i * stride)
            use = (other > 0) & ((other - depth).abs() <= 1.5 * step * depth)
            m = use.to(depth.dtype)
            q = torch.where(use, 1 / other, torch.zeros_like(other)) - q0 * m
            n, sx, sy = n + m, sx + i * m, sy + j * m
            sxx, sxy, syy = sxx + i * i * m, sxy + i * j * m, syy + j * j * m
            sq, sxq, syq = sq + q, sxq + i * q, syq + j * q
    n1 = n.clamp(min=1)
    cxx, cxy, cyy = sxx - sx * sx / n1, sxy - sx * sy / n1, syy - sy * sy / n1
    cxq, cyq = sxq - sx * sq / n1, syq - sy * sq / n1
    det = cxx * cyy - cxy * cxy
    valid = valid & (n >= SUPPORT) & (det > 1)
    det = torch.where(det > 1, det, torch.ones_like(det))
    a = (cyy * cxq - cxy * cyq) / det / stride * K[0, 0]
    b = (cxx * cyq - cxy * cxq) / det / stride * K[1, 1]
    ray = rays(K, w, h)
    c = q0 - a * ray[..., 0] - b * ray[..., 1]
    normal = -torch.nn.functional.normalize(torch.stack([a, b, c], -1), dim=-1)
    cosine = -(normal * ray).sum(-1) / ray.norm(dim=-1)
    valid = valid & (cosine > grazing)
    near = torch.where(valid, reference / depth.clamp(min=1e-12), torch.zeros_like(depth))
    return normal, valid * cosine * near.square().clamp(max=1) * confidence


def match(
    position: Float[Tensor, "n 3"],
    normal: Float[Tensor, "n 3"],
    radius: Float[Tensor, " n"],
    confidence: Float[Tensor, " n"],
    w2c: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    depth: Float[Tensor, "h w"],
    seen: Float[Tensor, "h w 3"],
    weight: Float[Tensor, "h w"],
    *,
    near: float,
    merge: float,
) -> tuple[Int[Tensor, "h w"], Int[Tensor, "h w"]]:
    """Per usable pixel the surfel it shows and the surfel it sees through, -1 = none.

    Shown is the most central hit within ``merge`` x depth of the observed one, of a surfel whose normal agrees with
    the one ``seen`` (camera axes). (The hit nearest in depth would be the wrong one: among neighbours at different
    depths each would draw the pixels that confirm its error, and nothing would be averaged.) Seen through is the
    nearest hit that lies more than ``merge`` in front.
    """
    h, w = depth.shape
    kept, disc, box = cull(position, normal, radius, confidence, w2c, K, w, h, near)
    z0, n0, usable = depth.reshape(-1), seen.reshape(-1, 3), weight.reshape(-1) > 0
    off_centre, front = (depth.new_full((h * w,), torch.inf) for _ in range(2))
    shown, through = (kept.new_full((h * w,), -1) for _ in range(2))
    for m, pixel, z, central in hits(disc, box, K, w):
        on = usable[pixel]
        m, pixel, z, central = m[on], pixel[on], z[on], central[on]
        off = (z - z0[pixel]).abs()
        same = (off <= merge * z0[pixel]) & ((disc[m, 3:6] * n0[pixel]).sum(-1) > ALIGNED)
        _keep_least(off_centre, shown, pixel[same], -central[same], kept[m[same]])
        before = z < z0[pixel] * (1 - merge)
        _keep_least(front, through, pixel[before], z[before], kept[m[before]])
    return shown.reshape(h, w), through.reshape(h, w)


def _keep_least(least: Tensor, which: Tensor, at: Tensor, value: Tensor, index: Tensor) -> None:
    better = value < least[at]
    least.scatter_reduce_(0, at, value, "amin")
    assign_first(which, better & (value == least[at]), at, index)


def group(keys: Int[Tensor, "p c"]) -> tuple[int, Int[Tensor, " p"]]:
    """Number of distinct rows, and each row's group, numbered by first occurrence."""
    _, inverse = torch.unique(keys, dim=0, return_inverse=True)
    count = int(inverse.max()) + 1 if len(inverse) else 0
    first = inverse.new_full((count,), len(inverse))
    first.scatter_reduce_(0, inverse, torch.arange(len(inverse), device=keys.device), "amin")
    rank = torch.empty_like(first)
    rank[first.argsort()] = torch.arange(count, device=keys.device)
    return count, rank[inverse]


def oriented(seen: Observed, pixels: Int[Tensor, " p"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """World points [p, 3], world normals [p, 3], disc radii [p] and detail [p] of pixels.

    A disc reaches its pixel's neighbours on the surface, and is at least a voxel. Detail is the number of pixels
    that a voxel's area fills from here.
    """
    h, w = seen.depth.shape
    normal = seen.normal.reshape(-1, 3)[pixels]
    z = seen.depth.reshape(-1)[pixels, None]
    ray = rays(seen.K, w, h).reshape(-1, 3)[pixels]
    cosine = -(normal * ray).sum(-1) / ray.norm(dim=-1)
    footprint = z[:, 0] / seen.K[0, 0]
    radius = (0.8 * footprint / cosine.clamp(min=0.25)).clamp(min=seen.voxel)
    R, t = seen.c2w[:3, :3], seen.c2w[:3, 3]
    detail = (seen.voxel / footprint).square()
    return (ray * z) @ R.T + t, normal @ R.T, radius, detail


def classify(
    seen: Observed, shown: Int[Tensor, "h w"], radius: Float[Tensor, " n"]
) -> Int[Tensor, " hw"]:
    """UNUSED, MERGED, NEW or FINER for each pixel, given what it shows and the surfels' radii."""
    kind = torch.full((shown.numel(),), UNUSED, dtype=torch.uint8, device=shown.device)
    pixels = (seen.weight.reshape(-1) > 0).nonzero()[:, 0]
    surfel = shown.reshape(-1)[pixels]
    known = surfel >= 0
    kind[pixels] = NEW
    finer = oriented(seen, pixels[known])[2] < COARSE * radius[surfel[known]]
    kind[pixels[known]] = torch.where(finer, FINER, MERGED).to(torch.uint8)
    return kind


def cells(seen: Observed, pixels: Int[Tensor, " p"]) -> Int[Tensor, "p 4"]:
    """Voxel and main direction (0..5) of each pixel's point."""
    point, normal, _, _ = oriented(seen, pixels)
    axis = normal.abs().argmax(-1, keepdim=True)
    side = 2 * axis + (normal.gather(1, axis) > 0)
    return torch.cat([(point / seen.voxel).floor().long(), side], -1)


def sums(
    seen: Observed, pixels: Int[Tensor, " p"], segment: Int[Tensor, " p"], count: int
) -> Float[Tensor, "count c"]:
    """Per segment: pixels, weight, and weighted point, normal, colour, radius, detail (and features)."""
    point, normal, radius, detail = oriented(seen, pixels)
    w = seen.weight.reshape(-1)[pixels, None]
    parts = [point, normal, seen.rgb.reshape(-1, 3)[pixels], torch.stack([radius, detail], -1)]
    if seen.features is not None:
        parts.append(seen.features.flatten(0, 1)[pixels])
    values = torch.cat([torch.ones_like(w), w, torch.cat(parts, -1) * w], -1)
    return values.new_zeros(count, values.shape[1]).index_add_(0, segment, values)
