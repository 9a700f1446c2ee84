"""Frames without poses become a memory: each is aligned with the map, stored where it was found, and left out where not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import FrameError, InputError
from spmem.integrations.tracking.icp import ProjectiveIcp, TrackingLostError
from spmem.memory import SpatialMemory
from spmem.protocols import PoseTracker
from spmem.returned import camera_from
from spmem.types import Frame

ALIKE = 0.7
"""Correlation of the frame's brightness with the map's that a pose must have at least. Right poses had 0.9 and more in five
procedural houses and 0.8 and more on a real walk; frames of another house at most 0.6 wherever depth fitted, wrong local
minima at most 0.7."""
EVEN = 0.03
"""Where frame and map differ by less than this in brightness, no correlation is asked for: walls of one colour have none."""
CANDIDATES = 5
"""Keyframes to try when lost."""
SWINGS = (-0.3, -0.15, 0.0, 0.15, 0.3)
"""Radians that the camera may have turned otherwise than guessed, to the side and up or down."""
TRIES = 3
"""How many of these turns, the most likely ones, are tried."""
SMALL = 60
"""Height in pixels of the images that guesses are compared with."""


How = Literal["start", "followed", "found again", "lost"]


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """What became of a frame.

    frame: At the pose that was found. A lost frame stands where it was guessed to be, which means nothing.
    how: ``start``: the pose was taken as given; ``followed``: found near the guess; ``found again``: from a keyframe that
        looks alike, after tracking was lost or in a memory of before; ``lost``: not found, and not stored.
    keyframe: What storing it answered.
    """

    frame: Frame
    how: How
    keyframe: int | None = None

    @property
    def camera(self) -> Camera | None:
        """The camera, or None where it is not known."""
        return None if self.how == "lost" else self.frame.camera


def follow(
    frames: Iterable[Frame], memory: SpatialMemory, *, tracker: PoseTracker | None = None
) -> Iterator[TrackedFrame]:
    """Track frames of unknown poses against a memory, and store each where it was found.

    Each frame is guessed to move on as the last two did, then to stand where the last did, then to have turned from there
    by up to 0.3 radians, then to be near one of the keyframes that look most like it (``memory.find``). The tracker has to
    confirm a guess, and the frame has to look like what the map shows there. A frame that nothing confirms is reported
    as lost and leaves the memory as it was; the next one is looked for in the same way.

    Frames are made as they are asked for; stop iterating and memory holds what was followed until then.

    Args:
        frames: In order, with depth and the intrinsics of their cameras. Their poses are not looked at, but for the first
            one's in an empty memory, which places the world (the identity will do). In a memory that knows a place already
            the first frame has to be found in it.
        memory: Read before, and written after, each frame.
        tracker: Confirms and corrects guesses; None takes :class:`ProjectiveIcp`.

    Yields:
        A :class:`TrackedFrame` for every frame.

    Raises:
        FrameError: A frame without depth.
        InputError: What is no frame.
        CameraError: The tracker returned what no camera is, or is of another size.

    Example:
        >>> import spmem
        >>> from spmem.integrations.tracking import trajectory_error
        >>> from spmem.testing.box import BoxRoom
        >>> room = BoxRoom()
        >>> way = room.walk(4, width=96, height=72, sweep=0.2)
        >>> start = way[0].c2w
        >>> frames = [frame.moved(start) for frame in room.frames(way)]  # all claim to stand at the start
        >>> found = [one.camera for one in follow(frames, spmem.open())]
        >>> error = trajectory_error(spmem.Camera.stack(found), way)
        >>> error.ate < 0.01 * error.path
        True
    """
    tracker = ProjectiveIcp() if tracker is None else tracker
    before: list[Tensor] = []  # the last poses, two at most, and none that are older than a loss
    for frame in frames:
        if not isinstance(frame, Frame):
            raise InputError(f"follow takes spmem.Frames, got {type(frame).__name__}")
        if frame.depth is None:
            raise FrameError("follow aligns depth, and a frame has none; estimate it first")
        if not len(memory.keyframes):
            yield TrackedFrame(frame, "start", memory.store(frame))
            before = [frame.camera.c2w]
            continue
        near = _track_from_motion(tracker, frame, before, memory)
        camera = _track_from_keyframes(tracker, frame, memory) if near is None else near
        if camera is None:
            yield TrackedFrame(frame.moved(before[-1]) if before else frame, "lost")
            before = before[-1:]
            continue
        before = [*before[-1:], camera.c2w] if near is not None else [camera.c2w]
        found = frame.moved(camera.c2w)
        how: How = "found again" if near is None else "followed"
        yield TrackedFrame(found, how, memory.store(found))


def _track_from_motion(
    tracker: PoseTracker, frame: Frame, before: list[Tensor], memory: SpatialMemory
) -> Camera | None:
    """The frame's camera, from the motion so far."""
    if not before:
        return None
    first = [_extrapolate_pose(*before), before[-1]] if len(before) > 1 else [before[-1]]
    for guess in first:
        found = _try_tracker(tracker, frame, guess, memory)
        if found is not None and likeness(frame, found, memory) >= ALIKE:
            return found
    for guess in _turn_guesses(frame, first, memory):
        found = _try_tracker(tracker, frame, guess, memory)
        if found is not None and likeness(frame, found, memory) >= ALIKE:
            return found
    return None


