"""From frames and memory to the network's numbers, and back: the same for training and for generating."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from spmem.geometry import plucker_rays
from spmem.integrations.reference.model import Conditions

SEES = 0.05
"""A keyframe saw a point where its depth there differs by at most this share."""


class Clip(NamedTuple):
    """B clips of F frames, with what memory says about them; colour in [0, 1], depth in world units, 0 = none.

    rgb ``[B, F, H, W, 3]`` and depth ``[B, F, H, W]``: the frames, as far as they are there. projected_rgb, projected_depth
    and projected_mask, of the same shapes: the scene rendered along the cameras; False where memory says nothing.
    reference_rgb ``[B, R, H, W, 3]``, reference_depth, reference_K, reference_c2w and known ``[B, R]``: the keyframes, and
    which of them are there. first: the index of the first new frame, to whose camera everything is relative.
    """

    rgb: Float[Tensor, "b f h w 3"]
    depth: Float[Tensor, "b f h w"]
    K: Float[Tensor, "b f 3 3"]
    c2w: Float[Tensor, "b f 4 4"]
    projected_rgb: Float[Tensor, "b f h w 3"]
    projected_depth: Float[Tensor, "b f h w"]
    projected_mask: Bool[Tensor, "b f h w"]
    reference_rgb: Float[Tensor, "b r h w 3"]
    reference_depth: Float[Tensor, "b r h w"]
    reference_K: Float[Tensor, "b r 3 3"]
    reference_c2w: Float[Tensor, "b r 4 4"]
    known: Bool[Tensor, "b r"]
    first: int

    def scale(self) -> Float[Tensor, " b"]:
        """World units that depth is measured in: the median depth of the frames that are there, else of what memory shows.

        1 where there is no depth at all. New frames do not count.
        """
        seen = [self.depth[:, : self.first], self.projected_depth * self.projected_mask]
        seen.append(self.reference_depth * self.known[..., None, None])
        scale = torch.ones(len(self.rgb), device=self.rgb.device)
        for depth in reversed(seen):
            flat = depth.flatten(1)
            middle = torch.where(flat > 0, flat, torch.nan).nanmedian(1).values
            scale = torch.where(middle.isnan(), scale, middle)
        return scale


def frames_in(clip: Clip, scale: Float[Tensor, " b"]) -> Float[Tensor, "b f 4 h w"]:
    """The frames as the network draws them: colour and depth in -1..1."""
    return _encode_rgbd(clip.rgb, clip.depth, scale)


def frames_out(
    drawn: Float[Tensor, "b f c h w"], scale: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b f h w 3"], Float[Tensor, "b f h w"] | None]:
    """Colour in [0, 1] and z-depth in world units (None where the network draws none), of what it drew."""
    rgb = (drawn[:, :, :3].movedim(2, -1) / 2 + 0.5).clamp(0, 1)
    if drawn.shape[2] == 3:
        return rgb, None
    share = drawn[:, :, 3].clamp(-0.98, 0.98)
    return rgb, scale[:, None, None, None] * (1 + share) / (1 - share)


def rescaled(
    drawn: Float[Tensor, "b f c h w"],
    scale: Float[Tensor, " b"],
    to: Float[Tensor, " b"],
) -> Float[Tensor, "b f c h w"]:
    """The same frames as a clip of another scale has them."""
    rgb, depth = frames_out(drawn, scale)
    return rgb.movedim(-1, 2) * 2 - 1 if depth is None else _encode_rgbd(rgb, depth, to)


def conditions(clip: Clip, scale: Float[Tensor, " b"]) -> Conditions:
    """All forms of memory; :class:`Conditions` says what they hold. Any of them can be zeroed afterwards."""
    height, width = clip.rgb.shape[2:4]
    origin = torch.linalg.inv(clip.c2w[:, clip.first, None])
    mask = clip.projected_mask[:, :, None].float()
    shown = _encode_rgbd(clip.projected_rgb, clip.projected_depth, scale) * mask
    there = clip.known[:, :, None, None, None].float()
    references = torch.cat(
        [
            _encode_rgbd(clip.reference_rgb, clip.reference_depth, scale),
            _encode_rays(clip.reference_K, origin @ clip.reference_c2w, scale, height, width),
        ],
        2,
    )
    return Conditions(
        rays=_encode_rays(clip.K, origin @ clip.c2w, scale, height, width),
        projection=torch.cat([shown, mask], 2),
        references=torch.cat([references, torch.ones_like(references[:, :, :1])], 2) * there,
        warped=warp_keyframes(clip, scale),
    )


def warp_keyframes(clip: Clip, scale: Float[Tensor, " b"]) -> Float[Tensor, "b f 8 h w"]:
    """The keyframes' pixels at the new cameras, through the projection's depth: :class:`Conditions` says which channels.

    A pixel is the first keyframe's that saw its point, by depth within :data:`SEES`; 0 where none did.
    """
    b, f, h, w = clip.projected_depth.shape
    r = clip.known.shape[1]
    rays = _camera_rays(clip.K, h, w)
    points = clip.projected_depth[..., None] * rays  # [b, f, h, w, 3]
    to = torch.linalg.inv(clip.reference_c2w)[:, None] @ clip.c2w[:, :, None]  # [b, f, r, 4, 4]
    there = (
        torch.einsum("bfrij,bfhwj->bfrhwi", to[..., :3, :3], points) + to[..., None, None, :3, 3]
    )
    pixel = torch.einsum("brij,bfrhwj->bfrhwi", clip.reference_K, there)
    depth = there[..., 2]
    xy = pixel[..., :2] / depth.clamp(min=1e-6)[..., None] / xy_size(w, h, depth) * 2 - 1
    grid = xy.transpose(1, 2).reshape(b * r, f * h, w, 2)
    colour = _encode_rgbd(clip.reference_rgb, clip.reference_depth, scale)[:, :, :3].flatten(0, 1)
    seen = clip.reference_depth.flatten(0, 1)[:, None]
    fetched = F.grid_sample(colour, grid, padding_mode="border", align_corners=False)
    fetched = fetched.view(b, r, 3, f, h, w).permute(0, 3, 1, 4, 5, 2)
    saw = F.grid_sample(seen, grid, mode="nearest", align_corners=False)
    saw = saw.view(b, r, f, h, w).transpose(1, 2)
    valid = (depth > 1e-6) & (xy.abs() < 1).all(-1) & ((saw - depth).abs() < SEES * depth)
    valid &= clip.projected_mask[:, :, None] & clip.known[:, None, :, None, None]
    which = torch.linspace(-1, 1, r, device=xy.device)[:, None, None].expand_as(depth)
    own = _normalize_depth(clip.projected_depth, scale)[:, :, None].expand_as(depth)
    channels = torch.cat([fetched, torch.stack([own, *xy.unbind(-1), which], -1)], -1)
    channels = torch.cat([channels, torch.ones_like(channels[..., :1])], -1)
    first = valid & (valid.cumsum(2) == 1)
    return torch.where(first[..., None], channels, 0.0).sum(2).movedim(-1, 2)


def xy_size(width: int, height: int, like: Tensor) -> Float[Tensor, "2"]:
    """Width and height as a tensor."""
    return torch.tensor([width, height], dtype=like.dtype, device=like.device)


def _camera_rays(K: Tensor, h: int, w: int) -> Tensor:
    """Rays of unit depth in camera axes ``[..., H, W, 3]``."""
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).to(K)
    return torch.einsum("...ij,hwj->...hwi", torch.linalg.inv(K), pixels)


def _normalize_depth(depth: Tensor, scale: Tensor) -> Tensor:
    """Depth in -1..1: 0 at the scale, -1 for none."""
    unit = scale.view(-1, *[1] * (depth.ndim - 1))
    return (depth - unit) / (depth + unit)


def _encode_rgbd(rgb: Tensor, depth: Tensor, scale: Tensor) -> Tensor:
    return torch.cat([rgb * 2 - 1, _normalize_depth(depth, scale)[..., None]], -1).movedim(-1, 2)


def _encode_rays(K: Tensor, c2w: Tensor, scale: Tensor, h: int, w: int) -> Tensor:
    c2w = c2w.clone()
    c2w[..., :3, 3] /= scale[:, None, None]
    return plucker_rays(K, c2w, w, h).movedim(-1, 2)
