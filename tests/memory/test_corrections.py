"""Poses corrected and keyframes removed: against memories that were built afresh."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spmem
from spmem import Camera, Frame, FusionConfig, KeyframeConfig, MemoryConfig, SpatialMemory, worlds
from spmem.errors import InputError, KeyframeNotFoundError, ReadOnlyError, StoreError
from spmem.geometry.se3 import matrix_from_quaternion
from spmem.testing.box import BoxRoom

WIDTH, HEIGHT = 96, 72
VOXEL = 0.05
CONFIG = MemoryConfig(
    fusion=FusionConfig(voxel=VOXEL), keyframes=KeyframeConfig(novelty=0.0, commit_every=0)
)
ROOM = BoxRoom()


def in_the_box(n: int = 16, sweep: float = 4.0) -> list[Frame]:
    return ROOM.frames(ROOM.walk(n, width=WIDTH, height=HEIGHT, sweep=sweep), time=0.0)


def in_a_house(n: int = 24) -> list[Frame]:
    house = worlds.House(seed=1, rooms=2)
    cameras = worlds.rotate_and_return(house, n, width=WIDTH, height=HEIGHT)
    return list(house.frames(cameras, times=torch.arange(n, dtype=torch.float32)))


def off_by(frame: Frame, seed: int, shift: float = 0.02, degrees: float = 1.0) -> Frame:
    """The frame with a pose that is wrong by so much, in a direction of the seed's."""
    draw = torch.Generator().manual_seed(seed)
    axis, step = torch.nn.functional.normalize(torch.randn(2, 3, generator=draw), dim=-1)
    half = math.radians(degrees) / 2
    turn = matrix_from_quaternion(
        torch.cat([torch.tensor([math.cos(half)]), axis * math.sin(half)])
    )
    c2w = frame.camera.c2w.clone()
    c2w[:3, :3] = turn @ c2w[:3, :3]
    c2w[:3, 3] += step * shift
    return frame.moved(c2w)


def built(frames: list[Frame], config: MemoryConfig = CONFIG) -> SpatialMemory:
    memory = spmem.open(config=config)
    for frame in frames:
        memory.store(frame)
    return memory


def poses(frames: list[Frame], ids: list[int]) -> dict[int, torch.Tensor]:
    return {id: frames[id].camera.c2w for id in ids}


class Difference:
    """Of what two memories render along the cameras of frames; depth as a share of itself."""

    def __init__(self, memory: SpatialMemory, other: SpatialMemory, frames: list[Frame]) -> None:
        cameras = Camera.stack([frame.camera for frame in frames])
        a, b = (one.retrieve(cameras, k=0).projection for one in (memory, other))
        both = a.mask & b.mask
        depth = ((a.depth - b.depth).abs() / b.depth)[both]
        self.mean, self.p95 = float(depth.mean()), float(depth.quantile(0.95))
        self.colour = float((a.rgb - b.rgb).abs()[both].mean())
        self.coverage = float(a.mask.float().mean() - b.mask.float().mean())
        self.surfels = len(memory.geometry) / len(other.geometry)
        confidence = [float(one.geometry.surfels().confidence.sum()) for one in (memory, other)]
        self.confidence = confidence[0] / confidence[1]

    def __repr__(self) -> str:
        return f"Difference({vars(self)})"


SCENES = {"box": in_the_box, "house": in_a_house}


@pytest.mark.parametrize("scene", SCENES)
def test_corrected_is_as_built_afresh(scene: str) -> None:
    frames = SCENES[scene]()
    moved = list(range(3, len(frames), 6))
    wrong = [off_by(f, i) if i in moved else f for i, f in enumerate(frames)]
    memory, right = built(wrong), built(frames)
    before = Difference(memory, right, frames)
    memory.update_poses(poses(frames, moved))
    after = Difference(memory, right, frames)
    last = built([f for i, f in enumerate(frames) if i not in moved] + [frames[i] for i in moved])
    order = Difference(last, right, frames)
    assert after.mean < 0.65 * before.mean, (before, after)
    assert after.p95 < 0.5 * before.p95, (before, after)
    assert after.mean < 4e-3, after
    assert after.p95 < 4e-3, after
    assert after.colour < 0.02, after
    assert abs(after.coverage) < 5e-3, after
    assert 0.95 < after.surfels < 1.1, after
    assert 0.9 < after.confidence < 1.1, after
    assert after.mean < order.mean + 2.5e-3, (after, order)


