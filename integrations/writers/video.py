"""A video with its cameras beside it: NAME.mp4, and NAME.json with a pose a frame in the video's order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spmem.errors import InputError
from spmem.integrations.writers.encoding import encode
from spmem.integrations.writers.images import check_scale, frames_of, rgb_of, write_depth
from spmem.integrations.writers.placing import new_folder
from spmem.types import Frame, Keyframe


def write_video(
    folder: str | Path,
    frames: Iterable[Frame | Keyframe],
    *,
    fps: float,
    name: str = "video",
    lossless: bool = False,
    depth_scale: float = 0.001,
    overwrite: bool = False,
) -> None:
    """Write frames, one at a time, as an MP4 with a camera JSON, as ``open_video`` reads them back.

    Args:
        folder: Appears whole or not at all: ``NAME.mp4``, ``NAME.json`` (the keys of nerfstudio's ``transforms.json``, OpenGL axes,
            in the video's order) and, where frames have it, ``depth/`` of 16-bit PNG.
        frames: Frames or keyframes of one size. Those with depth must all have it.
        fps: Frames a second. The video is evenly spaced; each frame's own time is in the JSON.
        name: Name of the video.
        lossless: H.264 without loss (4:4:4, RGB), which not every player reads; otherwise 4:2:0 at high quality, and an even
            width and height are wanted.
        depth_scale: World units of one step of the depth images, at most half of which is lost.
        overwrite: Replace all that is in the folder.

    Raises:
        FormatError: The folder is not empty and ``overwrite`` is False.
        InputError: No frames, sizes that differ or are odd, depth in some frames only, or beyond 65535 steps.
        MissingExtraError: PyAV is not installed.
    """
    check_scale(depth_scale)
    with new_folder(Path(folder), overwrite=overwrite) as place:
        entries: list[dict[str, Any]] = []

        def noted() -> Iterator[Frame]:
            for frame in frames_of(frames):
                entry: dict[str, Any] = {"file_path": f"{name}.mp4"}
                if entries and (frame.depth is None) == ("depth_file_path" in entries[0]):
                    raise InputError(
                        "some frames have depth and others none; all or none of a video's have it"
                    )
                if frame.depth is not None:
                    (place / "depth").mkdir(exist_ok=True)
                    entry["depth_file_path"] = f"depth/frame_{len(entries):05d}.png"
                    write_depth(place / entry["depth_file_path"], frame.depth, depth_scale)
                if frame.time is not None:
                    entry["time"] = frame.time
                entries.append(entry | frame.camera.to_nerfstudio())
                yield frame

        encode(place / f"{name}.mp4", map(rgb_of, noted()), fps=fps, lossless=lossless)
        transforms = {
            "camera_model": "PINHOLE",
            "depth_unit_scale_factor": depth_scale,
            "frames": entries,
        }
        (place / f"{name}.json").write_text(json.dumps(transforms, indent=1), encoding="utf-8")
