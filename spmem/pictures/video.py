"""Frames as a video, an animation or a folder of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spmem.errors import InputError, MissingExtraError
from spmem.integrations.writers.placing import new_file, new_folder

Frames = Iterable[NDArray[np.uint8]]

QUALITY = "19"
"""The constant rate factor of x264: 18 to 20 look like the source."""


def write_video(path: str | Path, frames: Frames, fps: float = 10.0) -> Path:
    """Write images ``[H, W, 3]`` uint8, taken one by one, as the path's name tells.

    Args:
        path: ``.mp4`` (H.264, needs PyAV; an odd side loses its last pixel), ``.gif``, or a folder, new or empty,
            for ``00000.png`` and so on. A file there is replaced once the new one is complete.
        frames: All of one size.
        fps: Frames a second.

    Returns:
        The path.

    Raises:
        InputError: Another suffix, no frames, a frame of another shape or dtype, fps not positive, or a folder that
            is not empty.
        MissingExtraError: ``.mp4`` without PyAV.
    """
    path = Path(path)
    if not 0 < fps < float("inf"):
        raise InputError(f"fps must be > 0, got {fps}")
    write = {".mp4": _mp4, ".gif": _gif}.get(path.suffix.lower())
    if write is None:
        return _folder(path, frames)
    if path.suffix.lower() == ".mp4":
        _av()
    with new_file(path, overwrite=True) as file:
        write(file, _checked(frames), fps)
    return path


def _checked(frames: Frames) -> Iterator[NDArray[np.uint8]]:
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


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "formats", "writing .mp4 (a .gif needs nothing)") from error
    return av


def _mp4(file: BinaryIO, frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    av = _av()
    first = next(frames)
    height, width = (side - side % 2 for side in first.shape[:2])  # 4:2:0 halves both
    with av.open(file, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate, options={"crf": QUALITY})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in chain([first], frames):
            image = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _gif(file: BinaryIO, frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    first, *rest = (Image.fromarray(frame).quantize(128) for frame in frames)
    duration = max(round(100 / fps), 2) * 10  # a GIF counts hundredths; viewers slow down below two
    first.save(file, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)


def _folder(path: Path, frames: Frames) -> Path:
    if path.suffix:
        raise InputError(f"{path}: videos are .mp4, .gif or a folder, not {path.suffix}")
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise InputError(f"{path} is there already; choose a new or empty folder")
    with new_folder(path, overwrite=False) as folder:
        for i, frame in enumerate(_checked(frames)):
            Image.fromarray(frame).save(folder / f"{i:05d}.png")
    return path
