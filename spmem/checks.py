"""What a memory asks of its first frames: are the poses in the right convention, and is depth in their scale?"""

from __future__ import annotations

import math
import warnings

from spmem.errors import ConventionError
from spmem.geometry.consistency import DepthView, overlap, pose_agreement
from spmem.types import Frame

_OFF = "(MemoryConfig(check_poses=False) turns this check off)"


class PoseCheck:
    """Compares the first frames with one another until their poses are known to be right, or not."""

    def __init__(self) -> None:
        self._reference: Frame | None = None
        self._done = False

    def __call__(self, frame: Frame) -> None:
        """Look at the next frame. Raises ConventionError if poses contradict the depth, and fit otherwise."""
        if self._done or frame.depth is None:
            return
        if self._reference is None:
            self._reference = frame
            return
        found = pose_agreement(_view(self._reference), _view(frame))
        best = max(found.opengl, found.inverted)
        if found.given > 0.5 and best < found.given / 2:
            self._done, self._reference = True, None
        elif found.given < 0.3 and best > 0.6:
            reading = (
                "OpenGL axes; build the cameras with Camera.from_opengl"
                if found.opengl == best
                else "world-to-camera matrices; invert them"
            )
            raise ConventionError(
                f"poses and depth contradict each other: {found.given:.0%} of the points agree between frames at "
                f"{self._reference.time} s and {frame.time} s as given, {best:.0%} if the poses are {reading} {_OFF}"
            )
        elif max(found.given, best) == 0:
            self._reference = frame


class ScaleCheck:
    """Compares frames until depth and poses are known to be in one scale, or warns that they are not.

    Depth in another unit than the poses fits while the camera turns, and contradicts itself once it moves. Three things
    together are warned of:

    - As given, fewer than 0.3 of the points agree, and 0.3 or more lie before what the other frame sees there, seen from
      one of the two or from the other. Points behind what is seen are hidden, which is no contradiction.
    - Under a factor of more than 1.15 either way, more than 0.6 agree.
    - The camera moved enough to tell: under the factor by :data:`MOVED` of the points' depth or more, and by :data:`APART` or
      more otherwise than as given. Less is what noise of poses and depth can do, most of all while the camera turns.

    Frames that overlap too little say nothing.
    """

    MOVED, APART = 0.05, 0.1
    """Shares of the depth, or radians of parallax (29 and 59 pixels at a focal length of 585). A point agrees within 0.02 of
    its depth, and trackers are off by as much: 0.5 degrees (0.01), and 2 cm at a distance of 2 m (0.01). These are 2.5 and 5
    times that."""

    def __init__(self) -> None:
        self._reference: Frame | None = None
        self._searches = 16
        self._searched = 0.0  # the parallax at which a factor was last looked for

    def __call__(self, frame: Frame) -> None:
        """Look at the next frame; warns at most once."""
        if not self._searches or frame.depth is None:
            return
        if self._reference is None:
            self._reference = frame
            return
        a, b = _view(self._reference), _view(frame)
        given = overlap(a, b)
        if given is None:
            self._reference, self._searched = frame, 0.0
        elif given.agree > 0.5:
            others = (overlap(a, b, factor) for factor in (0.5, 2.0))
            if max(0.0 if one is None else one.agree for one in others) < given.agree / 2:
                self._searches, self._reference = 0, None  # the camera moved, and this scale fits
        elif given.agree < 0.3:
            back = overlap(b, a)
            before = max(given.before, 0.0 if back is None else back.before)
            if before < 0.3 or given.parallax < 1.2 * self._searched:
                return
            # A factor near 0 can move a point by any distance: how far is known once it is found.
            self._searches, self._searched = self._searches - 1, given.parallax
            best, factor = _best_scale(a, b)
            moved = given.parallax / factor
            enough = moved >= self.MOVED and abs(given.parallax - moved) >= self.APART
            if best > 0.6 and not 1 / 1.15 < factor < 1.15 and enough:
                warnings.warn(
                    f"depth and poses seem to be in different scales: {given.agree:.0%} of the points agree between "
                    f"frames at {self._reference.time} s and {frame.time} s as given, {best:.0%} if depth is multiplied "
                    f"by {factor:.3g}; bring one to the other's unit {_OFF}",
                    stacklevel=4,
                )
                self._searches, self._reference = 0, None


def _view(frame: Frame) -> DepthView:
    if frame.depth is None:
        raise ValueError("frames without depth are not compared")
    return DepthView(frame.depth, frame.camera.K, frame.camera.c2w)


def _best_scale(a: DepthView, b: DepthView) -> tuple[float, float]:
    """The largest agreement under a factor from 1 / 4096 to 4096, and the factor: the nearest to 1 of those as good."""

    def agreement(factor: float, tolerance: float = 0.02) -> float:
        found = overlap(a, b, factor, tolerance=tolerance)
        return 0.0 if found is None else found.agree

    coarse = {2.0 ** (step / 2): agreement(2.0 ** (step / 2), 0.05) for step in range(-24, 25)}
    good = [factor for factor, share in coarse.items() if share > max(coarse.values()) - 0.03]
    near = min(good, key=lambda factor: abs(math.log(factor)))
    fine = (near * 2.0 ** (step / 12) for step in range(-6, 7))
    return max((agreement(factor), factor) for factor in fine)
