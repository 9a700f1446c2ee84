"""Triton's kernels against the plain twins: on a GPU where there is one, else in Triton's interpreter on small inputs."""

from __future__ import annotations

import pytest
import torch

from spmem import Camera
from spmem.kernels import raster
from spmem.kernels.columns import Columns
from spmem.kernels.fuse import fuse
from spmem.kernels.fuse_torch import Fusing
from spmem.stores.maps.batch import SurfelMapBatch
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.box import BoxRoom
from spmem.types import Frame

pytest.importorskip("triton", reason="needs Triton: its interpreter, or a GPU")

WHERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FIELDS = ("position", "normal", "radius", "colour", "confidence", "detail", "first_seen")


def walk(n: int, width: int, height: int, seed: int) -> list[Frame]:
    """Frames with noise and holes; of odd seeds with bytes for colour, of seeds from 2 on with a confidence."""
    room, generator = BoxRoom(), torch.Generator().manual_seed(seed)
    frames = []
    for frame in room.frames(room.walk(n, width=width, height=height, sweep=1.0 + seed)):
        assert frame.depth is not None
        noise = torch.randn(height, width, generator=generator)
        depth = frame.depth * (1 + 0.004 * noise)
        depth[torch.rand(height, width, generator=generator) < 0.05] = 0
        sure = noise.abs().clamp(max=1) if seed > 1 else None
        rgb = frame.rgb_uint8() if seed % 2 else frame.rgb
        frames.append(frame.replace(depth=depth, rgb=rgb, confidence=sure).to(WHERE))
    return frames


def compare_fusion(frames: list[Frame], by: int, voxel: float, averages: bool = True) -> None:
    fast, plain = (Columns(WHERE, chunked=False) for _ in range(2))
    for i, frame in enumerate(frames):
        how = Fusing(voxel, by, 0.04, 0.15, 0.03, 64.0, averages, float(i))
        a, b = (fuse(rows, frame, how, kernel=kernel) for rows, kernel in ((fast, "triton"), (plain, "torch")))  # fmt: skip
        assert (a == b).float().mean() > 0.998
    fast.settle()
    assert abs(fast.n - plain.n) <= 0.001 * plain.n
    if fast.n == plain.n:
        for name in FIELDS:
            off = (getattr(fast, name) - getattr(plain, name)).abs().flatten()
            assert (off <= 2e-3).float().mean() > 0.99


def discs(n: int, seed: int, large: float) -> Columns:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1)
    columns = Columns(WHERE, chunked=False)
    rows = {
        "position": torch.randn(n, 3, generator=generator) * 2,
        "normal": normal,
        "radius": 0.01 + large * torch.rand(n, generator=generator) ** 20,
        "colour": torch.rand(n, 3, generator=generator),
        "confidence": 64 * torch.rand(n, generator=generator) ** 4,  # of every level
    }
    columns.append({name: values.to(WHERE) for name, values in rows.items()})
    return columns


def compare_rendering(columns: Columns, cameras: Camera) -> None:
    fast, plain = (
        raster.rasterize(columns, cameras.to(WHERE), kernel=k) for k in ("triton", "torch")
    )
    same = fast[4] == plain[4]
    assert same.float().mean() > 0.999
    assert (fast[3] == plain[3]).float().mean() > 0.9999
    for a, b in zip(fast[:3], plain[:3], strict=True):
        assert torch.allclose(a[same], b[same], atol=2e-3)


def cameras(width: int, height: int, views: int) -> Camera:
    position = torch.tensor([[0.1 + 0.3 * t, 0.2, -3.0] for t in range(views)])
    return Camera.look_at(position, torch.zeros(3), width=width, height=height)


@pytest.mark.parametrize(("seed", "by", "voxel"), [(0, 1, 0.12), (1, 2, 0.15), (2, 4, 0.2)])
def test_fusion_is_the_twins(seed: int, by: int, voxel: float) -> None:
    """Pixel by pixel, and in blocks of 2 and 4; odd sizes."""
    compare_fusion(walk(2, 37, 27, seed), by, voxel)


def test_a_point_cloud_does_not_average() -> None:
    compare_fusion(walk(2, 32, 24, 0), 1, 0.15, averages=False)


def test_rendering_is_the_twins() -> None:
    """Discs of less than a pixel, of a few, and some that cover much of the image."""
    compare_rendering(discs(500, 0, 0.6), cameras(49, 31, 2))


