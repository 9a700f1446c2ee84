"""The simplest generator that there can be: it shows what memory renders."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.types import Projection, Retrieval


class ProjectionGenerator:
    """Shows the projection, and one colour where memory covers nothing; the colour is drawn by the seed.

    It has no weights and invents nothing, so that a rollout with it shows what memory alone carries over, frame by
    frame: the floor under any real generator.
    """

    def condition(self, context: Retrieval, prompt: str | None = None) -> Projection:
        """The projection; the prompt is not read."""
        return context.projection

    def generate(
        self, conditioning: Projection, cameras: Camera, *, seed: int = 0
    ) -> Float[Tensor, "t h w 3"]:
        """The frames; raises InputError where the cameras are not those of the conditioning."""
        if cameras.shape != conditioning.cameras.shape:
            raise InputError(
                f"conditioned on {list(conditioning.cameras.shape)} cameras, asked for {list(cameras.shape)}"
            )
        draw = torch.Generator().manual_seed(seed)
        colour = torch.rand(3, generator=draw).to(conditioning.rgb)
        return torch.where(conditioning.mask[..., None], conditioning.rgb, colour)
