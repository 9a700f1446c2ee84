"""Depth as a structured-light sensor measures it: noise that grows with distance, steps, holes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import FrameError, InputError

SENSOR_WIDTH = 640
"""Pixels across the sensor that the published figures were measured with."""

BASELINE, FOCAL = 0.075, 580.0
"""Baseline and focal length of that sensor, in metres and pixels."""

EDGE = 0.05
"""Neighbouring depths that differ by more than this share belong to two surfaces."""


@dataclass(frozen=True)
class DepthNoise:
    """A Kinect's errors, as switches; a value of 0 turns one off.

    Axial and lateral noise follow Nguyen, Izadi and Lovell, "Modeling Kinect Sensor Noise for Improved 3D
    Reconstruction and Tracking" (3DIMPVT 2012, section 2): for depth z in metres and the angle t between surface
    normal and viewing ray, the standard deviations are ``0.0012 + 0.0019 (z - 0.4)^2 + 0.0001 / sqrt(z) (t / (pi/2 -
    t))^2`` metres along z, and ``0.8 + 0.035 t / (pi/2 - t)`` pixels of a 640 wide sensor across. Steps come from
    the sensor's disparity, baseline x focal length / z, known to an eighth of a pixel (Khoshelham and Elberink,
    Sensors 12 (2), 2012, sections 2 and 4; baseline 0.075 m, focal length 580 pixels).

    Args:
        axial: Factor on the axial deviation.
        lateral: Factor on the lateral deviation; it frays edges.
        disparity_step: Step of the quantised disparity, in sensor pixels.
        edge_holes: Chance that a pixel beside a depth edge has no depth.
        steepest: Surfaces seen at a larger angle than this (radians) have no depth.
        nearest: Metres; closer surfaces have no depth.
        farthest: Metres; farther surfaces have no depth.
        metre: World units that a metre has.
        seed: With the frame's index, what the draws come from.

    Raises:
        InputError: A value outside its range.
    """

    axial: float = 1.0
    lateral: float = 1.0
    disparity_step: float = 0.125
    edge_holes: float = 0.5
    steepest: float = 1.4
    nearest: float = 0.4
    farthest: float = 8.0
    metre: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("axial", "lateral", "disparity_step", "nearest"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"noise.{name} must be >= 0, got {getattr(self, name)}")
        if not 0 <= self.edge_holes <= 1:
            raise InputError(f"noise.edge_holes is a chance in 0..1, got {self.edge_holes}")
        if not 0 < self.steepest <= math.pi / 2:
            raise InputError(f"noise.steepest is an angle up to pi/2, got {self.steepest}")
        if not (self.farthest > self.nearest and self.metre > 0):
            raise InputError(
                f"noise wants farthest > nearest and metre > 0, got {self.farthest}, {self.nearest}, {self.metre}"
            )

    def spoil(
        self,
        depth: Float[Tensor, "h w"],
        normal: Float[Tensor, "h w 3"],
        camera: Camera,
        *,
        index: int,
    ) -> Float[Tensor, "h w"]:
        """What the sensor would have measured.

        Args:
            depth: ``[H, W]`` exact z-depth in world units, 0 = none.
            normal: ``[H, W, 3]`` unit, world axes.
            camera: One camera of that size.
            index: Index of the frame; another index draws other noise.

        Raises:
            FrameError: Sizes that do not agree.
        """
        size = (camera.height, camera.width)
        if depth.shape != size or normal.shape != (*size, 3):
            raise FrameError(
                f"depth and normal must be {list(size)} and {[*size, 3]} as the camera, got {list(depth.shape)} and "
                f"{list(normal.shape)}"
            )
        rng = np.random.default_rng([self.seed, index])
        rays = torch.nn.functional.normalize(camera.rays(), dim=-1)
        cosine = (rays * normal).sum(-1).abs().clamp(0, 1).double().cpu().numpy()
        exact = depth.double().cpu().numpy()
        angle = np.minimum(np.arccos(cosine), math.pi / 2 - 0.01)
        z = self._shift_pixels(rng, exact, angle) / self.metre
        z = z + self.axial * axial_deviation(z, angle) * rng.standard_normal(size)
        if self.disparity_step > 0:
            one = BASELINE * FOCAL / self.disparity_step  # depth at which the disparity is one step
            z = one / np.maximum(np.round(one / np.maximum(z, 1e-3)), 1)
        lost = _beside_edges(exact) & (rng.random(size) < self.edge_holes)
        lost |= (exact == 0) | (z < self.nearest) | (z > self.farthest) | (angle > self.steepest)
        return torch.from_numpy(np.where(lost, 0, z * self.metre).astype(np.float32)).to(
            depth.device
        )

    def _shift_pixels(
        self, rng: np.random.Generator, exact: NDArray[np.float64], angle: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Depth read at pixels beside those meant; where nothing is there, at those meant."""
        h, w = exact.shape
        deviation = self.lateral * lateral_deviation(angle) * w / SENSOR_WIDTH
        dy, dx = np.round(deviation * rng.standard_normal((2, h, w))).astype(np.int64)
        y = np.clip(np.arange(h)[:, None] + dy, 0, h - 1)
        x = np.clip(np.arange(w)[None, :] + dx, 0, w - 1)
        return np.where(exact[y, x] > 0, exact[y, x], exact)


def axial_deviation(z: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation along z, in metres, at depth z (metres) and angle (radians); see :class:`DepthNoise`."""
    steep = (angle / (math.pi / 2 - angle)) ** 2
    deviation: NDArray[np.float64] = (
        0.0012 + 0.0019 * (z - 0.4) ** 2 + 0.0001 / np.sqrt(np.maximum(z, 1e-3)) * steep
    )
    return deviation


def lateral_deviation(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation across, in pixels of a sensor 640 wide, at an angle (radians)."""
    deviation: NDArray[np.float64] = 0.8 + 0.035 * angle / (math.pi / 2 - angle)
    return deviation


def _beside_edges(depth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels with a neighbour (above, below, left or right) on another surface."""
    beside = np.zeros(depth.shape, np.bool_)
    for one, other, marks in (
        (depth[1:], depth[:-1], (beside[1:], beside[:-1])),
        (depth[:, 1:], depth[:, :-1], (beside[:, 1:], beside[:, :-1])),
    ):
        jump = np.abs(one - other) > EDGE * np.minimum(one, other)
        for mark in marks:
            mark |= jump
    return beside
