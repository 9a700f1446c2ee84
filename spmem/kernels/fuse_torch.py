"""Fusion of a posed depth image into discs, in plain torch, on any device: the twin that says what is computed.

A pixel merges with the disc that it shows. The disc moves along its normal only, by a running mean of point-to-plane
distances (the averaging of a truncated signed distance volume, Curless and Levoy 1996, at one disc); its colour is a
running mean of the views with the most pixels on it. Pixels that show nothing known become new discs, one for each voxel and main
direction. Discs that rays pass through lose confidence; coarse ones give way to pixels that see finer.

Source: Keller et al. 2013, Real-time 3D Reconstruction in Dynamic Scenes using Point-based Fusion, sections 4 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize, pad

from spmem.geometry.projection import rays
from spmem.kernels.columns import Columns
from spmem.kernels.raster_torch import assign_first, cull, hits
from spmem.types import Frame

TAPS = 2
"""A plane is fitted to every other pixel, as on a chessboard, of (2 TAPS + 1)^2, ``spacing`` apart."""
SUPPORT = 5
"""Of these 13 so many must lie on the same surface."""
REACH = 0.8
"""Pixels from its centre that a new disc reaches, seen head on."""
STEEP = 0.25
"""Cosine of the viewing angle below which a disc gets no larger."""
CENTRAL = 0.8
"""Share of its radius within which a disc is shown by pixels."""
ALIGNED = 0.3
"""Cosine between two normals above which they may be of one surface."""
COARSE = 0.5
"""A disc gives way to pixels that see finer than this share of its radius."""
CARVE = 2.0
"""Confidence that a disc loses when the ray through its centre passes through it; seeing it adds at most 1."""
FORGET = 0.98
"""Per frame, what is left of the claim of the view that gave a disc its colour."""
SHARP, SHARPER = 1.5, 2.5
"""A view with more than SHARP times as many pixels on a disc as the claim takes its colour over; from SHARPER on, wholly."""
BLUNT, ALIKE = 0.25, 0.75
"""A view with no more than BLUNT times as many leaves the colour alone; from ALIKE on it counts in full."""


@dataclass(frozen=True)
class Fusing:
    """How frames become discs: lengths in world units, and the shares of :class:`spmem.config.FusionConfig`.

    by: Side of the blocks of pixels that are averaged first.
    """

    voxel: float
    by: int
    edge: float
    grazing: float
    merge: float
    max_confidence: float
    averages: bool
    time: float

    def step(self, K: Tensor) -> float:
        """Share by which a pixel's depth may differ from its neighbour's within a surface; more where pixels are large."""
        return max(self.edge, 8 / float(K[0, 0]))


@dataclass(frozen=True, eq=False)
class Observed:
    """A frame made ready; normals in camera axes, weight 0 where a pixel is not used."""

    depth: Float[Tensor, "h w"]
    normal: Float[Tensor, "h w 3"]
    weight: Float[Tensor, "h w"]
    rgb: Float[Tensor, "h w 3"]
    K: Float[Tensor, "3 3"]
    c2w: Float[Tensor, "4 4"]


def fuse(columns: Columns, frame: Frame, how: Fusing) -> Int[Tensor, "h w"]:
    """Merge a frame with depth; the row of each pixel, -1 where it went into none."""
    seen, used = prepare(frame, how)
    w2c = frame.camera.w2c
    h, w = seen.depth.shape
    share = columns.radius * CENTRAL
    kept, disc, box = cull(
        columns.position, columns.normal, share, columns.confidence, w2c, seen.K, w, h, 1e-6
    )
    shown = match(columns.radius[kept], disc, box, seen, how)
    retire(columns, kept, disc, shown, seen, w2c, how)
    merge(columns, kept, disc, shown, seen, how)
    shown = shown.reshape(-1)
    ids = torch.where(shown >= 0, kept[shown.clamp(min=0)] if len(kept) else shown, shown)
    new = ((seen.weight.reshape(-1) > 0) & (shown < 0)).nonzero()[:, 0]
    segment, cell, sums = gather(seen, new, how.voxel)
    rows = create(columns, cell, sums, how)
    ids[new] = rows[segment]
    return named(ids.reshape(h, w), used, how.by)


def named(ids: Int[Tensor, "h w"], used: Bool[Tensor, "hh ww"], by: int) -> Int[Tensor, "hh ww"]:
    """Rows of blocks as rows of their pixels; -1 for pixels that were not used."""
    if by == 1:
        return ids
    height, width = used.shape
    ids = ids.repeat_interleave(by, 0).repeat_interleave(by, 1)[:height, :width]
    return torch.where(used, ids, torch.full_like(ids, -1))


def prepare(frame: Frame, how: Fusing) -> tuple[Observed, Bool[Tensor, "hh ww"]]:
    """The frame in blocks of ``how.by`` pixels, ready for fusion, and the pixels that went into the blocks."""
    assert frame.depth is not None
    depth, rgb, K = frame.depth, frame.rgb_float(), frame.camera.K
    confidence = torch.ones_like(depth) if frame.confidence is None else frame.confidence
    step = how.step(K)
    used = ~beside_step(depth, step) & (depth > 0)
    if how.by > 1:
        K = K.clone()
        K[:2] /= how.by
        depth, confidence, rgb = reduce(depth, confidence, rgb, used, how.by)
    else:
        confidence = confidence * used
    spacing = max(1, round(depth.shape[1] / 320))
    normal, weight = fit(
        depth, confidence, K, spacing=spacing, step=step, grazing=how.grazing, reference=how.voxel
    )
    depth = depth * (weight > 0)
    return Observed(depth, normal, weight, rgb, K, frame.camera.c2w), used


def beside_step(depth: Float[Tensor, "h w"], step: float) -> Bool[Tensor, "h w"]:
    """Pixels with a neighbour (of eight) whose depth differs by more than the share ``step``: they may be mixed."""
    h, w = depth.shape
    padded = pad(depth, (1,) * 4)
    beside = torch.zeros_like(depth, dtype=torch.bool)
    for dy in range(3):
        for dx in range(3):
            other = padded[dy : dy + h, dx : dx + w]
            beside |= (other > 0) & ((other - depth).abs() > step * depth)
    return beside


def reduce(
    depth: Float[Tensor, "h w"],
    confidence: Float[Tensor, "h w"],
    rgb: Float[Tensor, "h w 3"],
    used: Bool[Tensor, "h w"],
    by: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Means of blocks of ``by`` x ``by`` pixels over those used: depth (through its inverse), confidence, colour."""
    h, w = depth.shape
    inverse = torch.where(used, 1 / depth.clamp(min=1e-30), torch.zeros_like(depth))
    parts = [used.to(depth), inverse, confidence * used, *(rgb * used[..., None]).unbind(-1)]
    padded = pad(torch.stack(parts), (0, -w % by, 0, -h % by))
    sums = padded.unflatten(1, (-1, by)).unflatten(3, (-1, by)).sum((2, 4))
    n = sums[0].clamp(min=1)
    small = torch.where(sums[0] > 0, sums[0] / sums[1].clamp(min=1e-30), torch.zeros_like(n))
    return small, sums[2] / n, (sums[3:] / n).movedim(0, -1)


