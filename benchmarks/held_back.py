"""What memory renders at held-back frames of real walks, beside Open3D's VoxelBlockGrid fused from the same frames.

- depth error: |rendered - sensor| / sensor over the pixels that a map covers and the sensor measured: median and 95th
  percentile of all queries' pixels
- covered but wrong: share of those pixels more than 5 % before, and behind, the sensor's depth
- coverage: of the pixels that some stored frame really saw, by depth reprojection, at every fourth pixel
- PSNR and SSIM (Wang et al. 2004; scikit-image) of the colour on the covered pixels, mean over the queries; uncovered
  pixels are filled from the truth on both sides, so that they neither help nor hurt their neighbours
- the same on the pixels that all maps cover, where all can be compared

VoxelBlockGrid has the voxel of the map. Its rays stop at voxels seen three times (Open3D's default) or at all.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from peers import VoxelBlockGrid
from torch import Tensor

import spmem
from spmem import Camera, Frame
from spmem.evaluation.report import mean_and_error
from spmem.pictures import depth_image, rgb_image, save
from spmem.pictures.canvas import Page
from spmem.progress import track
from spmem.testing.truth import WRONG, covisibility

SMALL = 4
"""Truth of coverage is computed on depth sampled this much coarser."""
PICTURES = 4
BLOCKS = 12_000
"""Blocks to begin with: 16 x 16 x 16 voxels, 80 kB each."""


MEASURES = {
    "coverage %": "higher",
    "depth error %, median": "lower",
    "95th percentile": "lower",
    "PSNR dB": "higher",
    "SSIM": "higher",
}


class View(NamedTuple):
    """What a map shows of a query: colour [h, w, 3] in [0, 1], depth [h, w], and where it covers."""

    rgb: Tensor
    depth: Tensor
    mask: Tensor
    seconds: float


def held_back(index: int) -> bool:
    """Each tenth frame is not stored."""
    return index % 10 == 5


def small_view(frame: Frame) -> tuple[Tensor, Camera]:
    """Depth sampled for the truth, and its camera."""
    assert frame.depth is not None
    depth = frame.depth[SMALL // 2 :: SMALL, SMALL // 2 :: SMALL]
    return depth, frame.camera.resize(depth.shape[1], depth.shape[0])


def beside_open3d(name: str, path: Path, walk: Any, picture: Path) -> list[dict[str, Any]]:
    """A row for each map of a walk: the memory at ``path``, and Open3D's volume; a picture of some queries."""
    stored = [i for i in range(len(walk)) if not held_back(i)]
    queries = [i for i in range(len(walk)) if held_back(i)]
    saw = Camera.stack([small_view(walk[i])[1] for i in stored])
    saw_depth = torch.stack([small_view(walk[i])[0] for i in stored])
    scores: dict[str, Scores] = {}
    shown: list[list[NDArray[np.uint8]]] = []
    with spmem.open(path, mode="r") as memory:
        volume = VoxelBlockGrid(memory.geometry.voxel, BLOCKS)
        for i in track(stored, f"Fusing {name} in Open3D"):
            volume.fuse(walk[i])
        for n, i in enumerate(track(queries, f"Rendering {name}")):
            frame = walk[i]
            views = {
                "spmem": render_memory(memory, frame.camera),
                "VoxelBlockGrid, seen 3 times": render_volume(volume, frame.camera, 3.0),
                "VoxelBlockGrid, seen at all": render_volume(volume, frame.camera, 1.0),
            }
            depth, camera = small_view(frame)
            seen = covisibility(depth, camera, saw_depth, saw).masks.any(0)
            common = torch.stack([view.mask for view in views.values()]).all(0)
            for who, view in views.items():
                scores.setdefault(who, Scores()).add(frame, view, common, seen)
            if n % max(1, len(queries) // PICTURES) == 0:
                shown.append(row_of(frame, list(views.values())[:2]))
    picture.parent.mkdir(parents=True, exist_ok=True)
    save(side_by_side(shown, ("sensor", "spmem", "VoxelBlockGrid")), picture, dpi=110)
    return [{"walk": name, "map": who, **score.row()} for who, score in scores.items()]


def render_memory(memory: spmem.SpatialMemory, camera: Camera) -> View:
    """As ``retrieve`` gives it."""
    start = perf_counter()
    view = memory.retrieve(camera, k=0, method="none", given=()).projection
    return View(view.rgb[0], view.depth[0], view.mask[0], perf_counter() - start)


def render_volume(volume: VoxelBlockGrid, camera: Camera, least_weight: float) -> View:
    """As the ray caster gives it."""
    start = perf_counter()
    rgb, depth = volume.render(camera, least_weight)
    return View(rgb, depth, depth > 0, perf_counter() - start)


class Scores:
    """What the queries of one map gave."""

    def __init__(self) -> None:
        self._off: list[Tensor] = []
        self._off_common: list[Tensor] = []
        self._values: dict[str, list[float]] = {}

    def add(self, frame: Frame, view: View, common: Tensor, seen: Tensor) -> None:
        """Compare one view with the frame; ``common`` pixels are those of all maps, ``seen`` [h / 4, w / 4]."""
        assert frame.depth is not None
        off, known = (view.depth - frame.depth) / frame.depth, frame.depth > 0
        self._off.append(off[view.mask & known])
        self._off_common.append(off[common & known])
        covered = view.mask[SMALL // 2 :: SMALL, SMALL // 2 :: SMALL]
        psnr, ssim = likeness(frame.rgb_float(), view.rgb, view.mask)
        both_psnr, both_ssim = likeness(frame.rgb_float(), view.rgb, common)
        values = {
            "coverage": float((seen & covered).sum() / seen.sum()),
            "psnr": psnr,
            "ssim": ssim,
            "common psnr": both_psnr,
            "common ssim": both_ssim,
            "ms": 1000 * view.seconds,
        }
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)

    def row(self) -> dict[str, Any]:
        """The figures."""
        signed, off_common = torch.cat(self._off).numpy(), torch.cat(self._off_common).abs().numpy()
        off = np.abs(signed)
        return {
            "coverage %": round(100 * float(np.mean(self._values["coverage"])), 2),
            "depth error %, median": round(100 * float(np.median(off)), 3),
            "95th percentile": round(100 * float(np.percentile(off, 95)), 2),
            "covered but wrong %: before": round(100 * float((signed < -WRONG).mean()), 3),
            "behind": round(100 * float((signed > WRONG).mean()), 3),
            "PSNR dB": mean_and_error(self._values["psnr"]),
            "SSIM": mean_and_error(self._values["ssim"]),
            "on common pixels: 95th percentile": round(100 * float(np.percentile(off_common, 95)), 2),
            "common PSNR": mean_and_error(self._values["common psnr"]),
            "common SSIM": mean_and_error(self._values["common ssim"]),
            "ms": round(float(np.median(self._values["ms"])), 1),
        }  # fmt: skip


def likeness(true: Tensor, rendered: Tensor, mask: Tensor) -> tuple[float, float]:
    """PSNR in dB and SSIM of the pixels in the mask."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    a, b = true.numpy(), torch.where(mask[..., None], rendered, true).numpy()
    _, each = structural_similarity(
        a, b, channel_axis=2, data_range=1, full=True, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    chosen = mask.numpy()
    psnr = peak_signal_noise_ratio(a[chosen], b[chosen], data_range=1)
    return float(psnr), float(each[chosen].mean())


def row_of(frame: Frame, views: list[View]) -> list[NDArray[np.uint8]]:
    """Colour, then depth, of the sensor and the maps; nothing where a map covers nothing."""
    assert frame.depth is not None
    known = frame.depth[frame.depth > 0]
    near, far = (float(known.quantile(q)) for q in (0.02, 0.98))
    rgb = [frame.rgb_float(), *(view.rgb * view.mask[..., None] for view in views)]
    depth = [frame.depth, *(view.depth * view.mask for view in views)]
    return [*map(rgb_image, rgb), *(depth_image(z, near, far) for z in depth)]


def side_by_side(rows: list[list[NDArray[np.uint8]]], names: tuple[str, ...]) -> Any:
    """A page: a row for each query."""
    cell, gap, head = 3.0, 0.06, 0.3
    tall = cell * rows[0][0].shape[0] / rows[0][0].shape[1]
    columns = len(rows[0])
    page = Page(columns * (cell + gap) + gap, head + len(rows) * (tall + gap))
    for j in range(columns):
        x, kind = gap + j * (cell + gap), ("colour", "depth")[j // len(names)]
        page.text(x, 0.08, f"{names[j % len(names)]}, {kind}", fontsize=9)
        for i, images in enumerate(rows):
            page.image(images[j], x, head + i * (tall + gap), cell, tall)
    return page.figure
