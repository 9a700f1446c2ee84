"""A COLMAP text model with its images: ``images/`` and ``sparse/0/``; colmap.github.io/format.html."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.integrations.writers.images import frames_of, write_rgb
from spmem.integrations.writers.placing import new_folder
from spmem.types import Frame, Keyframe, Surfels

_CAMERAS = "# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"
_IMAGES = "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; then its 2D points (none)"
_POINTS = "# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] (none)"


def write_colmap(
    folder: str | Path,
    frames: Iterable[Frame | Keyframe],
    *,
    points: Surfels | None = None,
    overwrite: bool = False,
) -> None:
    """Write frames, one at a time, as a COLMAP workspace that ``open_colmap`` and COLMAP read.

    Args:
        folder: Appears whole or not at all.
        frames: Frames or keyframes; frames of equal intrinsics and size share a PINHOLE camera. COLMAP's
            sparse model has neither depth nor time.
        points: Surfels whose positions and colours become the 3D points, or None.
        overwrite: Replace all that is in the folder.

    Raises:
        FormatError: The folder is not empty and ``overwrite`` is False.
        InputError: No frames.
    """
    cameras: dict[str, int] = {}
    images: list[str] = []
    with new_folder(Path(folder), overwrite=overwrite) as place:
        (place / "images").mkdir()
        for number, frame in enumerate(frames_of(frames), start=1):
            name = f"frame_{number - 1:05d}.png"
            write_rgb(place / "images" / name, frame)
            intrinsics, pose = _camera_lines(frame.camera)
            camera = cameras.setdefault(intrinsics, len(cameras) + 1)
            images += [f"{number} {pose} {camera} {name}", ""]
        if not images:
            raise InputError("write_colmap needs at least one frame")
        model = place / "sparse" / "0"
        model.mkdir(parents=True)
        _write_lines(
            model / "cameras.txt", _CAMERAS, [f"{i} {line}" for line, i in cameras.items()]
        )
        _write_lines(model / "images.txt", _IMAGES, images)
        _write_lines(
            model / "points3D.txt", _POINTS, [] if points is None else _point_lines(points)
        )


def _camera_lines(camera: Camera) -> tuple[str, str]:
    colmap = camera.to_colmap()
    intrinsics = (
        f"PINHOLE {camera.width} {camera.height} {_format_numbers(colmap['params'].tolist())}"
    )
    return intrinsics, _format_numbers([*colmap["qvec"].tolist(), *colmap["tvec"].tolist()])


def _point_lines(points: Surfels) -> list[str]:
    colours = (points.colour * 255).round().clamp(0, 255).to(torch.uint8).tolist()
    positions = points.position.tolist()
    return [
        f"{i} {_format_numbers(position)} {' '.join(map(str, colour))} 0"
        for i, (position, colour) in enumerate(zip(positions, colours, strict=True), start=1)
    ]


def _format_numbers(values: list[float]) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def _write_lines(path: Path, comment: str, lines: list[str]) -> None:
    path.write_text("\n".join([comment, *lines, ""]), encoding="utf-8")
