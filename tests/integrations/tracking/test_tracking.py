"""Poses by projective ICP, by the trackers' conformance tests."""

from __future__ import annotations

import pytest
import torch

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import CameraError, FrameError, InputError
from spmem.integrations.tracking import ProjectiveIcp, TrackingLostError
from spmem.testing.box import BoxRoom
from spmem.testing.room_memory import RoomMemory
from spmem.testing.tracker import PoseTrackerTests
from spmem.types import Frame


class TestProjectiveIcp(PoseTrackerTests):
    move, turn = 2e-3, 2e-3

    @pytest.fixture
    def tracker(self) -> ProjectiveIcp:
        return ProjectiveIcp()

    def test_depth_noise_averages_out(
        self, tracker: ProjectiveIcp, memory: RoomMemory, frames: list[Frame]
    ) -> None:
        draw = torch.Generator().manual_seed(0)
        for frame in frames:
            assert frame.depth is not None
            noise = 0.01 * torch.randn(frame.depth.shape, generator=draw)
            guess = self.astray(frame.camera)
            found = tracker(frame.rgb, frame.depth * (1 + noise), guess, memory)
            move, turn = self.errors(found, frame.camera)
            assert move < 0.01
            assert turn < 0.005

    def test_something_new_in_view_does_not_pull_the_pose(
        self, tracker: ProjectiveIcp, memory: RoomMemory, frames: list[Frame]
    ) -> None:
        frame = frames[1]
        assert frame.depth is not None
        depth = frame.depth.clone()
        depth[30:70, 50:80] *= 0.93
        found = tracker(frame.rgb, depth, self.astray(frame.camera), memory)
        move, turn = self.errors(found, frame.camera)
        assert move < 0.01
        assert turn < 0.005

    def test_along_a_bare_wall_the_guess_stays(self) -> None:
        tracker = ProjectiveIcp(colour=0)
        room = BoxRoom(room=((-50.0, -50.0, -3.0), (50.0, 50.0, 3.0)), solids=())
        camera = Camera.look_at([0, 0, 0], [0, 0, 1], fov_x=0.8, width=96, height=72)
        (frame,) = room.frames(camera[None])
        shift = torch.eye(4)
        shift[:3, 3] = torch.tensor([0.1, 0.0, -0.1])
        guess = Camera(camera.K, shift @ camera.c2w, width=96, height=72)
        found = tracker(frame.rgb, frame.depth, guess, RoomMemory(room))
        x, y, z = found.position.tolist()
        assert abs(x - 0.1) < 0.02  # nothing tells where along the wall
        assert abs(y) < 0.02
        assert abs(z) < 0.002  # its distance is seen

    @pytest.mark.parametrize("unknown", [0.8, 1.0])
    def test_too_little_map_is_said(
        self, tracker: ProjectiveIcp, frames: list[Frame], unknown: float
    ) -> None:
        with pytest.raises(TrackingLostError, match="does not know this place"):
            tracker(frames[0].rgb, frames[0].depth, frames[0].camera, RoomMemory(unknown=unknown))

    def test_a_guess_far_off_is_said(
        self, tracker: ProjectiveIcp, memory: RoomMemory, frames: list[Frame]
    ) -> None:
        c2w = frames[0].camera.c2w.clone()
        c2w[:3, :3] = c2w[:3, :3] @ geometry.matrix_from_quaternion(torch.tensor([0.0, 0, 1, 0]))
        away = Camera(frames[0].camera.K, c2w, width=self.width, height=self.height)
        with pytest.raises(TrackingLostError):
            tracker(frames[0].rgb, frames[0].depth, away, memory)

    def test_no_depth_at_all_is_said(
        self, tracker: ProjectiveIcp, memory: RoomMemory, frames: list[Frame]
    ) -> None:
        frame = frames[0]
        assert frame.depth is not None
        with pytest.raises(TrackingLostError, match="of 0 pixels"):
            tracker(frame.rgb, torch.zeros_like(frame.depth), frame.camera, memory)
        with pytest.raises(FrameError, match="estimate it first"):
            tracker(frame.rgb, None, frame.camera, memory)
        with pytest.raises(FrameError, match="height, width"):
            tracker(frame.rgb, frame.depth[::2], frame.camera, memory)
        with pytest.raises(CameraError, match="one camera"):
            tracker(frame.rgb, frame.depth, frame.camera[None], memory)


def test_parameters_are_checked() -> None:
    with pytest.raises(InputError, match="heights >= 8"):
        ProjectiveIcp(heights=())
    with pytest.raises(InputError, match="are shares"):
        ProjectiveIcp(overlap=2)
