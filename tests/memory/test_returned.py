"""What parts of other hands return is input: refused by name, and nothing of it is stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import spmem
from spmem import Camera, Frame, KeyframeConfig, MemoryConfig, Pointmaps
from spmem.errors import DeviceError, SpmemError
from spmem.integrations.depth.pointmaps import PointmapDepth
from spmem.integrations.tracking import follow
from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline
from spmem.returned import depth_from, moving_from, projection_from
from spmem.stores.maps.rendering import DiscRenderer
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.box import BoxRoom
from spmem.views import Views

ROOM = BoxRoom()
SIZE = (48, 64)
WAY = ROOM.walk(3, width=64, height=48, sweep=1.0)
FRAMES = ROOM.frames(WAY)
GOOD = FRAMES[0].depth
assert GOOD is not None
BARE = FRAMES[1].replace(depth=None)
EVERY = MemoryConfig(keyframes=KeyframeConfig(novelty=0.0))


def one_pixel(value: float) -> Tensor:
    assert GOOD is not None
    depth = GOOD.clone()
    depth[3, 4] = value
    return depth[None]


DEPTHS: dict[str, Any] = {
    "NaN": one_pixel(float("nan")),
    "infinite": one_pixel(float("inf")),
    "negative": one_pixel(-1.0),
    "as far as nothing is": one_pixel(1e20),
    "an image less": torch.ones(SIZE),
    "of another size": torch.ones(1, 24, 32),
    "of whole numbers": torch.ones(1, *SIZE, dtype=torch.int64),
    "on another device": torch.ones(1, *SIZE, device="meta"),
    "an array": np.ones((1, *SIZE), np.float32),
    "nothing": None,
}
MASKS: dict[str, Any] = {
    "floats": torch.zeros(1, *SIZE),
    "of another size": torch.zeros(1, 24, 32, dtype=torch.bool),
    "an image less": torch.zeros(SIZE, dtype=torch.bool),
    "nothing": None,
    "on another device": torch.zeros(1, *SIZE, dtype=torch.bool, device="meta"),
}


def stored(memory: spmem.SpatialMemory) -> tuple[list[int], list[Any], Tensor, Tensor]:
    """What tells whether anything was stored."""
    shown = memory.retrieve(WAY, k=0).projection
    return list(memory.keyframes), [one.time for one in memory.recent], shown.mask, shown.depth


def refuses(path: Path | None, says: str, bad: Callable[[spmem.SpatialMemory], Any], **parts: Any) -> None:  # fmt: skip
    """The call raises, names the part, leaves memory as it was, and the folder opens again."""
    with spmem.open(path, config=EVERY) as memory:
        memory.store(FRAMES[0])
    with spmem.open(path, **parts) as memory:
        if path is None:
            memory.store(FRAMES[0])
        before = stored(memory)
        with pytest.raises(SpmemError, match=says):
            bad(memory)
        after = stored(memory)
        assert after[:2] == before[:2]
        # What was fused already is taken out again, within the bounds of remove().
        both = after[2] & before[2]
        assert (after[2] != before[2]).float().mean() < 0.01
        assert (after[3] / before[3] - 1)[both].abs().quantile(0.95) < 0.01
        with suppress(SpmemError):
            memory.store(FRAMES[2])
        assert memory.recent[-1].time in (0.0, 1.0)  # the refused frame took no time
    if path is not None:
        with spmem.open(path) as memory:
            assert next(iter(memory.keyframes)) == 0


@pytest.mark.parametrize("what", DEPTHS)
def test_depth_that_is_none_is_refused(tmp_path: Path, what: str) -> None:
    def oddly(rgb: Tensor, cameras: Camera, known: Any = None) -> Any:
        return DEPTHS[what]

    says = "depth estimator .*oddly returned"
    refuses(tmp_path / "m.spmem", says, lambda m: m.store(BARE), depth=oddly)


def test_depth_with_a_gradient_and_in_half_precision_is_taken() -> None:
    def half(rgb: Tensor, cameras: Camera, known: Any = None) -> Tensor:
        assert GOOD is not None
        return GOOD[None].half().requires_grad_(True)

    memory = spmem.open(depth=half)
    assert memory.store(BARE) == 0
    assert memory.recent[0].depth is not None
    assert not memory.recent[0].depth.requires_grad


@pytest.mark.parametrize("what", MASKS)
def test_a_mask_that_is_none_is_refused(tmp_path: Path, what: str) -> None:
    def oddly(frames: Any, known: Any = None) -> Any:
        return MASKS[what]

    says = "dynamic segmenter .*oddly returned"
    refuses(tmp_path / "m.spmem", says, lambda m: m.store(FRAMES[1]), segmenter=oddly)


class OddEmbedder:
    """Describes the probe well, and then as it was made to."""

    dim = 4

    def __init__(self, returned: Any, after: int = 2) -> None:
        self.returned, self.calls, self.after = returned, 0, after

    def __call__(self, rgb: Tensor) -> Any:
        self.calls += 1
        if self.calls <= self.after:
            return torch.nn.functional.normalize(torch.ones(len(rgb), 4), dim=-1)
        return self.returned


@pytest.mark.parametrize(
    "returned",
    [
        torch.full((1, 4), float("nan")),
        torch.zeros(1, 4),
        torch.ones(1, 4),
        torch.full((1, 3), 0.5),
        torch.full((2, 4), 0.5),
        torch.full((4,), 0.5),
        None,
    ],
    ids=str,
)
def test_descriptors_that_are_none_are_refused(returned: Any) -> None:
    says = "embedder OddEmbedder returned"
    refuses(None, says, lambda m: m.store(FRAMES[1]), embedder=OddEmbedder(returned))


@pytest.mark.parametrize(
    "named", [[7], [], [0, 0], [0.5], None, "0", [2**70], torch.ones(1, 1)], ids=str
)
def test_a_policy_that_names_others_is_refused(tmp_path: Path, named: Any) -> None:
    def oddly(held: Any, count: int) -> Any:
        return named

    says = "retention policy .*oddly was to name 1 of the 2 keyframes"
    refuses(tmp_path / "m.spmem", says, lambda m: m.store(FRAMES[1]), retention=oddly, budget=1)


I64 = np.int64
SELECTIONS: dict[str, Any] = {
    "nothing": None,
    "a list": [0],
    "an unknown id": Selection(np.array([9], I64), np.ones(1, np.float32)),
    "an id twice": Selection(np.array([0, 0], I64), np.ones(2, np.float32)),
    "more than k": Selection(np.array([0, 1], I64), np.ones(2, np.float32)),
    "floats": Selection(np.array([0.5]), np.ones(1, np.float32)),  # type: ignore[arg-type]
    "scores NaN": Selection(np.array([0], I64), np.full(1, np.nan, np.float32)),
    "scores missing": Selection(np.array([0], I64), np.ones(0, np.float32)),
    "what is left out": Selection(np.array([1], I64), np.ones(1, np.float32)),
}


@pytest.mark.parametrize("what", SELECTIONS)
def test_an_answer_that_is_none_is_refused(what: str) -> None:
    class OddRule(Baseline):
        def select(self, query: Query, views: Views, k: int) -> Any:
            return SELECTIONS[what]

    memory = spmem.open(config=EVERY)
    for frame in FRAMES:
        memory.store(frame)
    with pytest.raises(SpmemError, match=r"retrieval rule .*OddRule answered"):
        memory.retrieve(WAY, k=1, method=OddRule(), where=spmem.Where(exclude=[1]))


POSES: dict[str, Any] = {
    "nothing": None,
    "a matrix": torch.eye(4),
    "a trajectory": WAY,
    "of another size": WAY[0].resize(32, 24),
    "NaN": Camera(WAY.K[0], WAY.c2w[0] * float("nan"), width=64, height=48, validate=False),
    "not rigid": Camera(WAY.K[0], WAY.c2w[0] * 1.5, width=64, height=48, validate=False),
}


@pytest.mark.parametrize("what", POSES)
def test_a_tracked_camera_that_is_none_is_refused(what: str) -> None:
    def oddly(rgb: Tensor, depth: Any, guess: Camera, memory: Any) -> Any:
        return POSES[what]

    memory = spmem.open()
    with pytest.raises(SpmemError, match=r"pose tracker .*oddly returned"):
        list(follow(FRAMES, memory, tracker=oddly))
    assert list(memory.keyframes) == [0]


MAPS = Pointmaps(WAY[:1], torch.ones(1, *SIZE), torch.ones(1, *SIZE))
POINTMAPS: dict[str, Any] = {
    "nothing": None,
    "NaN": replace(MAPS, depth=torch.full((1, *SIZE), float("nan"))),
    "negative confidence": replace(MAPS, confidence=-torch.ones(1, *SIZE)),
    "of another size": replace(MAPS, depth=torch.ones(1, 24, 32)),
    "two frames": replace(MAPS, cameras=WAY[:2]),
    "not rigid": replace(MAPS, cameras=Camera(WAY.K[:1], WAY.c2w[:1] * 1.5, width=64, height=48, validate=False)),
}  # fmt: skip


@pytest.mark.parametrize("what", POINTMAPS)
def test_pointmaps_that_are_none_are_refused(what: str) -> None:
    def oddly(rgb: Tensor, cameras: Any = None) -> Any:
        return POINTMAPS[what]

    says = "pointmap estimator .*oddly returned"
    refuses(None, says, lambda m: m.store(BARE), depth=PointmapDepth(oddly))


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": torch.ones(1, 24, 32)},
        {"depth": torch.ones(1, *SIZE).double()},
        {"mask": torch.ones(1, *SIZE)},
        {"surfel_ids": torch.zeros(1, *SIZE, dtype=torch.int32)},
        {"rgb": None},
        None,
    ],
    ids=str,
)
def test_pictures_that_are_none_are_refused(changes: Any) -> None:
    draw = DiscRenderer()

    def oddly(surfels: Any, cameras: Camera) -> Any:
        return None if changes is None else replace(draw(surfels, cameras), **changes)

    drawn = SurfelMap(renderer=oddly)
    drawn.fuse(FRAMES[0])
    with pytest.raises(SpmemError, match=r"renderer .*oddly returned"):
        drawn.render(WAY[:1])
    assert projection_from(draw, drawn.surfels(), WAY[:1]).mask.any()


UNCHECKED: dict[str, dict[str, Any]] = {
    "depth NaN": {"depth": one_pixel(float("nan"))[0]},
    "depth infinite": {"depth": one_pixel(float("inf"))[0]},
    "depth negative": {"depth": one_pixel(-1.0)[0]},
    "depth too far": {"depth": one_pixel(2e9)[0]},
    "confidence NaN": {"confidence": one_pixel(float("nan"))[0]},
    "confidence negative": {"confidence": one_pixel(-1.0)[0]},
    "confidence endless": {"confidence": one_pixel(1e30)[0]},
    "rgb NaN": {"rgb": torch.full((*SIZE, 3), float("nan"))},
    "features NaN": {"features": torch.full((*SIZE, 2), float("nan"))},
    "features endless": {"features": torch.full((*SIZE, 2), 1e30)},
    "a pose that is not rigid": {"camera": POSES["not rigid"]},
    "a pose of NaN": {"camera": POSES["NaN"]},
    "a pose beyond the world": {"camera": Camera(WAY.K[0], WAY.c2w[0] + 1e12 * torch.tensor([[0, 0, 0, 1.0]] * 3 + [[0] * 4]), width=64, height=48, validate=False)},
    "K of NaN": {"camera": Camera(WAY.K[0] * float("nan"), WAY.c2w[0], width=64, height=48, validate=False)},
    "K that sees all": {"camera": Camera(torch.diag(torch.tensor([1e-20, 1e-20, 1])) @ WAY.K[0], WAY.c2w[0], width=64, height=48, validate=False)},
}  # fmt: skip


@pytest.mark.parametrize("what", UNCHECKED)
def test_an_unchecked_frame_is_checked_when_it_is_stored(tmp_path: Path, what: str) -> None:
    frame = FRAMES[1].replace(**UNCHECKED[what])
    refuses(tmp_path / "m.spmem", r"(?s).", lambda m: m.store(frame))


@pytest.mark.parametrize("time", [1e39, -1e39, 10**400, float("inf"), float("nan"), "soon", [1, 2]])
def test_a_time_that_surfels_cannot_keep_is_refused(time: Any) -> None:
    with pytest.raises(spmem.errors.FrameError, match="time must be finite seconds"):
        FRAMES[0].replace(time=time)
    with pytest.raises(spmem.errors.FrameError, match="time must be finite seconds"):
        Frame(FRAMES[0].rgb, FRAMES[0].depth, WAY[0], time)


def test_the_largest_that_is_taken_opens_again(tmp_path: Path) -> None:
    far = WAY[0].c2w.clone()
    far[:3, 3] = 1e9
    steep = WAY[0].K.clone()
    steep[0, 0] = steep[1, 1] = 0.0326
    cameras = [
        Camera(WAY.K[0], far, width=64, height=48),
        Camera(steep, WAY[0].c2w, width=64, height=48, validate=False),
        WAY[0],
    ]
    most = torch.full(SIZE, 1e9)
    for number, camera in enumerate(cameras):
        for depth in (most, torch.full(SIZE, 1e-9)):
            path = tmp_path / f"{number}-{float(depth[0, 0])}"
            frame = Frame(FRAMES[0].rgb, depth, camera, 3.4e38, confidence=most, features=torch.full((*SIZE, 2), 1e9))  # fmt: skip
            with spmem.open(path, config=EVERY) as memory:
                for _ in range(3):
                    memory.store(frame)
            with spmem.open(path) as memory:
                assert len(memory.keyframes) == 3
                assert torch.isfinite(memory.retrieve(camera).projection.depth).all()


def test_several_frames_are_checked_together() -> None:
    def twice(rgb: Tensor, cameras: Camera, known: Any = None) -> Tensor:
        return torch.ones(len(rgb), *SIZE)

    def still(frames: Any, known: Any = None) -> Tensor:
        return torch.zeros(len(frames), *SIZE, dtype=torch.bool)

    rgb = torch.stack([frame.rgb_float() for frame in FRAMES])
    assert depth_from(twice, rgb, WAY).shape == (3, *SIZE)
    assert moving_from(still, FRAMES).shape == (3, *SIZE)
    with pytest.raises(DeviceError, match=re.escape("what it was given is on meta")):
        depth_from(twice, rgb.to("meta"), WAY)


def test_an_estimator_and_a_segmenter_are_shown_one_rendering() -> None:
    shown: list[Any] = []

    def depth(rgb: Tensor, cameras: Camera, known: Any = None) -> Tensor:
        shown.append(known)
        assert GOOD is not None
        return GOOD[None]

    def still(frames: Any, known: Any = None) -> Tensor:
        shown.append(known)
        return torch.zeros(1, *SIZE, dtype=torch.bool)

    memory = spmem.open(depth=depth, segmenter=still)
    memory.store(BARE)
    assert shown[0] is shown[1]
