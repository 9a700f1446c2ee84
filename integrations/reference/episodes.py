"""What the generator is trained on: walks, and what a memory of each walk's past answered before every chunk.

The memory's part is computed through the two calls alone: before each chunk of frames :meth:`retrieve` is asked for its
cameras, then :meth:`store` is given its frames. An episode is a handful of arrays, so that training reads and never renders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.config import MemoryConfig
from spmem.errors import FormatError, InputError
from spmem.opening import open as open_memory
from spmem.types import Frame
from spmem.worlds import House, loop, reverse, rotate_and_return, walk

FRAMES = 48
"""Frames of an episode."""
CHUNK = 4
"""Frames that memory is asked about at once."""
KEYFRAMES = 4
"""Asked for, for each chunk."""
HELD_OUT = 1000
"""Houses of lower seeds are never trained on."""
MOVING = 1 / 6
"""Share of the drawn houses that have moving things."""


@dataclass(frozen=True, eq=False)
class TrainingEpisode:
    """N frames of a walk and, for its C chunks of four frames but the first, what memory answered before them.

    rgb ``[N, H, W, 3]`` uint8; depth ``[N, H, W]`` float16 z-depth, 0 = none; K ``[N, 3, 3]`` in pixels; c2w
    ``[N, 4, 4]``; projected_rgb ``[C, 4, H, W, 3]`` uint8, projected_depth ``[C, 4, H, W]`` float16 and
    projected_mask ``[C, 4, H, W]`` bool; keyframes ``[C, 4]`` int16, which of the N frames they are, best first, -1 =
    none. Chunk i of C holds frames ``4 (i + 1)`` to ``4 (i + 1) + 3``.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float16]
    K: NDArray[np.float32]
    c2w: NDArray[np.float32]
    projected_rgb: NDArray[np.uint8]
    projected_depth: NDArray[np.float16]
    projected_mask: NDArray[np.bool_]
    keyframes: NDArray[np.int16]


ARRAYS = tuple(field.name for field in fields(TrainingEpisode))


def record_episode(
    frames: Sequence[Frame], spoiled: Callable[[int, Frame], Frame] | None = None
) -> TrainingEpisode:
    """The episode of frames with depth: each chunk is asked about, then stored.

    Args:
        frames: Frames of one size; what does not fill a chunk is left out.
        spoiled: What memory is given instead of frame i, so that the generator meets a memory that errs.

    Raises:
        InputError: Fewer than two chunks.
    """
    count = len(frames) // CHUNK * CHUNK
    if count < 2 * CHUNK:
        raise InputError(f"an episode has at least {2 * CHUNK} frames, got {len(frames)}")
    ids: dict[int, int] = {}
    answers: list[tuple[NDArray[Any], ...]] = []
    with open_memory(config=MemoryConfig(recent=CHUNK, check_poses=False)) as memory:
        for start in range(0, count, CHUNK):
            if start:
                cameras = Camera.stack([frame.camera for frame in frames[start : start + CHUNK]])
                context = memory.retrieve(cameras, k=KEYFRAMES)
                seen, chosen = context.projection, np.full(KEYFRAMES, -1, np.int16)
                chosen[: len(context.keyframes)] = [ids[one.id] for one in context.keyframes]
                rgb = (seen.rgb * 255).round().to(torch.uint8).numpy()
                answers.append((rgb, seen.depth.half().numpy(), seen.mask.numpy(), chosen))
            for i in range(start, start + CHUNK):
                id = memory.store(frames[i] if spoiled is None else spoiled(i, frames[i]))
                if id is not None:
                    ids[id] = i
    kept = frames[:count]
    return TrainingEpisode(
        np.stack([frame.rgb_uint8().numpy() for frame in kept]).astype(np.uint8),
        np.stack([_require_training_depth(frame).half().numpy() for frame in kept]),
        np.stack([frame.camera.K.numpy() for frame in kept]),
        np.stack([frame.camera.c2w.numpy() for frame in kept]),
        *(np.stack(column) for column in zip(*answers, strict=True)),
    )


def in_house(
    seed: int, *, size: int = 64, frames: int = FRAMES, moving: float = MOVING
) -> TrainingEpisode:
    """An episode in a house of one to four rooms: loop, rotate and return, there and back, or a wander; all by the seed.

    A share ``moving`` of the houses has one to three moving things; half of their memories are told which pixels these
    are, as by a segmenter, and the others must find out. Half of all memories are given depth that errs by a few per
    cent and frames a little too dark, bright or tinted, as what a generator made would be.

    Raises:
        InputError: ``moving`` is no share.
    """
    if not 0 <= moving <= 1:
        raise InputError(f"moving is a share of houses in 0..1, got {moving}")
    rng = np.random.default_rng([seed, 11])
    rooms, things = int(rng.integers(1, 5)), int(rng.integers(1, 4)) * int(rng.random() < moving)
    house = House(seed=seed, rooms=rooms, moving=things)
    look: dict[str, Any] = {
        "seed": seed,
        "width": size,
        "height": size,
        "fov_x": float(rng.uniform(1.2, 1.5)),
    }
    way = rng.integers(4)
    if way == 0:
        cameras = loop(house, frames, **look)
    elif way == 1:
        angle = float(rng.uniform(math.pi / 2, 1.5 * math.pi) * rng.choice([-1, 1]))
        cameras = rotate_and_return(house, frames, angle=angle, **look)
    elif way == 2:
        cameras = reverse(house, frames, turn=bool(rng.integers(2)), **look)
    else:
        cameras = walk(house, frames, stride=float(rng.uniform(0.12, 0.3)), **look)
    spoils = rng.random() < 0.5
    segmented = bool(things) and bool(np.random.default_rng([seed, 12]).random() < 0.5)
    still = _mask_static_pixels(house, cameras) if segmented else None

    def perturbed(i: int, frame: Frame) -> Frame:
        frame = _perturb_frame(frame, rng) if spoils else frame
        return frame if still is None else frame.replace(confidence=still[i])

    return record_episode(list(house.frames(cameras, samples=3)), perturbed)