def fit(
    depth: Float[Tensor, "h w"],
    confidence: Float[Tensor, "h w"],
    K: Float[Tensor, "3 3"],
    *,
    spacing: int,
    step: float,
    grazing: float,
    reference: float,
) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
    """Unit normals towards the camera (camera axes, 0 where unknown) and fusion weights (0 = not to be used).

    A plane's inverse depth is affine in the pixel, a dx + b dy + c, and (a, b, c) is its normal: a masked least squares
    over the neighbourhood gives it with the noise model of a disparity sensor. Left out: pixels with little support, or
    seen more obliquely than ``grazing``. Weight: cosine x min(1, (reference x focal length / depth)^2) x confidence.
    """
    h, w = depth.shape
    margin = TAPS * spacing
    q0 = torch.where(depth > 0, 1 / depth.clamp(min=1e-30), torch.zeros_like(depth))
    padded = pad(q0, (margin,) * 4)
    n, sx, sy, sxx, sxy, syy, sq, sxq, syq = (torch.zeros_like(depth) for _ in range(9))
    for j in range(-TAPS, TAPS + 1):
        for i in range(-TAPS + j % 2, TAPS + 1, 2):
            y, x = margin + j * spacing, margin + i * spacing
            q = padded[y : y + h, x : x + w]
            off = q - q0
            use = ((q > 0) & (off.abs() <= 1.5 * step * q)).to(depth)
            off = off * use
            n, sx, sy = n + use, sx + i * use, sy + j * use
            sxx, sxy, syy = sxx + i * i * use, sxy + i * j * use, syy + j * j * use
            sq, sxq, syq = sq + off, sxq + i * off, syq + j * off
    n1 = n.clamp(min=1)
    cxx, cxy, cyy = sxx - sx * sx / n1, sxy - sx * sy / n1, syy - sy * sy / n1
    cxq, cyq = sxq - sx * sq / n1, syq - sy * sq / n1
    det = cxx * cyy - cxy * cxy
    sure = (depth > 0) & (n >= SUPPORT) & (det > 1)
    det = torch.where(det > 1, det, torch.ones_like(det))
    a = (cyy * cxq - cxy * cyq) / det / spacing * K[0, 0]
    b = (cxx * cyq - cxy * cxq) / det / spacing * K[1, 1]
    ray = rays(K, w, h)
    c = q0 - a * ray[..., 0] - b * ray[..., 1]
    normal = -normalize(torch.stack([a, b, c], -1), dim=-1) * sure[..., None]
    cosine = -(normal * ray).sum(-1) / ray.norm(dim=-1)
    near = (q0 * reference * K[0, 0]).square().clamp(max=1)
    weight: Tensor = (sure & (cosine > grazing)) * cosine * near * confidence
    return normal, weight


