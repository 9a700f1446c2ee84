"""The autoregressive loop: retrieve, condition, generate, lift to depth, store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.generating import retrieve_for, run_generator, spec_of
from spmem.protocols import DepthEstimator, Generator, Memory
from spmem.registry import make
from spmem.returned import depth_from
from spmem.types import Frame, Retrieval

CARRY_ON = "projection-depth"
SAME = 0.1
"""Share of its depth within which a generated surface is the one that memory knows."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some frames just generated, what memory said before, and what it made of them.

    context: What the generator was conditioned on. Where its number of frames is bound by a rule, the last camera may
        stand there several times.
    frames: One for each camera, in order, with depth, as they were stored.
    keyframes: What storing each frame answered: a keyframe's id, or None where it told nothing new.
    start: The trajectory's camera that the first frame is of.
    state: What the generator wants back with the next chunk; to go on later, give it to ``rollout(state=…)``.
    """

    context: Retrieval
    frames: tuple[Frame, ...]
    keyframes: tuple[int | None, ...]
    start: int = 0
    state: Any = None

    @property
    def stop(self) -> int:
        """The camera to go on with."""
        return self.start + len(self.frames)

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
    start: int = 0,
    state: Any = None,
    rewrite: bool = False,
    commit: bool = False,
    callback: Callable[[int, int, Tensor], Tensor | None] | None = None,
    progress: bool = False,
) -> Iterator[Chunk]:
    """Generate video along a trajectory, chunk by chunk, each conditioned on memory and written back to it.

    The loop of Spatia (arXiv 2512.15716, section 3) and of long-term spatial memory (arXiv 2506.05284, section 3):
    what was generated becomes what the next chunk must agree with. Chunks are made when they are asked for; stop
    iterating and memory holds what was made until then.

    A rollout that was stopped after a chunk goes on exactly with ``start=chunk.stop, state=chunk.state`` and the same
    memory, or the same memory committed, closed and opened again.

    Args:
        generator: Makes the frames of each chunk's cameras, fitted to its ``spec``
            (:class:`spmem.GeneratorSpec`) where it has one.
        memory: Read before and written after each chunk. Store a frame with depth first, or pass ``depth``.
        cameras: The trajectory ``[T]``, on one device with what the generator returns.
        prompt: For the generator, the same in all chunks.
        chunk: Cameras a chunk; the last one may be shorter.
        depth: Lifts the frames to depth: an estimator, or the name of one; None takes the generator's own depth, and
            where it gives none carries on the map's surfaces (:class:`spmem.integrations.depth.projection.ProjectionDepth`), which
            suits small steps into the unknown.
        seed: The chunk that begins at camera i is generated with ``seed + i``.
        k: Keyframes to retrieve.
        method: The retrieval rule, None for the memory's own.
        start: The first camera to generate; those before it have been.
        state: The generator's, of the chunk before ``start``.
        rewrite: Whether memory also takes what is generated of places that it knows. By default it takes only what is
            new, or lies elsewhere than it knew, so that a generator's errors do not become memories.
        commit: Commit the memory after each chunk, before it is yielded: a program that is killed goes on from there.
        callback: ``callback(step, steps, latents)`` at each step of denoising, for generators that call it; what it
            returns takes the latents' place.
        progress: One progress bar on standard error, where that is a terminal.

    Yields:
        A :class:`Chunk` for every ``chunk`` cameras.

    Raises:
        InputError: ``cameras`` is no trajectory or of a size that the generator cannot make, ``chunk`` not positive or
            ``start`` not on the trajectory, a memory that keeps fewer recent frames than the generator wants, ``commit``
            with one that cannot (at once); memory knows nothing of the first cameras and nothing gives depth (at the
            first chunk).
        UnknownNameError: No depth estimator has this name (at once).
        FrameError: The generator or the depth estimator returned another shape or range of values than wanted (colours up
            to a twentieth outside of their range are cut off).
    """
    if len(cameras.shape) != 1:
        raise InputError(
            f"rollout wants a trajectory [T], got cameras {list(cameras.shape)}; camera[None] is one of length 1"
        )
    if chunk < 1:
        raise InputError(f"chunk must be at least 1 camera, got {chunk}")
    if not 0 <= start <= len(cameras):
        raise InputError(f"start must be one of {len(cameras)} cameras, got {start}")
    spec = spec_of(generator)
    spec.check_size(cameras)
    spec.frames.fit(min(chunk, max(len(cameras), 1)) + spec.echoed)
    _require_history(memory, max(spec.history, spec.echoed))
    estimate: DepthEstimator = make("depth_estimator", CARRY_ON if depth is None else depth)

    wanted = k if {"references", "warp"} & spec.slots else 0
    keep = _committer(memory) if commit else None

    def chunks() -> Iterator[Chunk]:
        carried = state
        for first in range(start, len(cameras), chunk):
            ahead = cameras[first : first + chunk]
            context, echoed = retrieve_for(
                lambda asked: memory.retrieve(asked, k=wanted, method=method), ahead, spec
            )
            asked = context.cameras
            conditioning = generator.condition(context, prompt)
            made = run_generator(
                generator,
                conditioning,
                asked,
                echoed=echoed,
                seed=seed + first,
                state=carried,
                callback=callback,
            )
            carried = made.state
            if depth is None and made.depth is not None:
                lifted = made.depth
            else:
                if first == start and depth is None:
                    _require_covered(context)
                lifted = depth_from(estimate, made.rgb, asked, context.projection)
            latents = repeat(None) if made.latents is None else iter(made.latents)
            frames = tuple(
                Frame(rgb, depths, camera, latent=latent)
                for rgb, depths, camera, latent in zip(
                    made.rgb, lifted, ahead, latents, strict=False
                )  # what was made for added cameras is dropped
            )
            if not rewrite:
                frames = tuple(map(confident_only_in_new, frames, context.projection.depth))
            keyframes = tuple(map(memory.store, frames))
            if keep is not None:
                keep(f"cameras {first} to {first + len(frames) - 1}")
            yield Chunk(context, frames, keyframes, first, carried)

    return _counted(chunks(), len(cameras), start) if progress else chunks()


def confident_only_in_new(frame: Frame, known: Float[Tensor, "h w"]) -> Frame:
    """A generated frame with confidence only in what memory did not know, or knew to lie elsewhere.

    Pixels whose depth agrees with the depth that memory renders there (0 = none) within :data:`SAME` tell nothing new.
    They stay in the frame's picture, but neither the map nor what the keyframe is known to have seen changes by them.
    """
    assert frame.depth is not None
    same = (known > 0) & ((frame.depth - known).abs() <= SAME * known)
    return frame.replace(confidence=(~same).float())


def _counted(chunks: Iterator[Chunk], total: int, start: int) -> Iterator[Chunk]:
    console = Console(stderr=True)
    with Progress(
        "Generating",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=total, completed=start)
        for chunk in chunks:
            bar.update(task, completed=chunk.stop)
            yield chunk


def _require_history(memory: Memory, wanted: int) -> None:
    kept = getattr(getattr(memory, "config", None), "recent", None)
    if kept is not None and kept < wanted:
        raise InputError(
            f"the generator wants the last {wanted} frames and the memory keeps {kept}; "
            f"open it with config=spmem.MemoryConfig(recent={wanted})"
        )


def _committer(memory: Memory) -> Callable[[str], Any]:
    keep: Callable[[str], Any] | None = getattr(memory, "commit", None)
    if keep is None:
        raise InputError(f"a {type(memory).__name__} has no commit(); leave commit=False")
    return keep


def _require_covered(context: Retrieval) -> None:
    if not bool(context.projection.mask.any()):
        raise InputError(
            "memory knows nothing of what the first cameras see, so that there is no depth to carry on; "
            "store a frame with depth that sees it, or pass depth=an estimator"
        )
