"""Conformance of pose trackers: subclass, give the fixture, and pytest proves the tracker.

Needs pytest. Example::

    class TestMyTracker(PoseTrackerTests):
        @pytest.fixture(scope="class")
        def tracker(self):
            return MyTracker()
"""

from __future__ import annotations

import pytest
import torch

from spmem import geometry
from spmem.camera import Camera
from spmem.protocols import PoseTracker
from spmem.testing.room_memory import RoomMemory
from spmem.types import Frame


class PoseTrackerTests:
    """What every :class:`spmem.protocols.PoseTracker` does, in an analytic room of 6 x 5 units that memory knows."""

    move: float = 0.02
    """Error of the position that is allowed, in units of the room."""
    turn: float = 0.01
    """Error of the rotation that is allowed, in radians."""
    width: int = 128
    height: int = 96

    @pytest.fixture
    def tracker(self) -> PoseTracker:
        """Override: the tracker."""
        raise AssertionError("subclasses give the fixture `tracker`")

    @pytest.fixture
    def memory(self) -> RoomMemory:
        """One that knows the room but for a tenth of each image."""
        return RoomMemory(unknown=0.1)

    @pytest.fixture
    def frames(self, memory: RoomMemory) -> list[Frame]:
        """Three views at known poses."""
        return memory.room.frames(memory.room.walk(3, width=self.width, height=self.height))

    def astray(self, camera: Camera, move: float = 0.08, turn: float = 0.04) -> Camera:
        """A camera near this one: a step aside and a little turn."""
        c2w = camera.c2w.clone()
        half = torch.tensor(turn / 2)
        axis = torch.tensor([0.36, 0.80, -0.48]) * half.sin()
        spin = geometry.matrix_from_quaternion(torch.cat([half.cos()[None], axis]))
        c2w[:3, :3] = spin @ c2w[:3, :3]
        c2w[:3, 3] += torch.tensor([0.48, -0.36, 0.80]) * move
        return Camera(camera.K, c2w, width=camera.width, height=camera.height)

    def errors(self, found: Camera, truth: Camera) -> tuple[float, float]:
        """Distance in world units and angle in radians."""
        apart = geometry.quaternion_from_matrix((found.c2w @ truth.w2c)[:3, :3])
        angle = 2 * float(torch.atan2(apart[1:].norm(), apart[0].abs()))
        return float((found.position - truth.position).norm()), angle

    def test_is_a_pose_tracker(self, tracker: PoseTracker) -> None:
        assert isinstance(tracker, PoseTracker)

    def test_finds_the_camera_from_a_near_guess(
        self, tracker: PoseTracker, memory: RoomMemory, frames: list[Frame]
    ) -> None:
        for frame in frames:
            found = tracker(frame.rgb, frame.depth, self.astray(frame.camera), memory)
            move, turn = self.errors(found, frame.camera)
            assert move <= self.move
            assert turn <= self.turn

    def test_keeps_a_right_guess(
        self, tracker: PoseTracker, memory: RoomMemory, frames: list[Frame]
    ) -> None:
        for frame in frames:
            found = tracker(frame.rgb, frame.depth, frame.camera, memory)
            move, turn = self.errors(found, frame.camera)
            assert move <= self.move
            assert turn <= self.turn

    def test_keeps_the_intrinsics_and_gives_a_rigid_pose(
        self, tracker: PoseTracker, memory: RoomMemory, frames: list[Frame]
    ) -> None:
        guess = self.astray(frames[0].camera)
        found = tracker(frames[0].rgb, frames[0].depth, guess, memory)
        assert torch.equal(found.K, guess.K)
        assert (found.width, found.height) == (guess.width, guess.height)
        assert geometry.rigid_error(found.c2w) < 1e-5

    def test_stores_nothing(
        self, tracker: PoseTracker, memory: RoomMemory, frames: list[Frame]
    ) -> None:
        tracker(frames[0].rgb, frames[0].depth, frames[0].camera, memory)
        assert not memory.stored