def finest(disc: Float[Tensor, "m 7"], K: Tensor, voxel: float) -> Float[Tensor, " m"]:
    """The radius that new discs would have where these are seen."""
    centre, normal = disc[:, :3], disc[:, 3:6]
    cosine = -(centre * normal).sum(-1) / centre.norm(dim=-1)
    radius: Tensor = REACH * centre[:, 2] / K[0, 0] / cosine.clamp(min=STEEP)
    return radius.clamp(min=voxel)


def match(
    radius: Float[Tensor, " m"],
    disc: Float[Tensor, "m 7"],
    box: Int[Tensor, "m 4"],
    seen: Observed,
    how: Fusing,
) -> Int[Tensor, "h w"]:
    """The disc that each used pixel shows, -1 = none.

    It is the one whose centre is nearest to the hit, in radii, of those within ``merge`` x depth of the observed point
    whose normals agree. (The hit nearest in depth would be the wrong one: among neighbours at different depths each
    would draw the pixels that confirm its error, and nothing would be averaged.) Discs that face away, and those that
    pixels here see too finely for, are not shown.
    """
    facing = (disc[:, :3] * disc[:, 3:6]).sum(-1) < 0
    fine = finest(disc, seen.K, how.voxel) >= COARSE * radius
    may = (facing & fine).nonzero()[:, 0]
    h, w = seen.depth.shape
    z0, n0 = seen.depth.reshape(-1), seen.normal.reshape(-1, 3)
    least, shown = torch.full_like(z0, torch.inf), may.new_full((h * w,), -1)
    for m, pixel, z, off in hits(disc[may], box[may], seen.K, w):
        same = (z - z0[pixel]).abs() <= how.merge * z0[pixel]
        same &= (disc[may[m], 3:6] * n0[pixel]).sum(-1) > ALIGNED
        m, pixel, off = may[m[same]], pixel[same], off[same]
        better = off < least[pixel]
        least.scatter_reduce_(0, pixel, off, "amin")
        assign_first(shown, better & (off == least[pixel]), pixel, m)
    return shown.reshape(h, w)


