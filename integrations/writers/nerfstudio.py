"""A nerfstudio data set: ``images/``, ``depth/``, ``transforms.json`` and, for a start, ``sparse_pc.ply``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spmem.errors import InputError
from spmem.integrations.writers.images import check_scale, frames_of, write_depth, write_rgb
from spmem.integrations.writers.placing import new_folder
from spmem.integrations.writers.ply import write_ply
from spmem.types import Frame, Keyframe, Surfels


def write_nerfstudio(
    folder: str | Path,
    frames: Iterable[Frame | Keyframe],
    *,
    points: Surfels | None = None,
    depth_scale: float = 0.001,
    overwrite: bool = False,
) -> None:
    """Write frames, one at a time, as a nerfstudio data set that ``open_nerfstudio`` reads back.

    Args:
        folder: Appears whole or not at all.
        frames: Frames or keyframes; the depth of those that have one is written as 16-bit PNG.
        points: Surfels for ``sparse_pc.ply`` (what Gaussian splatting starts from), or None.
        depth_scale: World units of one step of the depth images, at most half of which is lost;
            0.001 is nerfstudio's default. It is stated in the file as ``depth_unit_scale_factor``, and has to
            be given to nerfstudio where it is another.
        overwrite: Replace all that is in the folder.

    Poses are written with OpenGL axes in the memory's own world, ``time`` in seconds.

    Raises:
        FormatError: The folder is not empty and ``overwrite`` is False.
        InputError: No frames, or depth beyond 65535 steps (says which ``depth_scale`` holds it).
    """
    check_scale(depth_scale)
    with new_folder(Path(folder), overwrite=overwrite) as place:
        (place / "images").mkdir()
        entries = [_write_frame(place, i, f, depth_scale) for i, f in enumerate(frames_of(frames))]
        if not entries:
            raise InputError("write_nerfstudio needs at least one frame")
        transforms: dict[str, Any] = {
            "camera_model": "PINHOLE",
            "depth_unit_scale_factor": depth_scale,
            "frames": entries,
        }
        if points is not None:
            transforms["ply_file_path"] = "sparse_pc.ply"
            write_ply(place / "sparse_pc.ply", points)
        (place / "transforms.json").write_text(json.dumps(transforms, indent=1), encoding="utf-8")


def _write_frame(place: Path, index: int, frame: Frame, depth_scale: float) -> dict[str, Any]:
    name = f"frame_{index:05d}.png"
    write_rgb(place / "images" / name, frame)
    entry: dict[str, Any] = {"file_path": f"images/{name}"}
    if frame.depth is not None:
        (place / "depth").mkdir(exist_ok=True)
        write_depth(place / "depth" / name, frame.depth, depth_scale)
        entry["depth_file_path"] = f"depth/{name}"
    if frame.time is not None:
        entry["time"] = frame.time
    return entry | frame.camera.to_nerfstudio()
