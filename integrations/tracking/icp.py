"""The camera of a frame, found against the rendered map."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import CameraError, FrameError, InputError, SpmemError
from spmem.integrations.tracking.alignment import Pairs, associate, improve, rendered, thin_out
from spmem.protocols import Memory

ON_MAP = 0.03
"""A point within this share of its depth from the map's plane lies on the map."""
STILL = 3e-5
"""A step shorter than this, relative to the depth or in radians, is the last one."""


class TrackingLostError(SpmemError, RuntimeError):
    """Too little of the frame lies on what memory knows: the guess is too far off, or the place is new."""


class ProjectiveIcp:
    """Aligns the frame's depth and brightness with the rendered map, coarse to fine.

    Gauss-Newton with Tukey's weights on two residuals with projective association: the distances to the map's planes,
    relative to depth, and the differences in brightness (:mod:`spmem.integrations.tracking.alignment` names the papers).
    At each image size the map is rendered again from the pose so far. In motions that neither holds, as along a wall of
    one colour, the pose keeps the guess.

    Args:
        heights: Image heights in pixels, coarse to fine: the frame is thinned out to about these.
        iterations: Gauss-Newton steps at each height, at most.
        gate: Farthest association, as a share of the depth; about the error of the guess that can be undone.
        overlap: Share of the frame's pixels with depth that must lie on the map in the end.
        agreement: The same, as a share of those that fall on pixels which the map covers.
        colour: Weight of brightness beside depth, each by its inverse variance, at the last height, where depth has brought
            the images upon one another; 0 aligns depth alone.
    """

    def __init__(
        self,
        *,
        heights: Sequence[int] = (60, 120, 240),
        iterations: int = 10,
        gate: float = 0.15,
        overlap: float = 0.3,
        agreement: float = 0.7,
        colour: float = 0.1,
    ) -> None:
        if not heights or min(heights) < 8 or iterations < 1 or not gate > 0:
            raise InputError(
                "projective-icp wants heights >= 8, iterations >= 1 and gate > 0, "
                f"got {list(heights)}, {iterations} and {gate}"
            )
        if not (0 < overlap <= 1 and 0 < agreement <= 1):
            raise InputError(f"overlap and agreement are shares, got {overlap} and {agreement}")
        if not 0 <= colour < float("inf"):
            raise InputError(f"colour is the weight of brightness, >= 0, got {colour}")
        self.heights = tuple(heights)
        self.iterations = iterations
        self.gate = gate
        self.overlap = overlap
        self.agreement = agreement
        self.colour = colour

    def __call__(
        self,
        rgb: Float[Tensor, "h w 3"],
        depth: Float[Tensor, "h w"] | None,
        guess: Camera,
        memory: Memory,
    ) -> Camera:
        """The guess with its pose corrected.

        Raises:
            FrameError: No depth, or of another size than the guess.
            CameraError: The guess is a trajectory.
            TrackingLostError: Less than ``overlap`` or ``agreement`` of the frame lies on the map.
        """
        if depth is None:
            raise FrameError("projective-icp aligns depth, and got None; estimate it first")
        if guess.shape:
            raise CameraError(f"the guess is one camera, got {list(guess.shape)}; index it")
        if depth.shape != (guess.height, guess.width):
            raise FrameError(
                f"depth is {list(depth.shape)}, the guess {[guess.height, guess.width]} (height, width)"
            )
        pose, pairs = guess.c2w, None
        for level, height in enumerate(self.heights):
            stride = max(guess.height // height, 1)
            seen, camera = thin_out(rgb, depth, guess, stride, pose)
            known = rendered(memory.retrieve(camera[None], k=0).projection)
            for _ in range(self.iterations):
                pairs = associate(seen, pose, known, self.gate)
                colour = self.colour if level == len(self.heights) - 1 else 0.0
                pose, moved = improve(pairs, pose, known, self.gate / 4**level, colour)
                if moved < STILL:
                    break
            pairs = associate(seen, pose, known, self.gate)
        assert pairs is not None
        self._check_overlap(pairs)
        return Camera(
            guess.K,
            geometry.nearest_rotation(pose),
            width=guess.width,
            height=guess.height,
            validate=False,
        )

    def _check_overlap(self, pairs: Pairs) -> None:
        on_map = float((pairs.near & (pairs.residual.abs() < ON_MAP)).sum())
        covered, seen = float(pairs.covered.sum()), len(pairs.x)
        if on_map < self.overlap * seen or on_map < self.agreement * covered or not seen:
            raise TrackingLostError(
                f"of {seen} pixels with depth {covered:.0f} fall on the map and {on_map:.0f} lie on its surface: the "
                "guess is too far off (give a nearer one, or widen gate), or memory does not know this place"
            )