def _mask_static_pixels(house: House, cameras: Camera) -> torch.Tensor:
    """1.0 where cameras ``[T]`` see nothing that moves, else 0.0 ``[T, H, W]``."""
    seen = house.render(cameras).instance
    return (~torch.isin(seen, torch.tensor(house.movers))).float()


def in_walk(
    frames: Iterable[Frame], *, size: int = 64, stride: int = 1, length: int = FRAMES
) -> Iterator[TrainingEpisode]:
    """Episodes of a recorded walk: its middle square at ``size`` pixels, cut into stretches of ``length`` frames.

    Frames without depth are skipped; a shorter stretch at the end is left out.
    """
    stretch: list[Frame] = []
    for i, frame in enumerate(frames):
        if i % stride == 0 and frame.depth is not None:
            stretch.append(square(frame, size))
        if len(stretch) == length:
            yield record_episode(stretch)
            stretch = []


def square(frame: Frame, size: int) -> Frame:
    """The middle square of a frame with depth, at ``size`` pixels; colour is averaged, depth sampled."""
    side, camera = min(frame.camera.width, frame.camera.height), frame.camera
    x, y = (camera.width - side) // 2, (camera.height - side) // 2
    rgb = frame.rgb_float()[y : y + side, x : x + side].permute(2, 0, 1)[None]
    rgb = torch.nn.functional.interpolate(rgb, (size, size), mode="bilinear", antialias=True)
    rows = ((torch.arange(size) + 0.5) * side / size).long()
    depth = _require_training_depth(frame)[y + rows][:, x + rows]
    K = camera.K.clone()
    K[0, 2], K[1, 2] = K[0, 2] - x, K[1, 2] - y
    K[:2] *= size / side
    small = Camera(K, camera.c2w, width=size, height=size)
    return Frame(rgb[0].permute(1, 2, 0).clamp(0, 1), depth, small, frame.time)


def _require_training_depth(frame: Frame) -> torch.Tensor:
    if frame.depth is None:
        raise InputError("the generator is trained on frames with depth")
    return frame.depth


def _perturb_frame(frame: Frame, rng: np.random.Generator) -> Frame:
    """Depth off by a slow wave of a few per cent, colour by a gain and a tint, a little blurred."""
    depth = _require_training_depth(frame)
    coarse = torch.from_numpy(rng.normal(0, 0.03, (1, 1, 4, 4))).float()
    wave = torch.nn.functional.interpolate(coarse, depth.shape, mode="bicubic")[0, 0]
    tint = torch.from_numpy(rng.normal(0, 0.02, 3)).float()
    rgb = frame.rgb_float() * float(rng.normal(1, 0.04)) + tint
    if rng.random() < 0.5:
        blurred = torch.nn.functional.avg_pool2d(rgb.permute(2, 0, 1), 3, 1, 1)
        rgb = blurred.permute(1, 2, 0)
    return frame.replace(rgb=rgb.clamp(0, 1), depth=depth * (1 + wave))


class Episodes(Sequence[TrainingEpisode]):
    """A folder of episodes of one size: ``<field>.npy`` for each field of :class:`TrainingEpisode`, mapped, not read."""

    def __init__(self, path: str | Path) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        for name in ARRAYS:
            try:
                self._arrays[name] = np.load(Path(path) / f"{name}.npy", mmap_mode="r")
            except (OSError, ValueError) as error:
                raise FormatError(
                    path, f"holds no episodes ({error}); `spmem train` writes them"
                ) from error
        if len({len(array) for array in self._arrays.values()}) != 1:
            raise FormatError(path, "holds arrays of different lengths; remove it, and train again")

    def __len__(self) -> int:
        return len(self._arrays["rgb"])

    def __getitem__(self, index: Any) -> Any:
        return TrainingEpisode(
            **{name: np.array(array[index]) for name, array in self._arrays.items()}
        )

    @staticmethod
    def write(path: str | Path, episodes: Iterable[TrainingEpisode]) -> int:
        """Write episodes, each as it comes; returns how many there are."""
        Path(path).mkdir(parents=True, exist_ok=True)
        count, like = 0, None
        with ExitStack() as stack:
            files = {
                name: stack.enter_context((Path(path) / f"{name}.npy").open("wb"))
                for name in ARRAYS
            }
            for episode in episodes:
                for name, file in files.items():
                    value = np.ascontiguousarray(getattr(episode, name))
                    if not count:
                        _header(file, value, 0)
                    file.write(value.data)
                like, count = episode, count + 1
            for name, file in files.items():
                if like is not None:
                    file.seek(0)
                    _header(file, getattr(like, name), count)
        return count


def _header(file: BinaryIO, value: NDArray[Any], count: int) -> None:
    """The head of a .npy file of ``count`` such values, always as long: numpy leaves room for the count to grow."""
    about = {"descr": value.dtype.str, "fortran_order": False, "shape": (count, *value.shape)}
    np.lib.format.write_array_header_1_0(file, about)
