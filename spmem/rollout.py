"""The autoregressive loop: retrieve, condition, generate, lift to depth, store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import FrameError, InputError
from spmem.integrations.depth import DEPTH_ESTIMATORS
from spmem.plugins import find
from spmem.protocols import DepthEstimator, Generator, Memory
from spmem.types import Frame, Retrieval

CARRY_ON = "projection-depth"


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some frames just generated, what memory said before, and what it made of them.

    context: What the generator was conditioned on.
    frames: One for each camera of ``context.cameras``, in order, with depth.
    keyframes: What storing each frame answered: a keyframe's id, or None where it told nothing new.
    """

    context: Retrieval
    frames: tuple[Frame, ...]
    keyframes: tuple[int | None, ...]

    @property
    def rgb(self) -> Float[Tensor, "t h w 3"]:
        """The frames as video, float in [0, 1]."""
        return torch.stack([frame.rgb_float() for frame in self.frames])


def rollout(
    generator: Generator,
    memory: Memory,
    cameras: Camera,
    *,
    prompt: str | None = None,
    chunk: int = 8,
    depth: DepthEstimator | str | None = None,
    seed: int = 0,
    k: int = 4,
    method: str | None = None,
) -> Iterator[Chunk]:
    """Generate video along a trajectory, chunk by chunk, each conditioned on memory and written back to it.

    The loop of Spatia (arXiv 2512.15716, section 3) and of long-term spatial memory (arXiv 2506.05284, section 3):
    what was generated becomes what the next chunk must agree with. Chunks are made when they are asked for; stop
    iterating and memory holds what was made until then.

    Args:
        generator: Makes the frames of each chunk's cameras.
        memory: Read before and written after each chunk. Store a frame with depth first, or pass ``depth``.
        cameras: The trajectory ``[T]``, on one device with what the generator returns.
        prompt: For the generator, the same in all chunks.
        chunk: Cameras a chunk; the last one may be shorter.
        depth: Lifts the frames to depth: an estimator, or the name of one; None carries on the map's surfaces
            (:class:`spmem.integrations.depth.ProjectionDepth`), which suits small steps into the unknown.
        seed: The chunk that begins at camera i is generated with ``seed + i``.
        k: Keyframes to retrieve.
        method: The retrieval rule, None for the memory's own.

    Yields:
        A :class:`Chunk` for every ``chunk`` cameras.

    Raises:
        InputError: ``cameras`` is no trajectory or ``chunk`` not positive (at once); memory knows nothing of the first
            cameras and ``depth`` is None (at the first chunk).
        UnknownNameError: No depth estimator has this name (at once).
        FrameError: The generator or the depth estimator returned another shape or range of values than wanted.
    """
    if len(cameras.shape) != 1:
        raise InputError(
            f"rollout wants a trajectory [T], got cameras {list(cameras.shape)}; camera[None] is one of length 1"
        )
    if chunk < 1:
        raise InputError(f"chunk must be at least 1 camera, got {chunk}")
    if depth is None or isinstance(depth, str):
        estimate: DepthEstimator = find("depth_estimator", depth or CARRY_ON, DEPTH_ESTIMATORS)()
    else:
        estimate = depth

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(cameras), chunk):
            ahead = cameras[start : start + chunk]
            context = memory.retrieve(ahead, k=k, method=method)
            if start == 0 and depth is None:
                _require_covered(context)
            conditioning = generator.condition(context, prompt)
            video = generator.generate(conditioning, ahead, seed=seed + start)
            rgb = _checked_video(video, ahead, generator)
            lifted = _checked_depth(estimate(rgb, ahead, context.projection), ahead, estimate)
            frames = tuple(Frame(*seen) for seen in zip(rgb, lifted, ahead, strict=True))
            yield Chunk(context, frames, tuple(memory.store(frame) for frame in frames))

    return chunks()


def _require_covered(context: Retrieval) -> None:
    if not bool(context.projection.mask.any()):
        raise InputError(
            "memory knows nothing of what the first cameras see, so that there is no depth to carry on; "
            "store a frame with depth that sees it, or pass depth=an estimator"
        )


def _checked_video(rgb: Tensor, cameras: Camera, generator: Generator) -> Float[Tensor, "t h w 3"]:
    who, wanted = type(generator).__name__, [len(cameras), cameras.height, cameras.width, 3]
    if not isinstance(rgb, Tensor) or not rgb.is_floating_point():
        kind = rgb.dtype if isinstance(rgb, Tensor) else type(rgb).__name__
        raise FrameError(
            f"generator {who} returned {kind}; wanted a float tensor {wanted} in [0, 1]"
        )
    if list(rgb.shape) != wanted:
        hint = "; move the channels last" if rgb.ndim == 4 and 3 in rgb.shape[1:3] else ""
        raise FrameError(f"generator {who} returned {list(rgb.shape)}, wanted {wanted}{hint}")
    return rgb.detach()


def _checked_depth(
    depth: Tensor, cameras: Camera, estimate: DepthEstimator
) -> Float[Tensor, "t h w"]:
    who, wanted = type(estimate).__name__, [len(cameras), cameras.height, cameras.width]
    got = list(depth.shape) if isinstance(depth, Tensor) else type(depth).__name__
    if got != wanted:
        raise FrameError(f"depth estimator {who} returned {got}, wanted {wanted}")
    return depth.detach()