def _track_from_keyframes(
    tracker: PoseTracker, frame: Frame, memory: SpatialMemory
) -> Camera | None:
    """The frame's camera, from the keyframes that look like it: the one whose map looks most like the frame."""
    best, most = None, ALIKE
    for match in memory.find(image=frame, k=CANDIDATES):
        found = _try_tracker(tracker, frame, match.keyframe.camera.c2w, memory)
        alike = -1.0 if found is None else likeness(frame, found, memory)
        if alike >= most:
            best, most = found, alike
    return best


def _try_tracker(
    tracker: PoseTracker, frame: Frame, guess: Float[Tensor, "4 4"], memory: SpatialMemory
) -> Camera | None:
    near = frame.moved(guess.to(frame.camera.device)).camera
    try:
        return camera_from(tracker, frame.rgb_float(), frame.depth, near, memory)
    except TrackingLostError:
        return None


def _turn_guesses(
    frame: Frame, guesses: list[Tensor], memory: SpatialMemory
) -> list[Float[Tensor, "4 4"]]:
    """The guesses turned by the swings from which the map looks most like the frame, best first."""
    swings = [(yaw, pitch) for yaw in SWINGS for pitch in SWINGS if yaw or pitch]
    turns = torch.stack([_turn_camera(yaw, pitch) for yaw, pitch in swings])
    poses = torch.cat([guess @ turns.to(guess.device) for guess in guesses])
    depth, brightness, camera = _shrink_frame(frame)
    cameras = Camera(camera.K, poses, width=camera.width, height=camera.height, validate=False)
    known = memory.retrieve(cameras, k=0).projection
    both = known.mask & (depth > 0)
    near = (both & ((known.depth - depth).abs() < 0.1 * depth)).float().mean((-2, -1))
    scores = torch.tensor(
        [
            float(share)
            * max(_correlate_brightness(brightness[mask], _mean_brightness(shown)[mask]), 0.0)
            for share, mask, shown in zip(near, both, known.rgb, strict=True)
        ]
    )
    return [poses[i] for i in scores.argsort(descending=True)[:TRIES].tolist() if scores[i] > 0]


def likeness(frame: Frame, camera: Camera, memory: SpatialMemory) -> float:
    """Correlation of the frame's brightness with what the map shows from a camera, over covered pixels, in small images."""
    _, brightness, small = _shrink_frame(frame.moved(camera.c2w))
    known = memory.retrieve(small[None], k=0).projection
    mask = known.mask[0]
    return _correlate_brightness(brightness[mask], _mean_brightness(known.rgb[0])[mask])


def _shrink_frame(frame: Frame) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"], Camera]:
    """Depth and brightness in a small image, and its camera."""
    assert frame.depth is not None
    camera = frame.camera
    height = min(SMALL, camera.height)
    small = camera.resize(max(round(camera.width * height / camera.height), 1), height)
    size = (small.height, small.width)
    depth = torch.nn.functional.interpolate(frame.depth[None, None], size, mode="nearest-exact")
    even = torch.nn.functional.interpolate(
        _mean_brightness(frame.rgb_float())[None, None], size, mode="area"
    )
    return depth[0, 0], even[0, 0], small


def _mean_brightness(rgb: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
    return rgb.mean(-1)


def _correlate_brightness(one: Float[Tensor, " n"], other: Float[Tensor, " n"]) -> float:
    if not len(one):
        return 0.0
    both = torch.stack([one, other]).double()
    both = both - both.mean(-1, keepdim=True)
    if float((both[0] - both[1]).square().mean().sqrt()) < EVEN:
        return 1.0
    norm = float(both.norm(dim=-1).prod())
    return float((both[0] * both[1]).sum()) / norm if norm > 1e-9 else 0.0


def _turn_camera(yaw: float, pitch: float) -> Float[Tensor, "4 4"]:
    """A turn of the camera to its right, and then up."""
    turn = torch.eye(4)
    sideways = torch.tensor([math.cos(yaw / 2), 0.0, math.sin(yaw / 2), 0.0])
    upwards = torch.tensor([math.cos(pitch / 2), math.sin(pitch / 2), 0.0, 0.0])
    turn[:3, :3] = geometry.matrix_from_quaternion(sideways) @ geometry.matrix_from_quaternion(
        upwards
    )
    return turn


def _extrapolate_pose(
    before: Float[Tensor, "4 4"], last: Float[Tensor, "4 4"]
) -> Float[Tensor, "4 4"]:
    """The pose after the same motion once more."""
    return geometry.nearest_rotation(last @ geometry.inverse(before) @ last)
