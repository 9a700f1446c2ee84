"""Taking back what keyframes gave to a map: both kernels, and what stays."""

from __future__ import annotations

import pytest
import torch

from spmem import Camera, Frame
from spmem.config import FusionConfig
from spmem.errors import DeviceError
from spmem.stores.maps.points import PointCloud
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.box import BoxRoom

WALL = 2.0


def wall(depth: float, rgb: float = 0.5, time: float = 0.0) -> Frame:
    camera = Camera.look_at([0.0, 0.0, 0.0], [0.0, 0.0, 1.0], width=64, height=48)
    return Frame(torch.full((48, 64, 3), rgb), torch.full((48, 64), depth), camera, time)


def filled(store: SurfelMap, frames: list[Frame]) -> SurfelMap:
    for id, frame in enumerate(frames):
        store.observe(id, store.fuse(frame).reshape(-1))
    return store


@pytest.mark.parametrize("voxel", [None, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_fast_and_plain_unfusing_agree(seed: int, voxel: float | None) -> None:
    """From one map each, pixel by pixel and in blocks, with noise, holes, features and full confidence."""
    room, (height, width) = BoxRoom(), (61, 83)
    draw = torch.Generator().manual_seed(seed)
    frames = []
    for i, frame in enumerate(
        room.frames(room.walk(6, width=width, height=height, sweep=1.0 + seed), time=0)
    ):
        assert frame.depth is not None
        depth = frame.depth * (1 + 0.004 * torch.randn(height, width, generator=draw))
        depth[torch.rand(height, width, generator=draw) < 0.05] = 0
        frames.append(
            frame.replace(
                depth=depth,
                confidence=torch.rand(height, width, generator=draw) if seed == 2 else None,
                features=torch.full((height, width, 2), float(i)) if seed == 1 else None,
            )
        )
    config = FusionConfig(voxel=voxel, max_confidence=1.5 if seed == 0 else 64.0)
    fast, plain = SurfelMap(config, kernel="numba"), SurfelMap(config, kernel="torch")
    filled(fast, frames)
    plain.restore(
        {name: array.copy() for name, array in fast.arrays().items()}, torch.device("cpu")
    )
    before = fast.surfels()
    for store in (fast, plain):
        store.unfuse([1, 2, 4], frames.__getitem__)
    a, b = fast.surfels(), plain.surfels()
    assert torch.equal(a.ids, b.ids)
    assert len(a) < len(before)
    near = (a.position - b.position).norm(dim=-1) < 1e-3 * a.radius
    assert near.float().mean() > 0.98
    assert (a.normal - b.normal)[near].abs().max() < 0.05
    assert ((a.confidence - b.confidence).abs() < 1e-3).float().mean() > 0.98
    if a.features is not None:
        assert ((a.features - b.features).abs() < 1e-2).float().mean() > 0.98


def test_the_mean_of_the_others_is_left() -> None:
    """Of a wall seen at four depths, two are taken back: it stands at the mean of the other two."""
    depths = [2.0, 2.02, 2.01, 1.98]
    frames = [wall(depth, time=float(i)) for i, depth in enumerate(depths)]
    store = filled(SurfelMap(), frames)
    before = store.surfels()
    store.unfuse([1, 3], frames.__getitem__)
    after = store.surfels()
    assert torch.equal(after.ids, before.ids)
    inner = (after.position[:, :2].abs() < 0.8).all(-1)
    assert (after.position[inner, 2] - 2.005).abs().max() < 1e-3
    assert (after.confidence[inner] / before.confidence[inner]).sub(0.5).abs().max() < 0.02
    assert torch.equal(after.radius, before.radius)


def test_what_is_left_moves_no_further_than_bounded() -> None:
    """A look of little weight, the rest taken back: it is not blown up by what rounding left."""
    sure = wall(2.0)
    unsure = wall(2.05).replace(confidence=torch.full((48, 64), 1e-3))
    store = filled(SurfelMap(), [sure, unsure])
    before = store.surfels().position[:, 2]
    store.unfuse([0], lambda id: wall(2.0004))
    moved = store.surfels().position[:, 2] - before
    assert moved.abs().max() <= 4 * 1e-3


def test_colour_gives_way_to_the_next_view_as_sharp() -> None:
    frames = [wall(WALL, rgb) for rgb in (0.2, 0.8)]
    store = filled(SurfelMap(), frames)
    store.unfuse([1], frames.__getitem__)
    store.fuse(wall(WALL, 0.3))
    assert (store.surfels().colour - 0.3).abs().median() < 0.02


def test_features_are_taken_back() -> None:
    frames = [wall(WALL).replace(features=torch.full((48, 64, 3), value)) for value in (1.0, 5.0)]
    store = filled(SurfelMap(), frames)
    store.unfuse([1], frames.__getitem__)
    features = store.surfels().features
    assert features is not None
    assert (features - 1).abs().median() < 1e-3


def test_a_point_cloud_keeps_the_points_that_others_saw() -> None:
    frames = [wall(2.0), wall(2.02)]
    store = filled(PointCloud(), frames)
    before = store.surfels()
    store.unfuse([0], frames.__getitem__)
    assert torch.equal(store.surfels().position, before.position)
    store.unfuse([1], frames.__getitem__)
    assert len(store) == 0


def test_older_frames_fused_later_do_not_turn_back_the_clock() -> None:
    store = filled(SurfelMap(), [wall(WALL, time=5.0), wall(WALL, time=2.0)])
    assert store.surfels().last_seen.unique().tolist() == [5.0]


def test_ids_are_not_used_again() -> None:
    frames = [wall(WALL), wall(4.0)]
    store = filled(SurfelMap(), frames[:1])
    gone = set(store.surfels().ids.tolist())
    store.unfuse([0], frames.__getitem__)
    store.fuse(frames[1])
    assert not gone & set(store.surfels().ids.tolist())


def test_unfusing_an_empty_map_is_nothing() -> None:
    store = SurfelMap()
    store.unfuse([0], lambda id: wall(WALL))
    assert len(store) == 0


@pytest.mark.gpu
def test_cuda_unfuses_as_the_cpu_does() -> None:
    room = BoxRoom()
    frames = room.frames(room.walk(5, width=80, height=60), time=0.0)
    cpu, cuda = filled(SurfelMap(kernel="torch"), frames), SurfelMap()
    filled(cuda, [frame.to("cuda") for frame in frames])
    cpu.unfuse([1, 3], frames.__getitem__)
    cuda.unfuse([1, 3], lambda id: frames[id].to("cuda"))
    assert abs(len(cpu) - len(cuda)) < 0.01 * len(cpu)
    camera = frames[2].camera[None]
    a, b = cpu.render(camera), cuda.render(camera.to("cuda"))
    assert (a.depth - b.depth.cpu()).abs()[a.mask].quantile(0.95) < 0.01
    with pytest.raises(DeviceError):
        cuda.unfuse([0], frames.__getitem__)
