"""The generator's network: a diffusion transformer over a short clip, conditioned on memory in every published form.

It reads top to bottom: configuration, attention, the state-space layer, a layer, the model. Suffixes name axes: B clips,
F frames, P patches of a frame, R reference keyframes, L = F x P tokens, D width, C channels, H x W pixels.

Sources: flow matching as Lipman et al. (arXiv 2210.02747), here predicting the clean frames; a noise level of its own
for each frame, Diffusion Forcing (arXiv 2407.01392); modulation by the noise level, DiT (arXiv 2212.09748), one
network for all layers as in PixArt-alpha (arXiv 2310.00426); the branch with zero-initialised output, ControlNet (arXiv
2302.05543); the memory forms: see :class:`Conditions`; the state-space layer: see :class:`StateSpace`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spmem.errors import InputError

COLOURS = 3
RAYS = 6
ATTENTIONS = ("sdpa", "flex", "xformers")
BACKBONES = ("attention", "state-space")


@dataclass(frozen=True)
class ModelConfig:
    """What the network is. Switches of memory can be off in a model; one that is on can still be left out of a call.

    size: Pixels of a side; frames are square.
    patch: Pixels of a token's side.
    history: Frames of a clip that are there already, at its beginning.
    chunk: Frames of a clip that are new.
    keyframes: References looked at, at most.
    width: Of the tokens.
    layers: Of the main stream.
    heads: Of attention.
    branch: Layers of the branch that reads projection and warped pixels.
    window: Frames that a frame attends to, itself included.
    backbone: ``attention``, or ``state-space``: a state-space scan over time in every layer, beside attention in the
        window.
    block: Patches of a side of the blocks that are scanned, of every second layer; twice that of the others.
    states: Numbers that a state-space head keeps for each of its channels.
    refine: Channels between the two convolutions that mend the seams of patches.
    depth: Predict depth beside colour.
    projection: Take the rendered scene, form (a).
    references: Take retrieved keyframes, form (b).
    recent: Take the last frames, form (c).
    warp: Take the keyframes' pixels and their coordinates, warped to the new cameras, form (d).
    attention: ``sdpa``; ``flex`` (flex_attention) and ``xformers`` are for CUDA.
    """

    size: int = 64
    patch: int = 8
    history: int = 2
    chunk: int = 4
    keyframes: int = 3
    width: int = 128
    layers: int = 4
    heads: int = 4
    branch: int = 1
    window: int = 6
    backbone: str = "attention"
    block: int = 4
    states: int = 16
    refine: int = 16
    depth: bool = True
    projection: bool = True
    references: bool = True
    recent: bool = True
    warp: bool = True
    attention: str = "sdpa"

    def __post_init__(self) -> None:
        for name, whole, part in (
            ("size", self.size, self.patch),
            ("width", self.width, self.heads),
            ("size / patch", self.grid, self.block),
        ):
            if part < 1 or whole < 1 or whole % part:
                raise InputError(f"{name} {whole} must be a multiple of {part}")
        for name, value, names in (
            ("backbone", self.backbone, BACKBONES),
            ("attention", self.attention, ATTENTIONS),
        ):
            if value not in names:
                raise InputError(f"{name} must be one of {', '.join(names)}, got {value!r}")

    @property
    def grid(self) -> int:
        """Patches of a frame's side."""
        return self.size // self.patch

    @property
    def channels(self) -> int:
        """Of a frame: colour, and depth where it is predicted."""
        return COLOURS + self.depth

    @property
    def frames(self) -> int:
        """Of a clip."""
        return self.history + self.chunk


NANO = ModelConfig()
SMALL = replace(
    NANO, size=128, history=4, window=8, width=512, layers=12, heads=8, branch=4, keyframes=4
)
BASE = replace(SMALL, size=256, patch=16, width=1024, layers=24, heads=16, branch=8)
SIZES = {"nano": NANO, "small": SMALL, "base": BASE}


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


# -- attention -----------------------------------------------------------------------------------------


