"""What the conformance classes of keyframe stores have in common: frames compared within bounds, and commits."""

from __future__ import annotations

import torch

from spmem.protocols import CommittingStore, KeyframeStore
from spmem.types import Frame


class StoredFrameTests:
    """Bounds within which a store keeps frames; a subclass may set others."""

    colour_psnr: float = 38.0
    """Decibels that stored colour keeps at least, on the smooth sample frames."""
    value_error: float = 1e-3
    """Largest relative error of stored depth, confidence and features."""

    def check_same(self, read: Frame, frame: Frame) -> None:
        """A frame that was read is the one that was stored, within the bounds."""
        assert (read.camera.width, read.camera.height) == (frame.camera.width, frame.camera.height)
        assert torch.equal(read.camera.K, frame.camera.K)
        assert torch.equal(read.camera.c2w, frame.camera.c2w)
        assert read.time == frame.time
        noise = (read.rgb_float() - frame.rgb_float()).square().mean().clamp_min(1e-12)
        assert float(-10 * noise.log10()) >= self.colour_psnr
        for name in ("depth", "confidence", "features"):
            got, wanted = getattr(read, name), getattr(frame, name)
            assert (got is None) == (wanted is None), name
            if wanted is not None:
                assert got.shape == wanted.shape
                assert got.dtype == torch.float32
                assert torch.equal(got == 0, wanted == 0), name
                assert bool(((got - wanted).abs() <= self.value_error * wanted.abs()).all()), name

        assert (read.latent is None) == (frame.latent is None)
        if read.latent is not None and frame.latent is not None:
            assert (read.latent.dtype, read.latent.shape) == (
                frame.latent.dtype,
                frame.latent.shape,
            )
            bits = (
                latent.contiguous().reshape(-1).view(torch.uint8)
                for latent in (read.latent, frame.latent)
            )
            assert torch.equal(*bits), "latent"


def settle(store: KeyframeStore, message: str) -> None:
    """Commit, if the store commits."""
    if isinstance(store, CommittingStore):
        store.commit(message)
