"""A TUM RGB-D sequence: ``rgb/``, ``depth/``, their lists and ``groundtruth.txt``.

The data set's page "File formats": times in seconds, poses ``tx ty tz qx qy qz qw`` camera-to-world with OpenCV axes, depth
in steps of 1/5000 metre.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import InputError
from spmem.integrations.writers.images import check_scale, frames_of, write_depth, write_rgb
from spmem.integrations.writers.placing import new_folder
from spmem.types import Frame, Keyframe


def write_tum(
    folder: str | Path,
    frames: Iterable[Frame | Keyframe],
    *,
    depth_scale: float = 1 / 5000,
    overwrite: bool = False,
) -> None:
    """Write frames, one at a time, as a TUM RGB-D sequence that ``open_tum`` reads back with ``K=`` of the frames.

    Args:
        folder: Appears whole or not at all. ``K.txt`` beside the lists is no part of TUM's format, which has one
            camera that readers know.
        frames: Frames or keyframes of one camera's intrinsics, with times in ascending order.
        depth_scale: World units of one step of the depth images; TUM's tools expect 1/5000.
        overwrite: Replace all that is in the folder.

    Times and positions are written with 9 significant decimals after the point, quaternions likewise.

    Raises:
        FormatError: The folder is not empty and ``overwrite`` is False.
        InputError: No frames, no or descending times, intrinsics that differ, or depth beyond 65535 steps.
    """
    check_scale(depth_scale)
    lists: dict[str, list[str]] = {"rgb": [], "depth": [], "groundtruth": []}
    first: Camera | None = None
    last = -float("inf")
    with new_folder(Path(folder), overwrite=overwrite) as place:
        for frame in frames_of(frames):
            camera = frame.camera
            first = camera if first is None else first
            if not torch.allclose(camera.K, first.K) or camera.width != first.width:
                raise InputError("a TUM sequence has one camera; these frames' intrinsics differ")
            if frame.time is None or not frame.time > last:
                raise InputError(
                    f"a TUM sequence has ascending times in seconds, got {frame.time} after {last:g}"
                )
            last = frame.time
            stamp = f"{frame.time:.9f}"
            (place / "rgb").mkdir(exist_ok=True)
            write_rgb(place / "rgb" / f"{stamp}.png", frame)
            lists["rgb"].append(f"{stamp} rgb/{stamp}.png")
            if frame.depth is not None:
                (place / "depth").mkdir(exist_ok=True)
                write_depth(place / "depth" / f"{stamp}.png", frame.depth, depth_scale)
                lists["depth"].append(f"{stamp} depth/{stamp}.png")
            lists["groundtruth"].append(f"{stamp} {pose_line(camera)}")
        if first is None:
            raise InputError("write_tum needs at least one frame")
        for name, lines in lists.items():
            if lines:
                what = "tx ty tz qx qy qz qw" if name == "groundtruth" else "filename"
                text = "\n".join([f"# timestamp {what}", *lines, ""])
                (place / f"{name}.txt").write_text(text, encoding="utf-8")
        rows = [" ".join(f"{value:.9g}" for value in row) for row in first.K.tolist()]
        (place / "K.txt").write_text("\n".join([*rows, ""]), encoding="utf-8")


def pose_line(camera: Camera) -> str:
    """``tx ty tz qx qy qz qw`` of a single camera, camera-to-world."""
    c2w = camera.c2w.double().cpu()
    w, x, y, z = geometry.quaternion_from_matrix(c2w[:3, :3]).tolist()
    return " ".join(f"{value:.9f}" for value in (*c2w[:3, 3].tolist(), x, y, z, w))