def attend(
    q: Float[Tensor, "b h l d"],
    k: Float[Tensor, "b h m d"],
    v: Float[Tensor, "b h m d"],
    mask: Bool[Tensor, "*b l m"] | None,
    kind: str = "sdpa",
) -> Float[Tensor, "b h l d"]:
    """Attention where ``mask`` is True, by torch's SDPA, by flex_attention, or by xformers."""
    if kind == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, mask)
    if kind == "flex":
        from torch.nn.attention.flex_attention import flex_attention

        if mask is None:
            plain: Tensor = flex_attention(q, k, v)
            return plain
        allowed = mask.expand(len(q), 1, *mask.shape[-2:])

        def score(value: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return torch.where(allowed[b, 0, i, j], value, -math.inf)

        masked: Tensor = flex_attention(q, k, v, score_mod=score)
        return masked
    from xformers.ops import memory_efficient_attention

    bias = None
    if mask is not None:
        bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
        bias = bias.expand(*q.shape[:2], *mask.shape[-2:])
    swapped = (t.transpose(1, 2) for t in (q, k, v))
    mixed: Tensor = memory_efficient_attention(*swapped, bias).transpose(1, 2)
    return mixed


def causal_window(
    frames: int, patches: int, window: int, device: torch.device | None = None
) -> Bool[Tensor, "l l"]:
    """Tokens of frame i may look at those of frames i - window + 1 to i."""
    frame = torch.arange(frames, device=device).repeat_interleave(patches)
    back = frame[:, None] - frame
    return (back >= 0) & (back < window)


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys, of tokens to themselves or to others."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.kind = config.heads, config.attention
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.norm_q = nn.RMSNorm(width // config.heads)
        self.norm_k = nn.RMSNorm(width // config.heads)
        self.out = nn.Linear(width, width)

    def forward(self, x_BLD: Tensor, others_BMD: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens of the same shape as ``x_BLD``."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q(x_BLD), *self.kv(others_BMD).chunk(2, -1))
        )
        q, k = self.norm_q(q).to(v.dtype), self.norm_k(k).to(v.dtype)
        mixed: Tensor = self.out(attend(q, k, v, mask, self.kind).transpose(1, 2).flatten(2))
        return mixed


# -- the state-space layer -------------------------------------------------------------------------------


class StateSpace(nn.Module):
    """A scan over time of each block of patches, which keeps a state of constant size.

    Blocks over space and a scan over time are those of long-context state-space video world models (LSSVWM, arXiv
    2505.20171, section 3.2); the recurrence is Mamba-2's with a scalar decay a head, computed for a clip at once in its
    dual form (arXiv 2405.21060, section 6): ``S' = a S + b x``, ``y = c S'``.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        width, self.heads, self.states = config.width, config.heads, config.states
        self.grid = config.grid
        self.side = min(config.block * (1 + layer % 2), config.grid)
        self.inputs = nn.Linear(width, 2 * width + 2 * self.states + self.heads)
        self.bias = nn.Parameter(torch.linspace(-5, -1, self.heads))
        self.norm = nn.RMSNorm(width)
        self.out = _zero(nn.Linear(width, width))

    def forward(
        self, x_BFPD: Tensor, state: Tensor | None, leaving: int
    ) -> tuple[Tensor, Float[Tensor, "n heads states d"]]:
        """Tokens of the same shape, and the state after the first ``leaving`` frames."""
        b, f, _p, d = x_BFPD.shape
        x, gate, keys, queries, step = self.inputs(self._blocks(x_BFPD)).split(
            (d, d, self.states, self.states, self.heads), -1
        )
        x = x.unflatten(-1, (self.heads, -1)).transpose(1, 2).float()  # [n, heads, l, d]
        step = F.softplus(step + self.bias).transpose(1, 2).float()  # [n, heads, l]
        since = (-step).cumsum(-1)  # log of how much is left at l of what was there before the clip
        decay = (since[..., :, None] - since[..., None, :]).tril().exp().tril()
        alike = torch.einsum("nls,nms->nlm", queries.float(), keys.float())[:, None]
        given = x * step[..., None]
        y = (alike * decay) @ given
        last = leaving * self.side**2
        kept = state
        if state is not None:
            read = torch.einsum("nls,nhsd->nhld", queries.float(), state)
            y = y + read * since.exp()[..., None]
        if last:
            left = (since[..., last - 1, None] - since[..., :last]).exp()
            written = torch.einsum(
                "nls,nhld->nhsd", keys[:, :last].float(), given[:, :, :last] * left[..., None]
            )
            kept = written
            if state is not None:
                kept = written + state * since[..., last - 1, None, None].exp()
        if kept is None:
            kept = x.new_zeros(len(x), self.heads, self.states, x.shape[-1])
        y = y.transpose(1, 2).flatten(2).to(gate.dtype)
        return self._frames(self.out(self.norm(y * F.silu(gate)).to(gate.dtype)), b, f), kept

    def _blocks(self, x_BFPD: Tensor) -> Tensor:
        """``[B x blocks, F x side x side, D]``: time goes slowest, a block's patches row by row."""
        n, side = self.grid // self.side, self.side
        x: Tensor = x_BFPD.unflatten(2, (n, side, n, side)).permute(0, 2, 4, 1, 3, 5, 6)
        return x.flatten(3, 5).flatten(0, 2)

    def _frames(self, x: Tensor, b: int, f: int) -> Tensor:
        n, side = self.grid // self.side, self.side
        x = x.unflatten(0, (b, n, n)).unflatten(3, (f, side, side))
        whole: Tensor = x.permute(0, 3, 1, 4, 2, 5, 6).flatten(2, 5)
        return whole


# -- a layer ---------------------------------------------------------------------------------------------


class Layer(nn.Module):
    """Attention, the scan, a look at the references and an MLP, each modulated by its frame's noise level."""

    def __init__(self, config: ModelConfig, layer: int, *, looks: bool, scans: bool) -> None:
        super().__init__()
        width = config.width
        self.modulation = nn.Parameter(torch.zeros(6, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.attention = Attention(config)
        self.scan = StateSpace(config, layer) if scans else None
        self.look = Attention(config) if looks else None
        if self.look is not None:
            _zero(self.look.out)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )

    def forward(
        self,
        x_BFPD: Tensor,
        noise_BF6D: Tensor,
        mask: Tensor | None,
        references_BMD: Tensor | None = None,
        known_BM: Tensor | None = None,
        state: Tensor | None = None,
        leaving: int = 0,
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens of the same shape, and the scan's state."""
        shape = x_BFPD.shape
        change = (noise_BF6D + self.modulation)[:, :, None].unbind(3)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = change
        h = self.norms[0](x_BFPD) * (1 + scale_a) + shift_a
        if mask is None:  # of each frame to itself
            h_ = h.flatten(0, 1)
            attended = self.attention(h_, h_, None).view(shape)
        else:
            h_ = h.flatten(1, 2)
            attended = self.attention(h_, h_, mask).view(shape)
        x_BFPD = x_BFPD + gate_a * attended
        if self.scan is not None:
            scanned, state = self.scan(h, state, leaving)
            x_BFPD = x_BFPD + scanned
        if self.look is not None and references_BMD is not None:
            assert known_BM is not None
            looked = self.look(x_BFPD.flatten(1, 2), references_BMD, known_BM[:, None, None])
            x_BFPD = x_BFPD + looked.view(shape)
        h = self.norms[1](x_BFPD) * (1 + scale_m) + shift_m
        return x_BFPD + gate_m * self.mlp(h), state


# -- the model -------------------------------------------------------------------------------------------


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
        self.modulation = _zero(nn.Linear(width, 6 * width))
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
            self.zero = nn.ModuleList(_zero(nn.Linear(width, width)) for _ in range(config.branch))
        if config.references:
            self.references = nn.Linear(area * 11, width)
            self.nothing = nn.Parameter(0.02 * torch.randn(width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        shares = 1 + config.projection + config.warp
        self.draw = _zero(nn.Linear(width, area * (config.channels + shares)))
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
            leaving: Of how many frames at the clip's beginning the state is kept.
        """
        config = self.config
        frames = video_BFCHW.shape[1]
        x = self.patches(_patches(video_BFCHW, config.patch))
        x = x + self.rays(_patches(given.rays, config.patch))
        x = x + self.place + self.order[:frames, None]
        noise = self.modulation(self.noise(_waves(noise_BF, config.width).to(x.dtype)))
        noise = noise.unflatten(-1, (6, -1))
        mask = causal_window(frames, config.grid**2, config.window, x.device)
        hints = self._hints(x, noise, given)
        references, known = self._references(given) if config.references else (None, None)
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
        drawn = _pixels(self.draw(self.norm(x)), config.patch, config.grid)
        return self._shared(drawn.float(), video_BFCHW, noise_BF, given), kept

    def _hints(self, x: Tensor, noise: Tensor, given: Conditions) -> dict[int, Tensor]:
        """What the branch adds before which layer."""
        config = self.config
        if not len(self.branch):
            return {}
        seen = [given.projection] * config.projection + [given.warped] * config.warp
        h = x + self.seen(_patches(torch.cat(seen, 2), config.patch))
        hints = {}
        for i, (layer, zero) in enumerate(zip(self.branch, self.zero, strict=True)):
            h, _ = layer(h, noise, None)
            hints[i * config.layers // len(self.branch)] = zero(h)
        return hints

    def _references(self, given: Conditions) -> tuple[Tensor, Tensor]:
        """Tokens ``[B, 1 + R x P, D]`` of the references, after one that says nothing, and which of them are there."""
        tokens = self.references(_patches(given.references, self.config.patch)) + self.place
        known = given.references[:, :, -1, 0, 0] > 0
        known = known[..., None].expand(tokens.shape[:3]).flatten(1)
        nothing = self.nothing.to(tokens.dtype).expand(len(tokens), 1, -1)
        return (
            torch.cat([nothing, tokens.flatten(1, 2)], 1),
            torch.cat([known.new_ones(len(known), 1), known], 1),
        )

    def _shared(self, drawn: Tensor, video: Tensor, noise_BF: Tensor, given: Conditions) -> Tensor:
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


def _patches(pixels: Tensor, patch: int) -> Tensor:
    """``[B, F, C, H, W]`` to ``[B, F, P, C x patch x patch]``."""
    x: Tensor = pixels.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3)


def _pixels(tokens: Tensor, patch: int, grid: int) -> Tensor:
    """The inverse of :func:`_patches`."""
    x: Tensor = tokens.unflatten(-1, (-1, patch, patch)).unflatten(2, (grid, grid))
    return x.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4)


def _waves(level: Tensor, width: int) -> Tensor:
    """Sines and cosines of a noise level."""
    speed = torch.exp(torch.linspace(0, math.log(1000.0), width // 2, device=level.device))
    angle = level.float()[..., None] * speed
    return torch.cat([angle.sin(), angle.cos()], -1)


def _zero(layer: nn.Linear) -> nn.Linear:
    for value in layer.parameters():
        nn.init.zeros_(value)
    return layer
