"""The two calls, on an analytic room with exact depth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import spmem
from spmem import Camera, Frame, KeyframeConfig, MemoryConfig, SpatialMemory
from spmem.errors import (
    ConventionError,
    FrameError,
    InputError,
    KeyframeNotFoundError,
    UnknownNameError,
)
from spmem.geometry.consistency import DepthView, pose_agreement
from spmem.query import Query, Selection
from spmem.retrieval.rules import METHODS
from spmem.retrieval.rules.baseline import Baseline
from spmem.retrieval.rules.oracle import Oracle
from spmem.testing.box import BoxRoom
from spmem.testing.memory import CorrectableMemoryTests, MemoryTests
from spmem.views import Views

WIDTH, HEIGHT = 80, 60
ROOM = BoxRoom()


class TestSpatialMemory(MemoryTests):
    @pytest.fixture
    def memory(self) -> SpatialMemory:
        return spmem.open()


class TestCorrections(CorrectableMemoryTests):
    @pytest.fixture
    def memory(self) -> SpatialMemory:
        return spmem.open(config=MemoryConfig(keyframes=KeyframeConfig(novelty=0.0)))


def walk(n: int = 24, sweep: float = 6.0) -> list[Frame]:
    """A turn around in the room."""
    return ROOM.frames(ROOM.walk(n, width=WIDTH, height=HEIGHT, sweep=sweep), time=0.0)


def filled(memory: SpatialMemory, frames: list[Frame]) -> list[int | None]:
    return [memory.store(frame) for frame in frames]


def test_store_keeps_what_is_new_and_only_that() -> None:
    memory = spmem.open()
    ids = filled(memory, walk())
    kept = [id for id in ids if id is not None]
    assert ids[0] == 0
    assert 3 <= len(kept) < len(ids)
    assert list(memory.keyframes) == kept == sorted(kept)
    again = filled(memory, [f.replace(time=f.time + 100) for f in walk() if f.time is not None])
    assert sum(id is not None for id in again) <= 1


def test_novelty_0_keeps_every_frame_and_1_only_the_first() -> None:
    for novelty, kept in ((0.0, 8), (1.0, 1)):
        memory = spmem.open(config=MemoryConfig(keyframes=KeyframeConfig(novelty=novelty)))
        filled(memory, walk(8, sweep=1.5))
        assert len(memory.keyframes) == kept


def test_a_rule_of_ones_own_is_shown_every_keyframe_once() -> None:
    class Latest(Baseline):
        def __init__(self) -> None:
            self.shown: list[int] = []

        def observe(self, views: Views, rows: slice) -> None:
            self.shown += views.ids[rows].tolist()

        def select(self, query: Query, views: Views, k: int) -> Selection:
            assert query.observers is not None
            voters = query.observers(query.projection.surfel_ids.flatten())[1]
            assert set(voters.tolist()) <= set(views.ids.tolist())
            return Selection(views.ids[::-1][:k].copy(), np.ones(min(k, len(views)), np.float32))

    memory, rule, frames = spmem.open(), Latest(), walk()
    filled(memory, frames[:12])
    memory.retrieve(frames[0].camera, method=rule)
    filled(memory, frames[12:])
    found = memory.retrieve(frames[0].camera, k=2, method=rule)
    assert rule.shown == list(memory.keyframes)
    assert [keyframe.id for keyframe in found.keyframes] == rule.shown[:-3:-1]
    assert found.method == "Latest"


def test_the_oracle_chooses_by_the_truth_that_it_is_handed() -> None:
    memory = spmem.open(config=MemoryConfig(keyframes=KeyframeConfig(novelty=0.0)))
    filled(memory, walk(4, sweep=0.4))
    saw = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
    found = memory.retrieve(
        walk(1)[0].camera, method=Oracle(lambda query, views: (saw, np.array([1, 1, 1])))
    )
    assert [keyframe.id for keyframe in found.keyframes] == [1, 2]
    assert found.method == "Oracle"


def test_the_rule_that_goes_by_looks_finds_the_same_picture() -> None:
    memory = spmem.open(config=MemoryConfig(keyframes=KeyframeConfig(novelty=0.0)))
    frames = walk(8)
    filled(memory, frames)
    for asked in (1, 6):
        found = memory.retrieve(frames[asked].camera, k=1, method="embedding")
        assert [keyframe.id for keyframe in found.keyframes] == [asked]
        assert found.scores[0] > 0.95


def test_retrieve_shows_the_place_again() -> None:
    memory = spmem.open()
    frames = walk()
    filled(memory, frames)
    cameras = Camera.stack([frames[3].camera, frames[4].camera])
    found = memory.retrieve(cameras, k=3)
    truth = ROOM.render(cameras)
    mask = found.projection.mask
    assert found.coverage.shape == (2,)
    assert (found.coverage > 0.95).all()
    off = (found.projection.depth - truth.depth).abs() / truth.depth
    assert off[mask].median() < 0.005
    assert 1 <= len(found.keyframes) <= 3
    assert len(found.scores) == len(found.keyframes)
    best = found.keyframes[0]
    assert torch.equal(best.frame.camera.c2w, best.camera.c2w)
    assert [f.time for f in found.recent] == [20.0, 21.0, 22.0, 23.0]
    explained = found.explain()
    assert [c.id for c in explained] == [k.id for k in found.keyframes]
    assert all(0 <= c.alone <= c.sees <= 1 for c in explained)


def test_unknown_places_are_said_to_be_unknown() -> None:
    memory = spmem.open()
    frames = walk(4, sweep=0.4)
    filled(memory, frames)
    behind = Camera.look_at([0.0, 0, -1], [0.0, 0, -5], width=WIDTH, height=HEIGHT)
    found = memory.retrieve(behind)
    assert found.coverage[0] < 0.05
    assert found.projection.uncovered().float().mean() > 0.95
    assert memory.retrieve(frames[0].camera).coverage[0] > 0.95


def test_an_empty_memory_knows_nothing_and_says_so() -> None:
    memory = spmem.open()
    for method in METHODS:
        found = memory.retrieve(walk(1)[0].camera, method=method)
        assert found.coverage.tolist() == [0.0]
        assert found.keyframes == ()
        assert found.explain() == []


@pytest.mark.parametrize("method", METHODS)
def test_every_method_honours_k_and_exclude(method: str) -> None:
    memory = spmem.open(config=MemoryConfig(keyframes=KeyframeConfig(novelty=0.0)))
    frames = walk(10, sweep=1.5)
    filled(memory, frames)
    cameras = frames[5].camera
    assert memory.retrieve(cameras, k=0, method=method).keyframes == ()
    for k in (1, 3, 50):
        found = memory.retrieve(
            cameras, k=k, method=method, where=spmem.Where(exclude=[4, 5]), given=()
        )
        ids = [keyframe.id for keyframe in found.keyframes]
        assert len(ids) == len(set(ids)) <= min(k, 8)
        assert not {4, 5} & set(ids)
    one, other = (memory.retrieve(cameras, method=method, seed=3) for _ in range(2))
    assert [keyframe.id for keyframe in one.keyframes] == [
        keyframe.id for keyframe in other.keyframes
    ]
    assert torch.equal(one.scores, other.scores)


def test_no_keyframe_is_spent_on_what_the_generator_holds() -> None:
    memory = spmem.open(config=MemoryConfig(keyframes=KeyframeConfig(novelty=0.0)))
    frames = walk(12, sweep=2.5)
    filled(memory, frames)
    cameras = Camera.stack([frames[1].camera, frames[1].camera, frames[10].camera])
    alone = memory.retrieve(cameras, k=1, given=())
    held = memory.retrieve(cameras, k=1, given=[frames[1]])
    assert alone.keyframes[0].id <= 3
    assert held.keyframes[0].id >= 8


def test_frames_without_time_are_numbered() -> None:
    memory = spmem.open()
    for frame in walk(3):
        memory.store(frame.replace(time=None))
    assert [f.time for f in memory.recent] == [0.0, 1.0, 2.0]


def test_time_goes_on_without_working_memory() -> None:
    memory = spmem.open(config=MemoryConfig(recent=0, keyframes=KeyframeConfig(novelty=0.0)))
    filled(memory, [frame.replace(time=None) for frame in walk(3)])
    assert [k.time for k in memory.keyframes.values()] == [0.0, 1.0, 2.0]


def test_keyframes_are_a_mapping() -> None:
    memory = spmem.open()
    frames = walk(6)
    filled(memory, frames)
    assert len(memory.keyframes) == len(list(memory.keyframes))
    keyframe = memory.keyframes[0]
    assert (keyframe.id, keyframe.time) == (0, 0.0)
    assert torch.equal(keyframe.frame.depth, frames[0].depth)  # type: ignore[arg-type]
    kept = list(memory.keyframes)
    for id, frame in zip(kept[::-1], memory.keyframes.frames(kept[::-1]), strict=True):
        assert torch.equal(frame.rgb, memory.keyframes[id].frame.rgb)
    assert 10**6 not in memory.keyframes
    with pytest.raises(KeyframeNotFoundError, match="1000000"):
        memory.keyframes[10**6]


# -- conventions --------------------------------------------------------------------------------------


def misread(frames: list[Frame], how: str) -> list[Frame]:
    """The frames with the cameras that somebody with another convention would give."""
    out = []
    for f in frames:
        c = f.camera
        pose = c.to_opengl() if how == "opengl" else c.w2c
        out.append(f.replace(camera=Camera(c.K, pose, width=c.width, height=c.height)))
    return out


@pytest.mark.parametrize(("how", "says"), [("opengl", "from_opengl"), ("inverted", "invert them")])
def test_poses_of_another_convention_are_noticed(how: str, says: str) -> None:
    memory = spmem.open()
    with pytest.raises(ConventionError, match=says):
        filled(memory, misread(walk(30), how))
    unchecked = spmem.open(config=MemoryConfig(check_poses=False))
    filled(unchecked, misread(walk(30), how))


def test_right_poses_agree_with_depth() -> None:
    frames = walk(24)
    a, b = (
        DepthView(depth, frame.camera.K, frame.camera.c2w)
        for frame in (frames[0], frames[3])
        if (depth := frame.depth) is not None
    )
    found = pose_agreement(a, b)
    assert found.given > 0.9
    assert max(found.opengl, found.inverted) < 0.5


# -- estimators ---------------------------------------------------------------------------------------


def test_a_depth_estimator_lifts_frames_without_depth() -> None:
    def estimator(rgb: torch.Tensor, cameras: Camera, known: object = None) -> torch.Tensor:
        return ROOM.render(cameras).depth

    memory = spmem.open(depth=estimator)
    frames = walk(4)
    filled(memory, [f.replace(depth=None) for f in frames])
    assert memory.retrieve(frames[1].camera).coverage[0] > 0.95
    with pytest.raises(FrameError, match="depth"):
        spmem.open().store(frames[0].replace(depth=None))


def test_a_segmenter_keeps_what_moves_out_of_the_map() -> None:
    def left_half_moves(frames: list[Frame], known: object = None) -> torch.Tensor:
        moving = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
        moving[..., : WIDTH // 2] = True
        return moving

    memory = spmem.open(segmenter=left_half_moves)  # type: ignore[arg-type]
    frame = walk(1)[0]
    memory.store(frame)
    mask = memory.retrieve(frame.camera).projection.mask[0]
    assert not mask[:, : WIDTH // 2 - 4].any()
    assert mask[4:-4, WIDTH // 2 + 4 : -4].float().mean() > 0.95


def test_parts_go_by_name() -> None:
    memory = spmem.open(depth="projection-depth", segmenter="depth-change")
    frames = walk(3)
    filled(memory, [frames[0], frames[1].replace(depth=None)])
    assert memory.recent[-1].depth is not None
    with pytest.raises(UnknownNameError, match="depth-change"):
        spmem.open(segmenter="depth-changes")


# -- bad calls ----------------------------------------------------------------------------------------


def test_bad_calls() -> None:
    memory = spmem.open()
    frame = walk(1)[0]
    with pytest.raises(InputError, match="trajectory"):
        memory.retrieve(frame.camera[None, None])
    with pytest.raises(InputError, match="Camera"):
        memory.retrieve(torch.eye(4))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="k must be"):
        memory.retrieve(frame.camera, k=-1)
    with pytest.raises(UnknownNameError, match="did you mean 'covisibility'"):
        memory.retrieve(frame.camera, method="covisibilty")
    with pytest.raises(InputError, match="Frame"):
        memory.store(frame.rgb)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mode"):
        spmem.open(mode="x")
    with pytest.raises(InputError, match="are for stored ones"):
        spmem.open(mode="r")
    with pytest.raises(InputError, match="local folders"):
        spmem.open("ftp://host/kitchen")
    with pytest.raises(UnknownNameError, match="surfels"):
        spmem.open(config=MemoryConfig(geometry="surfel"))
