"""Put your own model into the loop: condition on what memory knows, generate, store, go on."""

import torch

import spmem
from spmem import worlds
from spmem.integrations.depth.projection import ProjectionDepth


class NoisyModel:
    """Stands for a video model: it keeps to the projection, and paints the rest in the references' mean colour."""

    def condition(self, context: spmem.Retrieval, prompt: str | None = None):
        references = [frame.rgb_float() for frame in context.frames()]
        colour = torch.stack(references).mean((0, 1, 2)) if references else torch.full((3,), 0.5)
        return context.projection, colour

    def generate(self, conditioning, cameras: spmem.Camera, *, seed: int = 0) -> torch.Tensor:
        projection, colour = conditioning
        draw = torch.Generator().manual_seed(seed)
        noise = 0.02 * torch.randn(projection.rgb.shape, generator=draw)
        painted = torch.where(projection.mask[..., None], projection.rgb, colour)
        return (painted + noise).clamp(0, 1)  # [T, H, W, 3]


house = worlds.House(seed=4, rooms=2)
cameras = worlds.rotate_and_return(house, 17, angle=1.2, width=64, height=48)

with spmem.open() as memory:
    memory.store(next(house.frames(cameras[:1])))  # the image that the video starts from

    chunks = spmem.rollout(NoisyModel(), memory, cameras[1:], chunk=4, depth=ProjectionDepth())
    for chunk in chunks:
        known = chunk.context.coverage.mean()
        wrote = sum(id is not None for id in chunk.keyframes)
        print(
            f"{known:.0%} was known beforehand, {len(chunk.context.keyframes)} references, "
            f"{wrote} new keyframes"
        )
