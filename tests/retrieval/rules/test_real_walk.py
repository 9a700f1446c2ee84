"""On a real walk through five rooms: sketches find what truly overlaps, and the index loses little by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from spmem.camera import Camera
from spmem.config import RetrievalConfig
from spmem.geometry import nearest_rotation, normals_from_depth
from spmem.query import Query
from spmem.retrieval.indices.inverted import VoxelIndex
from spmem.retrieval.indices.sketch import sketch
from spmem.retrieval.indices.voxels import voxel_edge, voxels_of_views
from spmem.retrieval.rules.covisibility import Covisibility
from spmem.retrieval.rules.pose_nearest import PoseNearest
from spmem.retrieval.visibility.exact import visibility, visible_points
from spmem.types import Projection
from spmem.views import Views

Walk = tuple[Camera, torch.Tensor]


@pytest.fixture(scope="module")
def walk(real_walks: Path) -> Walk:
    """Cameras and depth of every second frame of the HoloLens walk."""
    folder = real_walks / "hololens_dvmvs"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    files = sorted((folder / "depth").glob("*.png"))[::2]
    depth = np.stack([np.asarray(Image.open(file), np.float32)[::4, ::4] / 1000 for file in files])
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 4, 4)[::2]
    c2w = nearest_rotation(torch.tensor(poses, dtype=torch.float32))
    height, width = depth.shape[1:]
    full = Camera(np.loadtxt(folder / "K.txt"), c2w, width=4 * width, height=4 * height)
    return full.resize(width, height), torch.from_numpy(depth)


@pytest.fixture(scope="module")
def views(walk: Walk) -> Views:
    """A view of every frame."""
    views = Views()
    for id, (camera, depth) in enumerate(zip(*walk, strict=True)):
        views.append(id, float(id), camera, depth.numpy())
    return views


def query_at(walk: Walk, frame: int, gap: int = 6) -> Query:
    """What this frame saw, asked of frames at least ``gap`` away."""
    cameras, depth = walk[0][[frame]], walk[1][[frame]]
    normal = normals_from_depth(depth, cameras.K) @ cameras.c2w[:, None, :3, :3].mT
    seen = Projection(cameras, torch.zeros_like(normal), depth, normal, depth > 0, depth.long())
    near = np.arange(max(frame - gap + 1, 0), frame + gap)
    return Query(cameras, seen, Views(), near)


def shares(query: Query, views: Views) -> NDArray[np.float64]:
    """Share of the query's pixels that each view saw; -1 where the query excludes it."""
    points = visible_points(query.projection)
    share = visibility(points, views, np.arange(len(views))) @ points.weight / points.pixels
    share[query.exclude[query.exclude < len(views)]] = -1
    return share


def test_the_best_views_are_among_the_first_by_voxels_and_by_sketch(
    walk: Walk, views: Views
) -> None:
    edge = voxel_edge(views.depth[0])
    assert edge is not None
    sets = voxels_of_views(views, np.arange(len(views)), edge=edge)
    index, sketches = VoxelIndex(), sketch(sets, 256)
    index.add(views.ids, sets)
    by_voxels, by_sketch = [], []
    for frame in range(0, len(views), 4):
        query = query_at(walk, frame)
        true = shares(query, views)
        best = np.argsort(-true)[:4]
        best = best[true[best] > 0.1]
        asked = voxels_of_views(views, np.array([frame]), edge=edge)
        by_voxels += np.isin(best, index.search(asked, 16, query.exclude)[1]).tolist()
        guess = np.where(true < 0, -np.inf, sketches @ sketches[frame])
        by_sketch += np.isin(best, np.argsort(-guess)[:16]).tolist()
    assert len(by_voxels) > 50
    assert np.mean(by_voxels) > 0.95
    assert np.mean(by_sketch) > 0.9


def test_revisits_are_found_and_beat_the_nearest_pose(walk: Walk, views: Views) -> None:
    config = RetrievalConfig(candidates=16)
    searched, whole, pose = Covisibility(config, scan=0), Covisibility(scan=len(views)), PoseNearest()  # fmt: skip
    for rule in (searched, whole):
        rule.observe(views, slice(0, len(views)))
    reached = dict.fromkeys((searched, whole, pose), 0.0)
    for frame in range(40, len(views), 4):
        query = query_at(walk, frame)
        points = visible_points(query.projection)
        for rule in reached:
            rows = rule.select(query, views, 3).ids
            reached[rule] += float(visibility(points, views, rows).any(0) @ points.weight) / points.pixels  # fmt: skip
    assert reached[searched] > 0.97 * reached[whole]
    assert reached[searched] > 1.1 * reached[pose]