def test_of_equal_discs_the_first_is_named() -> None:
    columns = Columns(WHERE, chunked=False)
    one = discs(1, 0, 0.0)
    rows = {name: getattr(one, name).expand(3, *getattr(one, name).shape[1:]) for name in FIELDS}
    rows["position"] = torch.tensor([0.0, 0, 2], device=WHERE).expand(3, 3)
    rows["normal"] = torch.tensor([0.0, 0, -1], device=WHERE).expand(3, 3)
    columns.append({**rows, "radius": torch.full((3,), 0.3, device=WHERE)})
    camera = Camera.look_at([0.0, 0, 0], [0.0, 0, 1], width=24, height=18)[None]
    seen = raster.rasterize(columns, camera.to(WHERE), kernel="triton")[4]
    assert seen.unique().tolist() == [-1, 0]


def test_rows_are_counted_on_the_device_and_never_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """More frames than room is made for at once; a checkpoint holds what is taken and opens elsewhere."""
    monkeypatch.setattr("spmem.kernels.columns.AHEAD", 2)
    store, frames = SurfelMap(kernel="triton"), walk(4, 16, 12, 0)
    for frame in frames:
        store.fuse(frame)
    arrays, other = store.arrays(), SurfelMap(kernel="torch")
    assert len(arrays["radius"]) < 2 * 16 * 12
    other.restore(arrays, WHERE)
    views = Camera.stack([frames[0].camera])
    assert torch.equal(store.render(views).mask, other.render(views).mask)
    again = SurfelMap(kernel="triton")
    again.restore(arrays, WHERE)
    assert (again.fuse(frames[-1]) >= 0).float().mean() > 0.5


def test_worlds_in_one_call_are_as_many_maps() -> None:
    """The second world sees nothing at first."""
    worlds, maps = (
        SurfelMapBatch(2, kernel="triton"),
        [SurfelMap(kernel="triton") for _ in range(2)],
    )
    walks = [walk(2, 32, 24, seed) for seed in (0, 2)]
    for step in range(2):
        frames = [frames[step].replace(confidence=None, time=float(step)) for frames in walks]
        depth = torch.stack([frame.depth for frame in frames if frame.depth is not None])
        depth[1] *= step
        ids = worlds.fuse(
            torch.stack([frame.rgb for frame in frames]),
            depth,
            Camera.stack([frame.camera for frame in frames]),
        )
        alone = [m.fuse(f.replace(depth=z)) for m, f, z in zip(maps, frames, depth, strict=True)]
        assert (ids == torch.stack(alone)).float().mean() > 0.998
    assert [len(worlds[b]) for b in range(2)] == [len(m) for m in maps]
    views = Camera.stack([Camera.stack([f.camera for f in frames[:1]]) for frames in walks])
    seen = worlds.render(views)
    for b, one in enumerate(maps):
        there = one.render(views[b])
        assert (seen.surfel_ids[b] == there.surfel_ids).float().mean() > 0.998
        assert torch.allclose(seen.depth[b], there.depth, atol=1e-3)


@pytest.mark.gpu
def test_fusion_is_the_twins_at_real_size() -> None:
    compare_fusion(walk(6, 640, 480, 1), 1, 0.01)
    compare_fusion(walk(6, 640, 480, 2), 2, 0.02)


@pytest.mark.gpu
def test_a_million_discs_are_the_twins() -> None:
    compare_rendering(discs(1_000_000, 0, 0.3), cameras(640, 480, 2))


@pytest.mark.gpu
def test_nothing_waits_for_the_device() -> None:
    """After the first frame, with one tensor of intrinsics: until rows might run out torch sees no synchronisation."""
    frames = walk(4, 160, 120, 0)
    store, K = SurfelMap(), frames[0].camera.K
    views = [Camera(K, f.camera.c2w, width=160, height=120, validate=False) for f in frames]
    frames = [f.replace(camera=view) for f, view in zip(frames, views, strict=True)]
    store.fuse(frames[0])
    store.render(views[0][None])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for frame, view in zip(frames[1:], views[1:], strict=True):
            store.fuse(frame)
            store.render(Camera(K[None], view.c2w[None], width=160, height=120, validate=False))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_hundred_worlds_at_once() -> None:
    """Each gets a view of its own; all that is checked is that each world knows what it saw."""
    b, room = 100, BoxRoom()
    poses = room.walk(b, width=128, height=96, sweep=3.0)
    seen, worlds = room.render(poses), SurfelMapBatch(b)
    poses = poses.to(WHERE)
    worlds.fuse(seen.rgb.to(WHERE), seen.depth.to(WHERE), poses)
    views = worlds.render(poses[:, None])
    assert views.coverage.min() > 0.9
    off = (views.depth[:, 0] - seen.depth.to(WHERE)).abs() / seen.depth.to(WHERE)
    assert off[views.mask[:, 0]].median() < 0.005