@pytest.mark.parametrize("scene", SCENES)
def test_removed_is_as_never_stored(scene: str) -> None:
    frames = SCENES[scene]()
    gone = [1, 5, 6, 11]
    memory, without = built(frames), built([f for i, f in enumerate(frames) if i not in gone])
    memory.remove(gone)
    left = [f for i, f in enumerate(frames) if i not in gone]
    found = Difference(memory, without, left)
    assert found.mean < 1.5e-3, found
    assert found.p95 < 3e-3, found
    assert found.colour < 0.02, found
    assert abs(found.coverage) < 0.01, found
    assert 0.95 < found.surfels < 1.05, found
    assert 0.95 < found.confidence < 1.05, found


@settings(max_examples=4)
@given(st.sets(st.integers(0, 11), min_size=1, max_size=12), st.integers(0, 99))
def test_there_and_back_again(moved: set[int], seed: int) -> None:
    frames = in_the_box(12, sweep=3.0)
    memory, before = built(frames), built(frames)
    memory.update_poses({id: off_by(frames[id], seed + id).camera.c2w for id in moved})
    assert all(
        not torch.equal(memory.keyframes[id].camera.c2w, frames[id].camera.c2w) for id in moved
    )
    memory.update_poses(poses(frames, sorted(moved)))
    found = Difference(memory, before, frames)
    assert found.mean < 3e-3, found
    assert found.p95 < 0.01, found
    assert found.coverage > -0.01, found


def test_noise_is_averaged_as_before() -> None:
    """Correcting takes out what a frame gave, and not what the others gave: depth gets no noisier."""
    frames, draw = in_the_box(24, sweep=0.6), torch.Generator().manual_seed(0)
    noisy = []
    for frame in frames:
        assert frame.depth is not None
        noise = torch.randn(HEIGHT, WIDTH, generator=draw)
        noisy.append(frame.replace(depth=frame.depth * (1 + 0.01 * noise)))
    truth = torch.stack([f.depth for f in frames if f.depth is not None])
    cameras = Camera.stack([f.camera for f in frames])

    def error(memory: SpatialMemory) -> float:
        seen = memory.retrieve(cameras, k=0).projection
        return float(((seen.depth - truth).abs() / truth)[seen.mask].mean())

    memory, moved = (
        built([off_by(f, i) if i % 4 == 0 else f for i, f in enumerate(noisy)]),
        range(0, 24, 4),
    )
    memory.update_poses(poses(frames, list(moved)))
    assert error(memory) < 1.3 * error(built(noisy))
    memory.remove(list(moved))
    assert error(memory) < 1.4 * error(built([f for i, f in enumerate(noisy) if i % 4]))


@pytest.mark.parametrize("seen", [20, 60])
def test_confidence_at_its_bound(seen: int) -> None:
    """A place seen more often than confidence counts: what is taken back is held against all that are left."""
    frame = in_the_box(1)[0]
    config = MemoryConfig(
        fusion=FusionConfig(voxel=VOXEL, max_confidence=8.0), keyframes=CONFIG.keyframes
    )
    wrong = off_by(frame, 0, shift=0.03, degrees=0.0)
    moved = list(range(0, seen, 4))
    frames = [frame.replace(time=float(i)) for i in range(seen)]
    memory = built(
        [wrong.replace(time=float(i)) if i in moved else f for i, f in enumerate(frames)], config
    )
    right, start = (
        built(frames[:10], config),
        Difference(memory, built(frames[:10], config), [frame]),
    )
    memory.update_poses(poses(frames, moved))
    after = Difference(memory, right, [frame])
    assert after.mean < 0.6 * start.mean, (start, after)
    assert after.coverage > -0.01
    assert float(memory.geometry.surfels().confidence.max()) <= 8.0
    memory.remove(moved)
    assert Difference(memory, right, [frame]).coverage > -0.01


