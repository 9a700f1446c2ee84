"""Forgetting on purpose: nothing of it is left in answers, in the map, or in the bytes of the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig, SpatialMemory
from spmem.errors import InputError, KeyframeNotFoundError, ReadOnlyError, StoreError
from spmem.forgetting import within
from spmem.stores.keyframes.zarr import record
from spmem.testing.box import BoxRoom

EVERY = MemoryConfig(recent=1, keyframes=KeyframeConfig(novelty=0.0, commit_every=0))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    walk = room.frames(room.walk(8, width=64, height=48, sweep=5.0), time=0.0)
    bits = np.random.default_rng(0).bytes(8 * 128)  # that no codec makes smaller
    latents = torch.frombuffer(bytearray(bits), dtype=torch.float16).reshape(8, 4, 16)
    return [frame.replace(latent=one) for frame, one in zip(walk, latents, strict=True)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "walk.spmem"


def holds(path: Path, frame: Frame) -> bool:
    """Whether any file below has a piece of the frame's encoded colour, depth or latent."""
    files = [file.read_bytes() for file in path.rglob("*") if file.is_file()]
    parts = record.encode(frame, EVERY.keyframes.quality)
    pieces = [part[len(part) // 2 :][:48] for part in parts if part]
    assert all(len(piece) == 48 for piece in pieces)
    assert len(pieces) == 2 + (frame.latent is not None)
    found = [any(piece in content for content in files) for piece in pieces]
    assert found[0] == found[-1]  # the colour as the latent
    return any(found)


def filled(path: Path | None, frames: list[Frame]) -> SpatialMemory:
    memory = spmem.open(path, config=EVERY)
    for frame in frames:
        memory.store(frame)
    memory.commit("walk")
    return memory


@pytest.mark.parametrize(
    ("forget", "gone"),
    [
        (lambda memory: memory.forget(keyframes=3), [3]),
        (lambda memory: memory.forget(keyframes=[0, 7]), [0, 7]),
        (lambda memory: memory.forget(time=(2.0, 4.0)), [2, 3, 4]),
        (lambda memory: memory.forget(keyframes=0, time=(6.0, None)), [0, 6, 7]),
    ],
)
def test_what_is_asked_for_is_gone(
    frames: list[Frame], forget: Callable[[SpatialMemory], None], gone: list[int]
) -> None:
    memory = filled(None, frames)
    forget(memory)
    check_gone(memory, gone)


def check_gone(memory: SpatialMemory, gone: list[int]) -> None:
    kept = [id for id in range(8) if id not in gone]
    assert list(memory.keyframes) == kept
    assert list(memory.views.ids) == kept
    assert not {frame.time for frame in memory.recent} & {float(id) for id in gone}
    _, seen = memory.geometry.observers(memory.geometry.surfels().ids)
    assert set(seen.tolist()) == set(kept)


def test_no_byte_is_left(path: Path, frames: list[Frame]) -> None:
    gone = [0, 6, 7]
    memory = filled(path, frames[:5])
    memory.tag("early")
    with memory.fork("left") as fork:
        for frame in frames[5:]:
            fork.store(frame)
    for frame in frames[5:]:
        memory.store(frame)
    memory.commit("walked on")
    assert all(holds(path, frames[id]) for id in gone)
    memory.forget(keyframes=0, time=(6.0, None))
    check_gone(memory, gone)
    kept = list(memory.keyframes)
    memory.close()
    assert not any(holds(path, frames[id]) for id in gone)
    assert all(holds(path, frames[id]) for id in kept)
    for branch in ("main", "left"):
        with spmem.open(path, mode="r", branch=branch) as again:
            assert list(again.keyframes) == kept
            assert {one.message for one in again.snapshots()} <= {"forgotten", "closed"}
            assert again.tags() == {}


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_exactly_the_named_keyframes_go(where: str, path: Path, frames: list[Frame]) -> None:
    """Also of those that were taken at the same time from the same pose."""
    memory = filled(None if where == "ram" else path, [frames[0]] * 4 + [frames[1]])
    memory.forget(keyframes=[1, 3])
    assert list(memory.keyframes) == [0, 2, 4]
    memory.close()


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_keyframes_that_another_branch_moved_go_there_too(
    where: str, path: Path, frames: list[Frame]
) -> None:
    memory = filled(None if where == "ram" else path, frames[:4])
    with memory.fork("left") as fork:
        pose = fork.keyframes[0].camera.c2w.clone()
        pose[0, 3] += 0.02
        fork.update_poses({0: pose})
    memory.forget(keyframes=0)
    with memory.at(branch="left") as left:
        assert list(left.keyframes) == [1, 2, 3]
    memory.close()
    assert where == "ram" or not holds(path, frames[0])


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_working_memory_of_other_branches_forgets_too(
    where: str, path: Path, frames: list[Frame]
) -> None:
    """Where the keyframe was moved or removed, while working memory has its frame still."""
    memory = filled(None if where == "ram" else path, frames[:4])
    with memory.fork("moved") as fork:
        pose = fork.keyframes[3].camera.c2w.clone()
        pose[0, 3] += 0.02
        fork.update_poses({3: pose})
        assert torch.equal(fork.recent[0].camera.c2w, pose)
    with memory.fork("removed") as fork:
        fork.remove(3)
        assert len(fork.recent) == 1
    memory.forget(keyframes=3)
    for branch in ("main", "moved", "removed"):
        with memory.at(branch=branch) as then:
            assert list(then.keyframes) == [0, 1, 2]
            assert len(then.recent) == 0


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_tags_that_bear_the_names_of_branches_go(
    where: str, path: Path, frames: list[Frame]
) -> None:
    memory = filled(None if where == "ram" else path, frames[:3])
    with memory.fork("left") as fork:
        fork.store(frames[3])
    memory.tag("left")
    memory.tag("main")
    memory.forget(keyframes=0)
    assert (memory.tags(), memory.branches()) == ({}, ["left", "main"])
    with memory.at(branch="left") as left:
        assert list(left.keyframes) == [1, 2, 3]
    memory.close()
    assert where == "ram" or not holds(path, frames[0])


def test_a_keyframe_that_lost_a_place_is_the_same_one(frames: list[Frame]) -> None:
    """So that forgetting it reaches the branch where it is whole, and merging does not bring it back."""
    memory = filled(None, frames[:4])
    memory.fork("whole").close()
    middle = frames[2].camera.unproject(frames[2].depth)[24, 32]
    memory.forget(region=((middle - 0.5).tolist(), (middle + 0.5).tolist()), history=False)
    changed = [id for id in memory.keyframes if id > 3]
    assert changed
    assert memory.merge("whole") == {}
    gone = {memory.keyframes[id].time for id in changed}
    memory.forget(keyframes=changed)
    with memory.at(branch="whole") as whole:
        assert not gone & {keyframe.time for keyframe in whole.keyframes.values()}


def test_history_may_stay(path: Path, frames: list[Frame]) -> None:
    memory = filled(path, frames[:4])
    before = memory.snapshots()[0]
    memory.forget(keyframes=1, history=False)
    assert list(memory.keyframes) == [0, 2, 3]
    with memory.at(before) as then:
        assert list(then.keyframes) == [0, 1, 2, 3]
    memory.close()
    assert holds(path, frames[1])


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_a_place_is_forgotten(where: str, path: Path, frames: list[Frame]) -> None:
    memory = filled(None if where == "ram" else path, frames)
    points = memory.geometry.surfels().position
    middle = frames[2].camera.unproject(frames[2].depth)[24, 32]
    region = ((middle - 0.5).tolist(), (middle + 0.5).tolist())

    def inside(points: torch.Tensor) -> torch.Tensor:
        low, high = (torch.tensor(corner) for corner in region)
        return ((points >= low) & (points <= high)).all(-1)

    assert inside(points).any()
    saw = [id for id, frame in enumerate(frames) if within(frame, region).any()]
    assert 2 in saw
    assert len(saw) < 8
    memory.forget(region=region)
    assert not inside(memory.geometry.surfels().position).any()
    assert len(memory.keyframes) == 8
    assert set(range(8)) - set(saw) < set(memory.keyframes)
    for keyframe in memory.keyframes.values():
        frame = keyframe.frame
        hidden = within(frames[int(keyframe.time)], region)
        assert (frame.latent is None) == bool(hidden.any())
        assert (frame.depth[hidden] == 0).all()
        assert frame.rgb[hidden].float().mean() < 40 or not hidden.any()  # JPEG's neighbours
        assert (frame.depth > 0).sum() >= (
            frames[int(keyframe.time)].depth > 0
        ).sum() - hidden.sum()
    for frame in memory.recent:
        assert (frame.depth[within(frames[int(frame.time or 0)], region)] == 0).all()
    if where == "disk":
        memory.close()
        assert not any(holds(path, frames[id]) for id in saw)
        with spmem.open(path, mode="r") as again:
            assert not inside(again.geometry.surfels().position).any()


def test_unknown_depth_that_looks_there_is_hidden_too(frames: list[Frame]) -> None:
    frame = frames[2]
    assert frame.depth is not None
    middle = frame.camera.unproject(frame.depth)[24, 32]
    region = ((middle - 0.3).tolist(), (middle + 0.3).tolist())
    blind = frame.replace(depth=torch.zeros_like(frame.depth))
    assert within(blind, region)[24, 32]
    assert not within(blind, region).all()
    behind = 2 * frame.camera.position - middle
    assert not within(blind, ((behind - 0.3).tolist(), (behind + 0.3).tolist())).any()


def test_bad_requests_change_nothing(path: Path, frames: list[Frame]) -> None:
    memory = filled(path, frames[:3])
    for request, error in (
        ({}, InputError),
        ({"keyframes": 9}, KeyframeNotFoundError),
        ({"keyframes": "0"}, InputError),
        ({"time": (3.0, 1.0)}, InputError),
        ({"region": ((0, 0, 0), (1, 1))}, InputError),
        ({"region": ((0, 0, np.nan), (1, 1, 1))}, InputError),
    ):
        with pytest.raises(error):
            memory.forget(**request)
    assert list(memory.keyframes) == [0, 1, 2]
    assert len(memory.snapshots()) == 1
    fork = memory.fork("open")
    with pytest.raises(StoreError, match="fork"):
        memory.forget(keyframes=0)
    fork.close()
    memory.reclaim(keep=1)
    memory.close()
    assert not holds(path, frames[0])
    with spmem.open(path, mode="r") as memory, pytest.raises(ReadOnlyError):
        memory.forget(keyframes=1)


def test_rebuilding_gives_what_the_keyframes_give(path: Path, frames: list[Frame]) -> None:
    memory = filled(path, frames)
    camera = frames[3].camera[None]
    before = memory.retrieve(camera)
    memory.remove_surfels(memory.geometry.surfels().ids[::2])
    memory.rebuild()
    after = memory.retrieve(camera)
    assert float((after.projection.mask == before.projection.mask).float().mean()) > 0.99
    assert [one.id for one in after.keyframes] == [one.id for one in before.keyframes]
    memory.close()
    with spmem.open(path, mode="r") as again:
        assert torch.equal(again.retrieve(camera).projection.rgb, after.projection.rgb)
