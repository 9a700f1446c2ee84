"""Do the same points lie where they should? Keypoints of the truth, found again in what was generated."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.errors import MissingExtraError

ENLARGED = 2
"""Frames of 64 pixels have few corners that ORB's patches of 31 pixels fit around."""
RATIO = 0.8
"""A match is one that is nearer than this share of the second nearest (Lowe, 2004, section 7.1)."""
NEAR = 2.0
"""Pixels of the frame by which a match may be off and be right. By chance 0.3 % of a frame of 64 pixels is that near."""


class Matches(NamedTuple):
    """Matches found over some frames, and how many of them are right."""

    found: int
    right: int


class Matcher:
    """Oriented FAST and rotated BRIEF (Rublee et al., *ORB*, ICCV 2011), by OpenCV: nothing learned, the same every time.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise MissingExtraError("opencv-python-headless", "bench", "matching") from error
        self.cv: Any = cv2
        self.orb = self.cv.ORB_create(1000, edgeThreshold=15)
        self.pairs = self.cv.BFMatcher(self.cv.NORM_HAMMING)

    def __call__(
        self,
        truth: Float[Tensor, "t h w 3"],
        made: Float[Tensor, "t h w 3"],
        mask: Bool[Tensor, "t h w"],
    ) -> Matches:
        """Match the keypoints that the truth has in the mask with those of frames of the same cameras.

        The camera is the same, so a match is right where both keypoints lie within :data:`NEAR` pixels of each other.

        Args:
            truth: In [0, 1].
            made: In [0, 1].
            mask: Pixels whose keypoints count.

        Example:
            >>> import torch
            >>> noise = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(0))
            >>> frame = noise.repeat_interleave(4, 1).repeat_interleave(4, 2)
            >>> found, right = Matcher()(frame, frame, torch.ones(1, 64, 64, dtype=torch.bool))
            >>> found == right > 20
            True
        """
        found = right = 0
        for one, other, where in zip(truth, made, mask, strict=True):
            at, kinds = self._detect_keypoints(one)
            to, others = self._detect_keypoints(other)
            if not len(at) or len(to) < 2:
                continue
            row, column = (at.clip(0, None) // 1).astype(int)[:, ::-1].T
            rows, columns = where.shape
            counts = where.numpy()[row.clip(0, rows - 1), column.clip(0, columns - 1)]
            for best, second in self.pairs.knnMatch(kinds[counts], others, k=2):
                if best.distance < RATIO * second.distance:
                    off = at[counts][best.queryIdx] - to[best.trainIdx]
                    found, right = found + 1, right + bool(np.linalg.norm(off) <= NEAR)
        return Matches(found, right)

    def _detect_keypoints(self, rgb: Float[Tensor, "h w 3"]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Keypoints ``[N, 2]`` in the frame's own pixels, x first, and their descriptions ``[N, 32]``."""
        image = (rgb.clamp(0, 1) * 255).round().byte().cpu().numpy()
        grey = self.cv.cvtColor(image, self.cv.COLOR_RGB2GRAY)
        large = self.cv.resize(
            grey, None, fx=ENLARGED, fy=ENLARGED, interpolation=self.cv.INTER_CUBIC
        )
        points, kinds = self.orb.detectAndCompute(large, None)
        at = np.array([point.pt for point in points], np.float64).reshape(-1, 2)
        return (at + 0.5) / ENLARGED, np.empty((0, 32), np.uint8) if kinds is None else kinds