def test_retrieval_answers_as_the_rebuilt_memory_does() -> None:
    frames = in_the_box(16, sweep=5.0)
    moved = [2, 3, 9]
    wrong = [
        off_by(f, i, shift=0.6, degrees=40.0) if i in moved else f for i, f in enumerate(frames)
    ]
    memory, right = built(wrong), built(frames)
    methods, queries = ("covisibility", "fov-overlap", "pose-nearest", "recent"), (1, 3, 9, 12)

    def ids(one: SpatialMemory, query: int, method: str, k: int) -> list[int]:
        found = one.retrieve(frames[query].camera, k=k, method=method, given=())
        return [keyframe.id for keyframe in found.keyframes]

    for method in methods:
        for i in (3, 9):  # the rules have seen the keyframes where they were
            memory.retrieve(frames[i].camera, method=method)
    memory.update_poses(poses(frames, moved))
    for method, query in product(methods, queries):
        a, b = (ids(one, query, method, k=3) for one in (memory, right))
        assert a[0] == b[0], method
        assert len(set(a) & set(b)) >= 2, method
    memory.remove([3, 10])
    memory.store(frames[3].replace(time=50.0))
    for method, query in product(methods, queries):
        found = ids(memory, query, method, k=20)
        assert found, method
        assert not {3, 10} & set(found), method
    for method in methods:
        assert 16 in ids(memory, 3, method, k=2), method


def test_index_of_a_large_bank_follows_corrections() -> None:
    """Where candidates come from the index, too: nothing is scanned."""
    from spmem.config import RetrievalConfig
    from spmem.retrieval.rules.covisibility import Covisibility

    frames = in_the_box(16, sweep=5.0)
    memory, right = (
        built([off_by(f, i, 0.0, 90.0 * (i in (4, 11))) for i, f in enumerate(frames)]),
        built(frames),
    )
    rule, fresh = (Covisibility(RetrievalConfig(candidates=3), scan=0) for _ in range(2))
    memory.retrieve(frames[4].camera, method=rule)
    memory.update_poses(poses(frames, list(range(16))))
    for i in (4, 11):
        a = memory.retrieve(frames[i].camera, method=rule, k=1, given=())
        b = right.retrieve(frames[i].camera, method=fresh, k=1, given=())
        assert a.keyframes[0].id == b.keyframes[0].id


def test_finding_by_an_image_forgets_what_was_removed() -> None:
    frames = in_the_box(6, sweep=4.0)
    memory = built(frames)
    assert memory.find(image=frames[2], k=1)[0].keyframe.id == 2
    memory.remove(2)
    assert 2 not in [found.keyframe.id for found in memory.find(image=frames[2], k=6)]


def test_working_memory_moves_with_its_keyframes() -> None:
    frames = in_the_box(6)
    memory = built([off_by(f, i) for i, f in enumerate(frames)])
    memory.update_poses(poses(frames, [0, 4]))
    recent = {f.time: f.camera.c2w for f in memory.retrieve(frames[0].camera).recent}
    assert torch.equal(recent[4.0], frames[4].camera.c2w)
    assert not torch.equal(recent[5.0], frames[5].camera.c2w)


def test_frames_that_were_no_keyframes_keep_what_they_gave() -> None:
    frames = in_the_box(9, sweep=0.5)
    config = MemoryConfig(fusion=CONFIG.fusion, keyframes=KeyframeConfig(novelty=0.2))
    memory = built(frames, config)
    ids = list(memory.keyframes)
    assert 2 <= len(ids) < len(frames)
    before = float(memory.geometry.surfels().confidence.sum())
    memory.remove(ids[0])
    assert float(memory.geometry.surfels().confidence.sum()) > before - 1.1 * WIDTH * HEIGHT
    assert memory.retrieve(frames[-1].camera).coverage[0] > 0.9


