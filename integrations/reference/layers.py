"""Layers of the bundled generator's network: attention in a window of frames, the state-space scan, and both in one layer.

Suffixes name axes: B clips, F frames, P patches of a frame, L = F x P tokens, M others, D width.

Sources: modulation by the noise level, DiT (arXiv 2212.09748); the state-space layer: see :class:`StateSpace`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spmem.integrations.reference.config import ModelConfig


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
        self.out = zero(nn.Linear(width, width))

    def forward(
        self, x_BFPD: Tensor, state: Tensor | None, leaving: int
    ) -> tuple[Tensor, Float[Tensor, "n heads states d"]]:
        """Tokens of the same shape, and the state after the first ``leaving`` frames."""
        b, f, _p, d = x_BFPD.shape
        x, gate, keys, queries, step = self.inputs(self._split_blocks(x_BFPD)).split(
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
        return self._join_blocks(self.out(self.norm(y * F.silu(gate)).to(gate.dtype)), b, f), kept

    def _split_blocks(self, x_BFPD: Tensor) -> Tensor:
        """``[B x blocks, F x side x side, D]``: time goes slowest, a block's patches row by row."""
        n, side = self.grid // self.side, self.side
        x: Tensor = x_BFPD.unflatten(2, (n, side, n, side)).permute(0, 2, 4, 1, 3, 5, 6)
        return x.flatten(3, 5).flatten(0, 2)

    def _join_blocks(self, x: Tensor, b: int, f: int) -> Tensor:
        n, side = self.grid // self.side, self.side
        x = x.unflatten(0, (b, n, n)).unflatten(3, (f, side, side))
        whole: Tensor = x.permute(0, 3, 1, 4, 2, 5, 6).flatten(2, 5)
        return whole


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
            zero(self.look.out)
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


def zero(layer: nn.Linear) -> nn.Linear:
    """The layer, with weights and biases of 0: what it feeds comes in without a shock."""
    for value in layer.parameters():
        nn.init.zeros_(value)
    return layer
