"""A RealEstate10K clip: one text file of cameras, and the frames as images named by timestamp."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.integrations.writers.images import frames_of, write_rgb
from spmem.integrations.writers.placing import new_folder
from spmem.types import Frame, Keyframe


def write_realestate10k(
    folder: str | Path,
    frames: Iterable[Frame | Keyframe],
    *,
    url: str,
    name: str = "clip",
    overwrite: bool = False,
) -> None:
    """Write frames, one at a time, as a RealEstate10K clip that ``open_realestate10k`` reads back.

    Args:
        folder: Appears whole or not at all: ``NAME.txt`` and ``NAME/TIMESTAMP.png``. The format has no depth.
        frames: Frames or keyframes with times.
        url: Address of the video, the file's first line.
        name: Name of the clip.
        overwrite: Replace all that is in the folder.

    Timestamps are whole microseconds; intrinsics are shares of the image's size, both they and the poses with 9 decimals.

    Raises:
        FormatError: The folder is not empty and ``overwrite`` is False.
        InputError: No frames, no or negative times, or two frames within a microsecond.
    """
    if not url.startswith("http") or any(c.isspace() for c in url):
        raise InputError(f"url is the address that clips start with (http…), got {url!r}")
    lines: dict[int, str] = {}
    with new_folder(Path(folder), overwrite=overwrite) as place:
        (place / name).mkdir()
        for frame in frames_of(frames):
            if frame.time is None or frame.time < 0:
                raise InputError(f"clips have times in seconds, >= 0; a frame has {frame.time}")
            stamp = round(frame.time * 1e6)
            if stamp in lines:
                raise InputError(f"two frames at {stamp} microseconds")
            write_rgb(place / name / f"{stamp}.png", frame)
            lines[stamp] = f"{stamp} {camera_line(frame.camera)}"
        if not lines:
            raise InputError("write_realestate10k needs at least one frame")
        text = "\n".join([url, *lines.values(), ""])
        (place / f"{name}.txt").write_text(text, encoding="utf-8")


def camera_line(camera: Camera) -> str:
    """Focal lengths and principal point as shares of the size, two zeros, and the row-major 3x4 world-to-camera pose."""
    K, w2c = camera.K.double().cpu(), camera.w2c.double().cpu()
    shares = (
        K[0, 0] / camera.width,
        K[1, 1] / camera.height,
        K[0, 2] / camera.width,
        K[1, 2] / camera.height,
    )
    numbers = [*(float(v) for v in shares), 0.0, 0.0, *w2c[:3].flatten().tolist()]
    return " ".join(f"{value:.9f}" for value in numbers)
