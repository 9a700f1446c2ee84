"""Conformance of pointmap estimators: subclass, give the fixture, and pytest proves the estimator.

Needs pytest. Example::

    class TestMyPointmaps(PointmapEstimatorTests):
        error = 0.1

        @pytest.fixture(scope="class")
        def estimator(self):
            return MyPointmaps()
"""

from __future__ import annotations

import pytest
import torch

from spmem.camera import Camera
from spmem.integrations.depth.pointmaps import align_to_cameras
from spmem.protocols import PointmapEstimator
from spmem.testing.box import BoxRoom
from spmem.types import Projection


class PointmapEstimatorTests:
    """What every :class:`spmem.protocols.PointmapEstimator` does, on four views of an analytic room."""

    error: float = 0.05
    """Median relative error of depth that is allowed, once the maps are placed in the room by its true cameras."""
    width: int = 64
    height: int = 48

    @pytest.fixture
    def estimator(self) -> PointmapEstimator:
        """Override: the estimator."""
        raise AssertionError("subclasses give the fixture `estimator`")

    @pytest.fixture
    def cameras(self) -> Camera:
        """Four cameras that move."""
        return BoxRoom().walk(4, width=self.width, height=self.height)

    @pytest.fixture
    def truth(self, cameras: Camera) -> Projection:
        """All of what they see."""
        return BoxRoom().render(cameras)

    def test_is_a_pointmap_estimator(self, estimator: PointmapEstimator) -> None:
        assert isinstance(estimator, PointmapEstimator)

    def test_gives_a_camera_and_a_map_for_each_frame(
        self, estimator: PointmapEstimator, truth: Projection
    ) -> None:
        found = estimator(truth.rgb)
        n, height, width = found.depth.shape
        assert n == len(truth.rgb)
        assert found.cameras.shape == (n,)
        assert (found.cameras.width, found.cameras.height) == (width, height)
        assert abs(width / height * self.height / self.width - 1) < 0.05, "the frames' aspect"
        assert found.confidence.shape == found.depth.shape
        for values in (found.depth, found.confidence):
            assert torch.isfinite(values).all()
            assert values.min() >= 0

    def test_maps_and_cameras_agree_up_to_a_similarity(
        self, estimator: PointmapEstimator, truth: Projection, cameras: Camera
    ) -> None:
        found = align_to_cameras(estimator(truth.rgb, cameras), cameras).depth
        (_, a, b), (h, w) = found.shape, (self.height, self.width)
        y, x = ((torch.arange(m) + 0.5) * n / m for m, n in ((a, h), (b, w)))
        exact = truth.depth[:, y.long()[:, None], x.long()[None, :]]
        there = found > 0
        assert there.float().mean() > 0.5
        assert (found / exact - 1).abs()[there].median() <= self.error

    def test_leaves_its_input_as_it_was(
        self, estimator: PointmapEstimator, truth: Projection
    ) -> None:
        rgb = truth.rgb.clone()
        estimator(truth.rgb)
        assert torch.equal(truth.rgb, rgb)