def retire(
    columns: Columns,
    kept: Int[Tensor, " m"],
    disc: Float[Tensor, "m 7"],
    shown: Int[Tensor, "h w"],
    seen: Observed,
    w2c: Tensor,
    how: Fusing,
) -> None:
    """Take confidence from unshown discs through whose centres rays pass, and all of it from coarse ones seen there."""
    met = torch.zeros(columns.n, dtype=torch.bool, device=kept.device)
    met[kept[shown[shown >= 0]]] = True
    centre = columns.position @ w2c[:3, :3].T + w2c[:3, 3]
    depth, seen_at, _ = at_centre(centre, seen)
    idle = (columns.confidence > 0) & (centre[:, 2] > 1e-6) & ~met
    normal = columns.normal @ w2c[:3, :3].T
    facing = (normal * centre).sum(-1) < 0
    discs = torch.cat([centre, normal, columns.radius[:, None]], -1)
    coarse = finest(discs, seen.K, how.voxel) < COARSE * columns.radius
    coarse &= idle & facing & ((depth - seen_at).abs() <= how.merge * seen_at)
    through = idle & (depth < seen_at * (1 - how.merge))
    left = (columns.confidence - CARVE * through).clamp(min=0)
    columns.confidence[:] = left * ~coarse


def at_centre(centre: Float[Tensor, "m 3"], seen: Observed) -> tuple[Tensor, Tensor, Tensor]:
    """Depth of points (camera axes), and depth (0 = none) and normal of the pixels that show them."""
    h, w = seen.depth.shape
    z = centre[:, 2]
    safe = torch.where(z > 0, z, torch.ones_like(z))
    x = (centre[:, 0] / safe * seen.K[0, 0] + seen.K[0, 2]).floor()
    y = (centre[:, 1] / safe * seen.K[1, 1] + seen.K[1, 2]).floor()
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    pixel = (y.clamp(0, h - 1) * w + x.clamp(0, w - 1)).long()
    return z, seen.depth.reshape(-1)[pixel] * inside, seen.normal.reshape(-1, 3)[pixel]


def merge(
    columns: Columns,
    kept: Int[Tensor, " m"],
    disc: Float[Tensor, "m 7"],
    shown: Int[Tensor, "h w"],
    seen: Observed,
    how: Fusing,
) -> None:
    """Running means of the discs that pixels show."""
    h, w = seen.depth.shape
    pixels = (shown.reshape(-1) >= 0).nonzero()[:, 0]
    m = shown.reshape(-1)[pixels]
    point = rays(seen.K, w, h).reshape(-1, 3)[pixels] * seen.depth.reshape(-1)[pixels, None]
    weight = seen.weight.reshape(-1)[pixels, None]
    value = torch.cat([point, seen.rgb.reshape(-1, 3)[pixels], torch.ones_like(weight)], -1)
    value = torch.cat([weight, weight * value[:, :6], value[:, 6:]], -1)
    sums = value.new_zeros(len(kept), 8).index_add_(0, m, value)
    met = (sums[:, 0] > 0).nonzero()[:, 0]
    row, sums, disc = kept[met], sums[met], disc[met]
    columns.last_seen[row] = columns.last_seen[row].clamp(min=how.time)
    if not how.averages or not len(row):
        return
    total, centre, normal = sums[:, :1], disc[:, :3], disc[:, 3:6]
    mean, before = sums[:, 0] / sums[:, 7], columns.confidence[row]
    gain = (mean / (before + mean))[:, None]
    off = ((sums[:, 1:4] / total - centre) * normal).sum(-1, keepdim=True)
    columns.position[row] += columns.normal[row] * off * gain
    depth, seen_at, normal_at = at_centre(centre, seen)
    shows = (depth - seen_at).abs() <= how.merge * seen_at
    normal = normalize(normal + (normal_at - normal) * gain * shows[:, None], dim=-1)
    columns.normal[row] = normal @ seen.c2w[:3, :3].T
    detail, faded = (how.voxel * seen.K[0, 0] / depth).square(), columns.detail[row] * FORGET
    ratio = (detail / faded)[:, None]
    alike = ((ratio - BLUNT) / (ALIKE - BLUNT)).clamp(0, 1) * gain
    share = torch.maximum(((ratio - SHARP) / (SHARPER - SHARP)).clamp(0, 1), alike)
    columns.detail[row] = torch.maximum(detail, faded)
    columns.colour[row] += (sums[:, 4:7] / total - columns.colour[row]) * share
    columns.confidence[row] = (before + mean).clamp(max=how.max_confidence)
    columns.widen(row)


