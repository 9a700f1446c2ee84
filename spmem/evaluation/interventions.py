"""What if memory is wrong? The same targets, asked of memories that were tampered with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from spmem.camera import Camera
from spmem.evaluation.episode import BenchEpisode, Target
from spmem.evaluation.measures import coverage
from spmem.evaluation.sight import Sight, seen_masks
from spmem.opening import open as open_memory
from spmem.types import Frame
from spmem.worlds import DepthNoise

METHODS = ("covisibility", "set-cover", "surfel-votes", "pose-nearest", "recent", "random")
"""Some that read the map, one that reads poses, and controls."""
K = 4
CORRECT = "correct"
POSES = ((0.01, 0.5), (0.02, 1.0))
"""Standard deviations of the position on each axis, as a share of the scene's scale, and of the direction, in degrees."""
SCALES = (0.95, 0.98, 1.02, 1.05)
"""Factors on all depth, with the poses as they are."""


def interventions(
    made: BenchEpisode, other: BenchEpisode, methods: Sequence[str] = METHODS
) -> list[dict[str, Any]]:
    """Ask for the targets of the episode, from each of the memories of :func:`tampered_memories`.

    Answers are judged by what the frames chosen truly show from where they truly were. Where the memory is of another
    world, that is what its geometry happens to have in common with this one: all floors lie at one height.

    Returns:
        A row for each memory, target and rule: ``coverage`` of the revisitable pixels by four keyframes, and
        ``claimed``, the share of the target's pixels that the memory says it knows (the same for all rules).
    """
    results: list[dict[str, Any]] = []
    for name, frames in tampered_memories(made, other):
        truth = other.sight if frames is other.frames else None
        with open_memory() as memory:
            ids = [memory.store(frame) for frame in frames]
            rows = {id: row for row, id in enumerate(ids) if id is not None}
            for number, target in enumerate(made.targets):
                saw = target.saw if truth is None else _seen_from_elsewhere(target, truth)
                for method in methods:
                    found = memory.retrieve(
                        target.cameras, k=K, method=method, given=(), time=target.time, seed=number
                    )
                    chosen = [rows[keyframe.id] for keyframe in found.keyframes]
                    results.append(
                        {
                            "scenes": made.family,
                            "seed": made.seed,
                            "memory": name,
                            "target": number,
                            "rule": method,
                            "coverage": coverage(saw, chosen),
                            "claimed": float(found.coverage.mean()),
                        }
                    )
    return results


def tampered_memories(
    made: BenchEpisode, other: BenchEpisode
) -> Iterator[tuple[str, Sequence[Frame]]]:
    """What each memory is called, and the frames that it is given; ``other`` is an episode in another world."""
    rng, scale = np.random.default_rng([made.seed, 9]), made.scale
    yield CORRECT, made.frames
    yield "of another world", other.frames
    yield "empty", ()
    for share, degrees in POSES:
        yield (
            f"poses off by {share:.0%}, {degrees:g}°",
            [
                _jitter_pose(rng, frame, share * scale, math.radians(degrees))
                for frame in made.frames
            ],
        )
    yield "a Kinect's depth", _add_depth_noise(made)
    for factor in SCALES:
        yield f"depth x {factor:g}", [_scale_depth(frame, factor) for frame in made.frames]


def _seen_from_elsewhere(target: Target, other: Sight) -> Bool[Tensor, "n p"]:
    """Which of the target's revisitable pixels the frames of another world would show, judged by depth alone."""
    return seen_masks(target.sight, other).transpose(0, 1).flatten(1)[:, target.revisitable]


def _jitter_pose(rng: np.random.Generator, frame: Frame, distance: float, angle: float) -> Frame:
    camera = frame.camera
    x, y, z = (angle * rng.standard_normal(3) / math.sqrt(3)).tolist()
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]]))
    c2w = camera.c2w.clone()
    c2w[:3, :3] = c2w[:3, :3] @ turn
    c2w[:3, 3] += torch.from_numpy(distance * rng.standard_normal(3)).float()
    return frame.replace(camera=Camera(camera.K, c2w, width=camera.width, height=camera.height))


def _scale_depth(frame: Frame, factor: float) -> Frame:
    assert frame.depth is not None
    return frame.replace(depth=frame.depth * factor)


def _add_depth_noise(made: BenchEpisode) -> list[Frame]:
    noise, normal = DepthNoise(seed=made.seed), made.sight.normal
    assert normal is not None
    return [
        frame.replace(depth=noise.spoil(made.sight.depth[i], normal[i], frame.camera, index=i))
        for i, frame in enumerate(made.frames)
    ]
