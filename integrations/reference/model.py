"""The generator's network: a diffusion transformer over a short clip, conditioned on memory in every published form.

Its layers are those of :mod:`spmem.integrations.reference.layers`. Suffixes name axes: B clips, F frames, P patches of a
frame, R reference keyframes, D width, C channels, H x W pixels.

Sources: flow matching as Lipman et al. (arXiv 2210.02747), here predicting the clean frames; a noise level of its own
for each frame, Diffusion Forcing (arXiv 2407.01392); one network modulates all layers as in PixArt-alpha (arXiv
2310.00426); the branch with zero-initialised output, ControlNet (arXiv 2302.05543); the memory forms: see
:class:`Conditions`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spmem.integrations.reference.config import NANO, ModelConfig
from spmem.integrations.reference.layers import Layer, causal_window, zero

RAYS = 6


class Conditions(NamedTuple):
    """What a clip is conditioned on. A form that is left out is all zeros, which no real one is: its masks are 0.

    rays ``[B, F, 6, H, W]``: Plücker rays of all frames, relative to the first new one, in units of the clip's scale.
    projection ``[B, F, 5, H, W]``: colour, depth and coverage mask of the scene rendered along the cameras: form (a), as
    long-term spatial memory (arXiv 2506.05284, section 3.3) and Spatia (arXiv 2512.15716, section 3).
    references ``[B, R, 11, H, W]``: colour, depth, rays and 1 of retrieved keyframes: form (b), as in both.
    warped ``[B, F, 8, H, W]``: per pixel the colour and depth of the keyframe that saw it, where in it it lies (x, y in
    -1..1, and which), and 1: form (d), after the warped coordinates of Lyra 2.0 (arXiv 2604.13036).

    Colour and depth lie in -1..1; depth d at scale s is (d - s) / (d + s). Recent frames, form (c), are no condition:
    they are the clip's first frames, without noise.
    """

    rays: Float[Tensor, "b f 6 h w"]
    projection: Float[Tensor, "b f 5 h w"]
    references: Float[Tensor, "b r 11 h w"]
    warped: Float[Tensor, "b f 8 h w"]

    def to(self, device: torch.device) -> Conditions:
        """The same on another device."""
        return Conditions(*(tensor.to(device) for tensor in self))


class WorldModel(nn.Module):
    """Predicts the clean frames of a clip from noisy ones.

    Every pixel of the answer is what the network draws plus shares, which it gives too, of the pixels that lie there
    already: in the noisy frame, in the projection, among the warped. All of these are 0 at first, so that memory comes
    in without a shock, and what memory shows sharply need not be drawn again.
    """

    def __init__(self, config: ModelConfig = NANO) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        """Keep no layer's activations for the backward pass: less memory, a third more time."""
        width, area, patches = config.width, config.patch**2, config.grid**2
        self.patches = nn.Linear(area * config.channels, width)
        self.rays = nn.Linear(area * RAYS, width)
        self.place = nn.Parameter(0.02 * torch.randn(patches, width))
        self.order = nn.Parameter(0.02 * torch.randn(config.frames, width))
        self.noise = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.modulation = zero(nn.Linear(width, 6 * width))
        with torch.no_grad():  # the gates of attention and MLP are open from the beginning
            self.modulation.bias.view(6, width)[[2, 5]] = 1.0
        scans = config.backbone == "state-space"
        self.layers = nn.ModuleList(
            Layer(config, i, looks=config.references and i % 2 == 1, scans=scans)
            for i in range(config.layers)
        )
        self.branch = nn.ModuleList()
        if config.projection or config.warp:
            seen = 5 * config.projection + 8 * config.warp
            self.seen = nn.Linear(area * seen, width)
            self.branch.extend(
                Layer(config, i, looks=False, scans=False) for i in range(config.branch)
            )
            self.zero = nn.ModuleList(zero(nn.Linear(width, width)) for _ in range(config.branch))
        if config.references:
            self.references = nn.Linear(area * 11, width)
            self.nothing = nn.Parameter(0.02 * torch.randn(width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        shares = 1 + config.projection + config.warp
        self.draw = zero(nn.Linear(width, area * (config.channels + shares)))
        last = nn.Conv2d(config.refine, config.channels, 3, padding=1)
        for value in last.parameters():
            nn.init.zeros_(value)
        seen = config.channels * (1 + shares) + 1
        self.refine = nn.Sequential(nn.Conv2d(seen, config.refine, 3, padding=1), nn.SiLU(), last)

    def forward(
        self,
        video_BFCHW: Float[Tensor, "b f c h w"],
        noise_BF: Float[Tensor, "b f"],
        given: Conditions,
        state: list[Tensor] | None = None,
        leaving: int = 0,
    ) -> tuple[Float[Tensor, "b f c h w"], list[Tensor]]:
        """The clean frames, and what the scans keep.

        Args:
            video_BFCHW: ``(1 - s) x + s e`` for frames x in -1..1, noise e, and s each frame's own level.
            noise_BF: The levels, 0 = clean to 1 = noise.
            given: Rays and memory.
            state: What an earlier call kept, of the frames before this clip; None at the beginning, and always for the
                attention backbone.
            leaving: Number of frames at the clip's beginning whose state is kept.
        """
        config = self.config
        frames = video_BFCHW.shape[1]
        x = self.patches(_pixels_to_patches(video_BFCHW, config.patch))
        x = x + self.rays(_pixels_to_patches(given.rays, config.patch))
        x = x + self.place + self.order[:frames, None]
        noise = self.modulation(self.noise(_embed_noise_level(noise_BF, config.width).to(x.dtype)))
        noise = noise.unflatten(-1, (6, -1))
        mask = causal_window(frames, config.grid**2, config.window, x.device)
        hints = self._branch_hints(x, noise, given)
        references, known = self._encode_references(given) if config.references else (None, None)
        kept: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            if i in hints:
                x = x + hints[i]
            before = state[i] if state else None
            given_ = (x, noise, mask, references, known, before, leaving)
            if self.recompute and self.training:
                x, after = checkpoint(layer, *given_, use_reentrant=False)
            else:
                x, after = layer(*given_)
            kept += [] if after is None else [after]
        drawn = _patches_to_pixels(self.draw(self.norm(x)), config.patch, config.grid)
        return self._blend_sources(drawn.float(), video_BFCHW, noise_BF, given), kept

    def _branch_hints(self, x: Tensor, noise: Tensor, given: Conditions) -> dict[int, Tensor]:
        """What the branch adds before which layer."""
        config = self.config
        if not len(self.branch):
            return {}
        seen = [given.projection] * config.projection + [given.warped] * config.warp
        h = x + self.seen(_pixels_to_patches(torch.cat(seen, 2), config.patch))
        hints = {}
        for i, (layer, output) in enumerate(zip(self.branch, self.zero, strict=True)):
            h, _ = layer(h, noise, None)
            hints[i * config.layers // len(self.branch)] = output(h)
        return hints

    def _encode_references(self, given: Conditions) -> tuple[Tensor, Tensor]:
        """Tokens ``[B, 1 + R x P, D]`` of the references, after one that says nothing, and which of them are there."""
        tokens = (
            self.references(_pixels_to_patches(given.references, self.config.patch)) + self.place
        )
        known = given.references[:, :, -1, 0, 0] > 0
        known = known[..., None].expand(tokens.shape[:3]).flatten(1)
        nothing = self.nothing.to(tokens.dtype).expand(len(tokens), 1, -1)
        return (
            torch.cat([nothing, tokens.flatten(1, 2)], 1),
            torch.cat([known.new_ones(len(known), 1), known], 1),
        )

    def _blend_sources(
        self, drawn: Tensor, video: Tensor, noise_BF: Tensor, given: Conditions
    ) -> Tensor:
        """What the network draws, its shares of what lies there, and the mended seams."""
        config = self.config
        answer, shares = drawn[:, :, : config.channels], drawn[:, :, config.channels :].unbind(2)
        seen = [given.projection] * config.projection + [given.warped] * config.warp
        sources = [video, *(one[:, :, : config.channels] * one[:, :, -1:] for one in seen)]
        for share, source in zip(shares, sources, strict=True):
            answer = answer + share[:, :, None] * source
        level = noise_BF[:, :, None, None, None].expand_as(answer[:, :, :1]).to(answer.dtype)
        pixels = torch.cat([answer, *sources, level], 2)
        mended: Tensor = self.refine(pixels.flatten(0, 1)).view(answer.shape)
        return answer + mended


def _pixels_to_patches(pixels: Tensor, patch: int) -> Tensor:
    """``[B, F, C, H, W]`` to ``[B, F, P, C x patch x patch]``."""
    x: Tensor = pixels.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3)


def _patches_to_pixels(tokens: Tensor, patch: int, grid: int) -> Tensor:
    """The inverse of :func:`_pixels_to_patches`."""
    x: Tensor = tokens.unflatten(-1, (-1, patch, patch)).unflatten(2, (grid, grid))
    return x.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4)


def _embed_noise_level(level: Tensor, width: int) -> Tensor:
    """Sines and cosines of a noise level."""
    speed = torch.exp(torch.linspace(0, math.log(1000.0), width // 2, device=level.device))
    angle = level.float()[..., None] * speed
    return torch.cat([angle.sin(), angle.cos()], -1)
