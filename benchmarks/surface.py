"""How near a map comes to the true surface: distance, completeness, strays, on a house seen by a noisy sensor."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peers import VoxelBlockGrid
from torch import Tensor

from spmem import Camera, Frame, FusionConfig, worlds
from spmem.evaluation.report import aim
from spmem.progress import track
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.truth import covered_but_wrong
from spmem.types import Surfels

VOXEL = 0.02
STRAY = 0.05
F64 = NDArray[np.float64]
Rows = list[dict[str, Any]]


def noisy_walks(quick: bool) -> tuple[Rows, Rows]:
    """Both maps from the same noisy frames of two houses."""
    rows: Rows = []
    aims: Rows = []
    n, (width, height) = (30, (320, 240)) if quick else (100, (640, 480))
    for seed in (3,) if quick else (3, 4):
        house = worlds.House(seed=seed)
        cameras = worlds.walk(house, n, seed=seed, width=width, height=height, stride=0.06)
        noise = worlds.DepthNoise(seed=seed)
        ours, theirs, truth = SurfelMap(FusionConfig(voxel=VOXEL)), VoxelBlockGrid(VOXEL), Truth()
        for i in track(range(n), f"Walking house {seed}"):
            view, camera = house.render(cameras[i][None]), cameras[i]
            depth = noise.spoil(view.depth[0], view.normal[0], camera, index=i)
            frame = Frame((view.rgb[0] * 255).round().byte(), depth, camera, time=float(i))
            ours.fuse(frame)
            theirs.fuse(frame)
            truth.see(view.depth[0], view.normal[0], camera, depth > 0, i)
        truth.close()
        asked = [(cameras[i], house.render(cameras[i][None]).depth[0]) for i in range(0, n, 10)]
        scores: dict[str, dict[str, float]] = {
            "surfel map": truth.score(on_discs(ours.surfels()).numpy()),
            "VoxelBlockGrid, seen 3 times": truth.score(theirs.points(3.0).numpy()),
            "VoxelBlockGrid, seen at all": truth.score(theirs.points(0.0).numpy()),
        }
        for who, shown in {
            "surfel map": partial(surfel_depth, ours),
            "VoxelBlockGrid, seen 3 times": partial(volume_depth, theirs, 3.0),
            "VoxelBlockGrid, seen at all": partial(volume_depth, theirs, 1.0),
        }.items():
            scores[who] |= wrong_depth([(shown(camera), true) for camera, true in asked])
        rows += [{"noise": f"house {seed}", "map": who, **score} for who, score in scores.items()]
        mine, peer = scores["surfel map"], scores["VoxelBlockGrid, seen 3 times"]
        for name, better in (("mean mm", "lower"), ("complete at 2 cm", "higher"), ("strays", "lower")):  # fmt: skip
            aims.append(aim(f"house {seed}: {name}", mine[name], peer[name], "", better))
    return rows, aims


def surfel_depth(ours: SurfelMap, camera: Camera) -> Tensor:
    """The depth that the map shows of a camera, 0 where it covers nothing."""
    seen = ours.render(camera[None])
    return seen.depth[0] * seen.mask[0]


def volume_depth(theirs: VoxelBlockGrid, least_weight: float, camera: Camera) -> Tensor:
    """The depth that the volume shows of a camera, 0 where it covers nothing."""
    return theirs.render(camera, least_weight)[1]


def wrong_depth(views: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Shares of the covered pixels of (shown, true) depths that lie more than 5 % before, and behind, the truth."""
    parts = [(shown > 0, *covered_but_wrong(shown, shown > 0, true)) for shown, true in views]
    covered, before, behind = (float(sum(part[k].sum() for part in parts)) for k in range(3))
    return {
        "covered but wrong %: before": round(100 * before / covered, 3),
        "behind": round(100 * behind / covered, 3),
    }


def on_discs(surfels: Surfels) -> Tensor:
    """Five points [5 n, 3] of each disc: its centre, and four at 0.6 of its radius."""
    n = surfels.normal
    side = torch.nn.functional.one_hot(n.abs().argmin(-1), 3).to(n.dtype)
    a = torch.nn.functional.normalize(torch.linalg.cross(n, side), dim=-1)
    b = torch.linalg.cross(n, a)
    off = 0.6 * surfels.radius[:, None]
    p = surfels.position
    return torch.cat([p, p + a * off, p - a * off, p + b * off, p - b * off])


class Truth:
    """The surface that the sensor had depth of, as points with normals, half a centimetre apart."""

    def __init__(self) -> None:
        self._points: list[Tensor] = []
        self._normals: list[Tensor] = []

    def see(self, depth: Tensor, normal: Tensor, camera: Camera, sensed: Tensor, index: int) -> None:  # fmt: skip
        """Take a quarter of the pixels of a view, another quarter each time."""
        chosen = torch.zeros_like(sensed)
        chosen[index % 2 :: 2, index // 2 % 2 :: 2] = True
        chosen &= sensed & (depth > 0)
        points = camera.position + camera.rays() * depth[..., None]
        self._points.append(points[chosen])
        self._normals.append(normal[chosen])

    def close(self) -> None:
        """Thin the points, and make them searchable."""
        from scipy.spatial import cKDTree

        points, normals = torch.cat(self._points).numpy(), torch.cat(self._normals).numpy()
        first = one_each(points, 0.005)
        self._at, self._normal = points[first], normals[first]
        self._tree, self._asked = cKDTree(self._at), self._at[one_each(self._at, 0.02)]

    def score(self, points: F64) -> dict[str, float]:
        """Mean distance of points to the surface, the share of the surface within 2 cm of one, and strays."""
        from scipy.spatial import cKDTree

        distance, near = self._tree.query(points, workers=-1)
        off = np.abs(((points - self._at[near]) * self._normal[near]).sum(-1))
        # beside a known point the distance is that to its plane; farther away, to the point
        off = np.where(distance < 0.012, off, distance)
        found, _ = cKDTree(points).query(self._asked, workers=-1)
        return {
            "points": len(points),
            "mean mm": round(1000 * float(off.mean()), 2),
            "median mm": round(1000 * float(np.median(off)), 2),
            "complete at 2 cm": round(float((found < 0.02).mean()), 4),
            "strays": int((off > STRAY).sum()),
            "strays %": round(100 * float((off > STRAY).mean()), 2),
        }


def one_each(points: F64, cell: float) -> NDArray[np.int64]:
    """Rows of one point in each cell."""
    key = np.floor(points / cell).astype(np.int64)
    _, first = np.unique(key, axis=0, return_index=True)
    rows: NDArray[np.int64] = first
    return rows