def gather(
    seen: Observed, pixels: Int[Tensor, " p"], voxel: float
) -> tuple[Int[Tensor, " p"], Int[Tensor, "s 4"], Float[Tensor, "s 13"]]:
    """New discs, one for each voxel and main direction: of each pixel its disc, of each disc voxel and sums.

    Sums over the disc's pixels of 1, weight, and weighted point, normal (world axes), colour, radius and detail. Discs
    are numbered by their first pixels.
    """
    h, w = seen.depth.shape
    ray = rays(seen.K, w, h).reshape(-1, 3)[pixels]
    normal, z = seen.normal.reshape(-1, 3)[pixels], seen.depth.reshape(-1)[pixels]
    cosine = -(normal * ray).sum(-1) / ray.norm(dim=-1)
    footprint = z / seen.K[0, 0]
    radius = (REACH * footprint / cosine.clamp(min=STEEP)).clamp(min=voxel)
    R, t = seen.c2w[:3, :3], seen.c2w[:3, 3]
    point, normal = (ray * z[:, None]) @ R.T + t, normal @ R.T
    axis = normal.abs().argmax(-1, keepdim=True)
    side = 2 * axis + (normal.gather(1, axis) > 0)
    count, segment, first = group(torch.cat([(point / voxel).floor().long(), side], -1))
    detail = (voxel / footprint).square()
    rgb, weight = seen.rgb.reshape(-1, 3)[pixels], seen.weight.reshape(-1)[pixels, None]
    value = torch.cat([point, normal, rgb, torch.stack([radius, detail], -1)], -1)
    value = torch.cat([torch.ones_like(weight), weight, value * weight], -1)
    cell = (point[first] / voxel).floor().long()
    return segment, cell, value.new_zeros(count, 13).index_add_(0, segment, value)


def group(
    keys: Int[Tensor, "p c"],
) -> tuple[int, Int[Tensor, " p"], Int[Tensor, " s"]]:
    """Number of distinct rows, each row's group, and the first row of each group, by which groups are numbered."""
    _, inverse = torch.unique(keys, dim=0, return_inverse=True)
    count = int(inverse.max()) + 1 if len(inverse) else 0
    first = inverse.new_full((count,), len(inverse))
    first.scatter_reduce_(0, inverse, torch.arange(len(inverse), device=keys.device), "amin")
    first, order = first.sort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count, device=keys.device)
    return count, rank[inverse], first


def create(
    columns: Columns, cell: Int[Tensor, "s 3"], sums: Float[Tensor, "s 13"], how: Fusing
) -> Int[Tensor, " s"]:
    """New discs, the means of their pixels; their rows."""
    mean = sums[:, 2:] / sums[:, 1:2]
    when = torch.full_like(sums[:, 0], how.time)
    rows = {
        "position": mean[:, :3],
        "normal": normalize(mean[:, 3:6], dim=-1),
        "colour": mean[:, 6:9],
        "radius": mean[:, 9],
        "detail": mean[:, 10],
        "confidence": sums[:, 1] / sums[:, 0],
        "first_seen": when,
        "last_seen": when,
    }
    return columns.append(rows, cell)
