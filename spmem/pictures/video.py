"""Frames as a video, an animation or a folder of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spmem.errors import InputError
from spmem.integrations.writers.encoding import encode, frame_rate, require_av
from spmem.integrations.writers.placing import new_file, new_folder

Frames = Iterable[NDArray[np.uint8]]


def write_video(path: str | Path, frames: Frames, fps: float = 10.0) -> Path:
    """Write images ``[H, W, 3]`` uint8, taken one by one, in the format of the path's name.

    Args:
        path: ``.mp4`` (H.264, needs PyAV; an odd side loses its last pixel), ``.gif``, or a folder, new or empty,
            for ``00000.png`` and so on. A file there is replaced once the new one is complete.
        frames: All of one size.
        fps: Frames a second, from 0.001 to 1000.

    Returns:
        The path.

    Raises:
        InputError: Another suffix, no frames, a frame of another shape or dtype, fps out of range, or a folder that
            is not empty.
        MissingExtraError: ``.mp4`` without PyAV.
    """
    path = Path(path)
    frame_rate(fps)
    write = {".mp4": _write_mp4, ".gif": _write_gif}.get(path.suffix.lower())
    if write is None:
        return _write_image_folder(path, frames)
    if path.suffix.lower() == ".mp4":
        require_av()
    with new_file(path, overwrite=True) as file:
        write(file, _check_frames(frames), fps)
    return path


def _check_frames(frames: Frames) -> Iterator[NDArray[np.uint8]]:
    shape = None
    for frame in frames:
        shape = shape or frame.shape
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
            raise InputError(
                f"frames are [H, W, 3] uint8, got {list(frame.shape)} {frame.dtype}; see spmem.pictures.rgb_image"
            )
        if frame.shape != shape:
            raise InputError(f"frames share a size, got {list(shape)} and {list(frame.shape)}")
        yield frame
    if shape is None:
        raise InputError("there are no frames to write")


def _write_mp4(file: BinaryIO, frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    even = (frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames)
    encode(file, even, fps=fps)  # 4:2:0 halves both sides


def _write_gif(file: BinaryIO, frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    first, *rest = (Image.fromarray(frame).quantize(128) for frame in frames)
    duration = max(round(100 / fps), 2) * 10  # a GIF counts hundredths; viewers slow down below two
    first.save(file, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)


def _write_image_folder(path: Path, frames: Frames) -> Path:
    if path.suffix:
        raise InputError(f"{path}: videos are .mp4, .gif or a folder, not {path.suffix}")
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise InputError(f"{path} is there already; choose a new or empty folder")
    with new_folder(path, overwrite=False) as folder:
        for i, frame in enumerate(_check_frames(frames)):
            Image.fromarray(frame).save(folder / f"{i:05d}.png")
    return path
