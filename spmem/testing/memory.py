"""Conformance of memories: subclass, give the fixture, and pytest proves the memory.

Needs pytest. Example::

    class TestMyMemory(MemoryTests):
        @pytest.fixture
        def memory(self):
            return MyMemory()
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spmem.camera import Camera
from spmem.errors import CameraError, KeyframeNotFoundError
from spmem.protocols import Memory
from spmem.testing.box import BoxRoom
from spmem.types import Frame


class MemoryTests:
    """What every :class:`spmem.protocols.Memory` does, on a walk that turns once through an analytic room."""

    known: float = 0.9
    """Coverage that a stored view has at least."""
    colour: float = 0.1
    """Mean absolute error of the colours rendered at a stored view, in 0..1."""
    depth: float = 0.02
    """Median relative error of the depth rendered there."""
    width: int = 96
    height: int = 72

    @pytest.fixture
    def memory(self) -> Memory:
        """Override: an empty memory."""
        raise AssertionError("subclasses give the fixture `memory`: an empty one")

    @pytest.fixture
    def room(self) -> BoxRoom:
        """The scene."""
        return BoxRoom()

    @pytest.fixture
    def walk(self, room: BoxRoom) -> Camera:
        """Eight cameras that turn by most of a circle."""
        return room.walk(8, width=self.width, height=self.height, sweep=5.0)

    @pytest.fixture
    def frames(self, room: BoxRoom, walk: Camera) -> list[Frame]:
        """What they see, a second apart."""
        return room.frames(walk, time=0.0)

    @pytest.fixture
    def full(self, memory: Memory, frames: list[Frame]) -> Memory:
        """The memory with all of the walk stored."""
        for frame in frames:
            memory.store(frame)
        return memory

    def test_is_a_memory(self, memory: Memory) -> None:
        assert isinstance(memory, Memory)

    def test_an_empty_memory_knows_nothing(self, memory: Memory, walk: Camera) -> None:
        context = memory.retrieve(walk)
        assert context.keyframes == ()
        assert context.scores.shape == (0,)
        assert context.recent == ()
        assert torch.equal(context.coverage, torch.zeros(len(walk)))
        assert context.explain() == []

    def test_the_first_frame_becomes_a_keyframe(self, memory: Memory, frames: list[Frame]) -> None:
        id = memory.store(frames[0])
        assert isinstance(id, int)
        assert [key.id for key in memory.retrieve(frames[0].camera[None], k=1).keyframes] == [id]

    def test_keyframes_get_ascending_ids(self, memory: Memory, frames: list[Frame]) -> None:
        ids = [id for frame in frames if (id := memory.store(frame)) is not None]
        assert len(ids) > 1
        assert ids == sorted(set(ids))

    def test_renders_what_was_stored(self, full: Memory, frames: list[Frame], walk: Camera) -> None:
        seen = full.retrieve(walk).projection
        assert seen.rgb.shape == (8, self.height, self.width, 3)
        assert seen.coverage.min() >= self.known
        for i, frame in enumerate(frames):
            assert frame.depth is not None
            mask = seen.mask[i]
            assert (seen.rgb[i] - frame.rgb)[mask].abs().mean() <= self.colour
            assert (seen.depth[i] / frame.depth - 1)[mask].abs().median() <= self.depth

    def test_a_place_never_seen_is_not_covered(
        self, memory: Memory, frames: list[Frame], walk: Camera
    ) -> None:
        memory.store(frames[0])
        coverage = memory.retrieve(walk).coverage
        assert coverage[0] >= self.known
        assert coverage[4] <= 0.1, "camera 4 looks away from what camera 0 saw"

    def test_finds_the_keyframe_that_saw_the_place(
        self, full: Memory, frames: list[Frame], walk: Camera
    ) -> None:
        for i in (0, 4):
            (found,) = full.retrieve(walk[i][None], k=1).keyframes
            assert float((found.camera.forward * walk[i].forward).sum()) > 0.5
            stored = frames[round(found.time)]
            assert (found.frame.rgb_float() - stored.rgb).abs().mean() <= self.colour

    def test_gives_at_most_k_keyframes(self, full: Memory, walk: Camera) -> None:
        for k in (1, 3):
            context = full.retrieve(walk, k=k)
            assert len(context.keyframes) <= k
            assert len(context.scores) == len(context.keyframes)
            assert bool(torch.isfinite(context.scores).all())
            ids = [keyframe.id for keyframe in context.keyframes]
            assert len(set(ids)) == len(ids)

    def test_explains_each_keyframe(self, full: Memory, walk: Camera) -> None:
        context = full.retrieve(walk, k=3)
        contributions = context.explain()
        assert [one.id for one in contributions] == [keyframe.id for keyframe in context.keyframes]
        for one in contributions:
            assert 0 <= one.alone <= one.sees <= 1

    def test_the_recent_frames_are_the_last_ones(
        self, full: Memory, frames: list[Frame], walk: Camera
    ) -> None:
        recent = full.retrieve(walk).recent
        assert recent
        assert [frame.time for frame in recent] == [frame.time for frame in frames[-len(recent) :]]

    def test_retrieving_changes_nothing(self, full: Memory, walk: Camera) -> None:
        first, second = full.retrieve(walk, k=3), full.retrieve(walk, k=3)
        assert torch.equal(first.projection.rgb, second.projection.rgb)
        assert [key.id for key in first.keyframes] == [key.id for key in second.keyframes]
        assert torch.equal(first.scores, second.scores)


class CorrectableMemoryTests(MemoryTests):
    """What a memory does besides whose keyframes can be moved and removed, as :class:`spmem.SpatialMemory`'s can.

    A subclass gives ``memory``, with ``update_poses``, ``remove`` and ``keyframes``, that makes every frame of the walk a
    keyframe.
    """

    shift: float = 0.1
    """By how much poses are wrong at first, in the room's units (its walls are 5 and 6 apart)."""

    @pytest.fixture
    def memory(self) -> Any:
        """Override: an empty memory."""
        raise AssertionError("subclasses give the fixture `memory`: an empty one")

    def test_corrected_poses_show_the_place_as_it_is(
        self, memory: Any, frames: list[Frame], walk: Camera
    ) -> None:
        wrong = walk.c2w.clone()
        wrong[2:5, 0, 3] += self.shift
        ids = [memory.store(frame.moved(c2w)) for frame, c2w in zip(frames, wrong, strict=True)]
        assert None not in ids
        off = self._relative_depth_error(memory, frames, walk)
        memory.update_poses({ids[i]: walk.c2w[i] for i in (2, 3, 4)})
        assert self._relative_depth_error(memory, frames, walk) < 0.5 * off
        for i, id in enumerate(ids):
            assert torch.equal(memory.keyframes[id].camera.c2w, frames[i].camera.c2w)
            assert torch.equal(memory.keyframes[id].frame.camera.c2w, frames[i].camera.c2w)
        (found,) = memory.retrieve(walk[3][None], k=1).keyframes
        assert abs(ids.index(found.id) - 3) <= 1

    def test_a_removed_keyframe_is_gone_and_so_is_what_it_alone_saw(
        self, memory: Any, frames: list[Frame], walk: Camera
    ) -> None:
        ids = [memory.store(frame) for frame in frames]
        before = memory.retrieve(walk, k=8).coverage
        memory.remove(ids[0])
        memory.remove(ids[1:3])
        context = memory.retrieve(walk, k=8)
        assert not {key.id for key in context.keyframes} & set(ids[:3])
        assert list(memory.keyframes) == ids[3:]
        assert context.coverage[1] < before[1] - 0.3, "no other keyframe looks there"
        assert context.coverage[5] > before[5] - 0.02
        assert memory.store(frames[1].replace(time=99.0)) > ids[-1]
        assert memory.retrieve(walk[1][None]).coverage[0] >= self.known

    def test_invalid_corrections_change_nothing(
        self, memory: Any, frames: list[Frame], walk: Camera
    ) -> None:
        ids = [memory.store(frame) for frame in frames]
        before = memory.retrieve(walk, k=3)
        good, stretched = walk.c2w[3], walk.c2w[4].clone()
        stretched[:3, :3] *= 1.1
        for bad, error in (
            ({ids[0]: good, ids[1]: stretched}, CameraError),
            ({ids[0]: good, ids[1]: good * torch.nan}, CameraError),
            ({ids[0]: good, ids[1]: good[:3]}, CameraError),
            ({ids[0]: good, ids[1]: walk.c2w[:2]}, CameraError),
            ({ids[0]: good, ids[-1] + 5: good}, KeyframeNotFoundError),
        ):
            with pytest.raises(error):
                memory.update_poses(bad)
        with pytest.raises(KeyframeNotFoundError):
            memory.remove([ids[0], ids[-1] + 5])
        memory.update_poses({ids[2]: walk.c2w[2]})  # where it is already
        memory.update_poses({})
        memory.remove([])
        after = memory.retrieve(walk, k=3)
        assert torch.equal(before.projection.rgb, after.projection.rgb)
        assert torch.equal(before.projection.surfel_ids, after.projection.surfel_ids)
        assert [key.id for key in before.keyframes] == [key.id for key in after.keyframes]
        assert torch.equal(before.scores, after.scores)

    def _relative_depth_error(self, memory: Any, frames: list[Frame], walk: Camera) -> float:
        seen = memory.retrieve(walk).projection
        depth = torch.stack([frame.depth for frame in frames if frame.depth is not None])
        return float(((seen.depth - depth).abs() / depth)[seen.mask].mean())
