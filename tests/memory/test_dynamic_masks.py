"""What moves leaves the geometry as it was, while keyframes keep their pixels: furniture goes round in a furnished room."""

from __future__ import annotations

import pytest
import torch

import spmem
from spmem import KeyframeConfig, MemoryConfig, worlds
from spmem.integrations.segmentation.depth_change import DepthChange

N = 10
EVERY = MemoryConfig(keyframes=KeyframeConfig(novelty=0.0))


@pytest.fixture(scope="module")
def scene() -> tuple[list[spmem.Frame], list[spmem.Frame], torch.Tensor]:
    """The room when nothing moves, the same views with three things going round, and where these are."""
    still, moving = (worlds.House(seed=1, rooms=1, moving=m) for m in (0, 3))
    way = worlds.walk(still, N, seed=1, width=128, height=96)
    times = [10 + i / 10 for i in range(N)]
    truth = torch.isin(moving.render(way, times).instance, torch.tensor(list(moving.movers)))
    return list(still.frames(way)), list(moving.frames(way, times)), truth


def test_depth_change_finds_things_that_go_round(scene) -> None:  # type: ignore[no-untyped-def]
    still, moving, truth = scene
    memory = spmem.open()
    for frame in still:
        memory.store(frame)
    known = memory.retrieve(spmem.Camera.stack([frame.camera for frame in moving])).projection
    found = DepthChange()(moving, known)
    hits = float((found & truth).sum())
    assert truth.float().mean() > 0.01
    assert hits > 0.95 * float(truth.sum())
    assert hits > 0.75 * float(found.sum())


def test_geometry_stays_and_keyframes_keep_their_pixels(scene) -> None:  # type: ignore[no-untyped-def]
    still, moving, truth = scene
    look = spmem.Camera.stack([frame.camera for frame in still])
    changed = {}
    for name, segmenter in (("masked", "depth-change"), ("not", None)):
        memory = spmem.open(config=EVERY, segmenter=segmenter)
        for frame in still:
            memory.store(frame)
        before = memory.retrieve(look).projection
        ids = [memory.store(frame) for frame in moving]
        after = memory.retrieve(look).projection
        both = truth & before.mask & after.mask
        off = (after.depth / before.depth - 1).abs()[both]
        changed[name] = float((off > 0.05).float().mean())
        for id, frame in zip(ids, moving, strict=True):
            assert id is not None
            kept = memory.keyframes[id].frame
            assert torch.equal(kept.rgb, frame.rgb)
            assert kept.depth is not None
            assert frame.depth is not None
            assert (kept.depth / frame.depth - 1).abs().max() < 0.01
    assert changed["masked"] < 0.03
    assert (
        changed["not"] > 5 * changed["masked"]
    )  # the control: without masks the map takes them up
