"""SurfelMapBatch in one batch, on what runs everywhere: each is the map it would be alone."""

from __future__ import annotations

import pytest
import torch

from spmem import Camera, Frame
from spmem.errors import DTypeError, FrameError, InputError
from spmem.stores.maps.batch import SurfelMapBatch
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.box import BoxRoom

WIDTH, HEIGHT = 64, 48


@pytest.mark.parametrize("kernel", ["numba", "torch"])
def test_worlds_in_one_call_are_as_many_maps(kernel: str) -> None:
    room = BoxRoom()
    walks = [room.walk(3, width=WIDTH, height=HEIGHT, sweep=1.0 + b) for b in range(3)]
    worlds, maps = SurfelMapBatch(3, kernel=kernel), [SurfelMap(kernel=kernel) for _ in range(3)]
    for step in range(3):
        poses = Camera.stack([walk[step] for walk in walks])
        seen = room.render(poses)
        ids = worlds.fuse(seen.rgb, seen.depth, poses, time=float(step))
        frames = [Frame(seen.rgb[b], seen.depth[b], poses[b], float(step)) for b in range(3)]
        assert torch.equal(ids, torch.stack([m.fuse(f) for m, f in zip(maps, frames, strict=True)]))
    views = Camera.stack([walk[:2] for walk in walks])
    seen = worlds.render(views)
    assert seen.coverage.shape == (3, 2)
    assert seen.points.shape == (3, 2, HEIGHT, WIDTH, 3)
    for b, one in enumerate(maps):
        assert torch.equal(worlds[b].position, one.surfels().position)
        assert torch.equal(seen.depth[b], one.render(views[b]).depth)


def test_worlds_begin_empty() -> None:
    worlds = SurfelMapBatch(2)
    seen = worlds.render(BoxRoom().walk(4, width=WIDTH, height=HEIGHT)[torch.tensor([[0, 1], [2, 3]])])  # fmt: skip
    assert len(worlds) == 2
    assert not seen.mask.any()
    assert len(worlds[0]) == len(worlds[1]) == 0


def test_what_does_not_fit_is_an_error() -> None:
    room = BoxRoom()
    poses = room.walk(2, width=WIDTH, height=HEIGHT)
    seen, worlds = room.render(poses), SurfelMapBatch(2)
    with pytest.raises(InputError, match="at least one"):
        SurfelMapBatch(0)
    with pytest.raises(FrameError, match="one a world"):
        worlds.fuse(seen.rgb, seen.depth, poses[:1])
    with pytest.raises(FrameError, match="rgb"):
        worlds.fuse(seen.rgb[:, 1:], seen.depth, poses)
    with pytest.raises(FrameError, match="depth"):
        worlds.fuse(seen.rgb, seen.depth[0], poses)
    with pytest.raises(DTypeError, match="depth"):
        worlds.fuse(seen.rgb, seen.depth.int(), poses)
    with pytest.raises(InputError, match=r"\[2, t\]"):
        worlds.render(poses)