def test_what_moves_by_itself_is_not_fused_by_a_correction() -> None:
    def left_half_moves(frames: list[Frame], known: object = None) -> torch.Tensor:
        moving = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
        moving[..., : WIDTH // 2] = True
        return moving

    memory = spmem.open(config=CONFIG, segmenter=left_half_moves)  # type: ignore[arg-type]
    frame = in_the_box(1)[0]
    memory.store(off_by(frame, 0))
    memory.update_poses({0: frame.camera.c2w})
    mask = memory.retrieve(frame.camera).projection.mask[0]
    assert not mask[:, : WIDTH // 2 - 4].any()
    assert mask[4:-4, WIDTH // 2 + 4 : -4].float().mean() > 0.95


# -- durability ---------------------------------------------------------------------------------------


def test_corrections_survive_closing(tmp_path: Path) -> None:
    frames = in_the_box(10)
    cameras = Camera.stack([f.camera for f in frames[3:7]])
    with spmem.open(tmp_path / "m.spmem", config=CONFIG) as memory:
        for i, frame in enumerate(frames):
            memory.store(off_by(frame, i) if i in (3, 4) else frame)
    with spmem.open(tmp_path / "m.spmem") as memory:
        memory.update_poses(poses(frames, [3, 4]))
        memory.remove(8)
        before = memory.retrieve(cameras, k=3)
    with spmem.open(tmp_path / "m.spmem", mode="r") as memory:
        after = memory.retrieve(cameras, k=3)
        assert list(memory.keyframes) == [0, 1, 2, 3, 4, 5, 6, 7, 9]
        assert torch.equal(memory.keyframes[3].frame.camera.c2w, frames[3].camera.c2w)
        assert torch.equal(before.projection.rgb, after.projection.rgb)
        assert torch.equal(before.projection.surfel_ids, after.projection.surfel_ids)
        assert [k.id for k in before.keyframes] == [k.id for k in after.keyframes]
        for bad in (lambda: memory.update_poses(poses(frames, [3])), lambda: memory.remove(3)):
            with pytest.raises(ReadOnlyError, match='mode="a"'):
                bad()


def test_corrected_keyframes_and_their_map_become_durable_together(tmp_path: Path) -> None:
    """Keyframes commit by themselves every now and then: a reader must not see moved ones with the map of before."""
    frames = in_the_box(8)
    config = MemoryConfig(
        fusion=CONFIG.fusion, keyframes=KeyframeConfig(novelty=0.0, commit_every=2)
    )
    memory = spmem.open(tmp_path / "m.spmem", config=config)
    for i, frame in enumerate(frames[:6]):
        memory.store(off_by(frame, i) if i == 2 else frame)
    memory.commit()
    memory.update_poses(poses(frames, [2]))
    memory.remove(5)
    memory.store(frames[6])
    memory.store(frames[7])  # commits; the writer then dies
    now = memory.retrieve(frames[2].camera)
    with spmem.open(tmp_path / "m.spmem", mode="r") as reader:
        assert list(reader.keyframes) == [0, 1, 2, 3, 4, 6, 7]
        assert torch.equal(reader.keyframes[2].camera.c2w, frames[2].camera.c2w)
        assert torch.equal(reader.retrieve(frames[2].camera).projection.rgb, now.projection.rgb)


# -- bad calls ----------------------------------------------------------------------------------------


def test_a_damaged_keyframe_stops_a_correction_before_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from spmem.errors import CorruptMemoryError
    from spmem.stores.keyframes.ram import RamKeyframes

    frames = in_the_box(4)
    memory, read = built(frames), RamKeyframes.read

    def damaged(bank: RamKeyframes, id: int) -> Frame:
        if id == 3:
            raise CorruptMemoryError("keyframe 3 cannot be read")
        return read(bank, id)

    before = memory.retrieve(frames[1].camera)
    monkeypatch.setattr(RamKeyframes, "read", damaged)
    wrong = {i: off_by(frames[i], i).camera.c2w for i in (1, 3)}
    for bad in (lambda: memory.update_poses(wrong), lambda: memory.remove([1, 3])):
        with pytest.raises(CorruptMemoryError):
            bad()
    after = memory.retrieve(frames[1].camera)
    assert torch.equal(before.projection.rgb, after.projection.rgb)
    assert list(memory.keyframes) == [0, 1, 2, 3]
    assert torch.equal(memory.keyframes[1].camera.c2w, frames[1].camera.c2w)


def test_bad_calls() -> None:
    memory = built(in_the_box(2))
    pose = torch.eye(4)
    with pytest.raises(InputError, match="mapping"):
        memory.update_poses([pose])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="whole numbers"):
        memory.update_poses({"0": pose})  # type: ignore[dict-item]
    with pytest.raises(KeyframeNotFoundError, match="id 7"):
        memory.update_poses({0: pose, 7: pose})
    with pytest.raises(KeyframeNotFoundError, match="id -1"):
        memory.remove(-1)
    memory.close()
    for bad in (lambda: memory.update_poses({0: pose}), lambda: memory.remove(0)):
        with pytest.raises(StoreError, match="closed"):
            bad()
