"""Conformance of depth estimators: subclass, give the fixture, and pytest proves the estimator.

Needs pytest. Example::

    class TestMyDepth(DepthEstimatorTests):
        error = 0.2

        @pytest.fixture(scope="class")
        def estimator(self):
            return MyDepth()
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spmem.camera import Camera
from spmem.protocols import DepthEstimator
from spmem.testing.box import BoxRoom
from spmem.testing.room_memory import RoomMemory
from spmem.types import Projection


class DepthEstimatorTests:
    """What every :class:`spmem.protocols.DepthEstimator` does, on an analytic room that memory knows in part."""

    error: float = 0.05
    """Median relative error that is allowed over all pixels, of which memory covers four in five."""
    width: int = 64
    height: int = 48

    @pytest.fixture
    def estimator(self) -> DepthEstimator:
        """Override: the estimator."""
        raise AssertionError("subclasses give the fixture `estimator`")

    @pytest.fixture
    def cameras(self) -> Camera:
        """Three cameras."""
        return BoxRoom().walk(3, width=self.width, height=self.height)

    @pytest.fixture
    def truth(self, cameras: Camera) -> Projection:
        """All of what they see."""
        return BoxRoom().render(cameras)

    @pytest.fixture
    def known(self, cameras: Camera) -> Projection:
        """What memory covers of it."""
        return RoomMemory(unknown=0.2).retrieve(cameras).projection

    def test_is_a_depth_estimator(self, estimator: DepthEstimator) -> None:
        assert isinstance(estimator, DepthEstimator)

    def test_gives_depth_for_each_frame(
        self, estimator: DepthEstimator, truth: Projection, known: Projection
    ) -> None:
        for n in (3, 1):
            part = replace(
                known,
                cameras=known.cameras[:n],
                **{name: getattr(known, name)[:n] for name in ("rgb", "depth", "normal", "mask")},
                surfel_ids=known.surfel_ids[:n],
            )
            depth = estimator(truth.rgb[:n], truth.cameras[:n], part)
            assert depth.shape == (n, self.height, self.width)
            assert depth.dtype == torch.float32
            assert torch.isfinite(depth).all(), "depth must be finite"
            assert depth.min() >= 0, "0 means none; there is no negative depth"

    def test_is_right_in_the_scale_of_the_map(
        self, estimator: DepthEstimator, truth: Projection, known: Projection
    ) -> None:
        depth = estimator(truth.rgb, truth.cameras, known)
        assert (depth / truth.depth - 1).abs().median() <= self.error

    def test_follows_the_scale_of_the_map(
        self, estimator: DepthEstimator, truth: Projection, known: Projection
    ) -> None:
        c2w = known.cameras.c2w.clone()
        c2w[:, :3, 3] *= 10
        large = Camera(known.cameras.K, c2w, width=self.width, height=self.height)
        tenfold = replace(known, cameras=large, depth=known.depth * 10)
        depth = estimator(truth.rgb, large, tenfold)
        assert (depth / truth.depth / 10 - 1).abs().median() <= self.error

    def test_gives_the_same_twice(
        self, estimator: DepthEstimator, truth: Projection, known: Projection
    ) -> None:
        first, second = (estimator(truth.rgb, truth.cameras, known) for _ in range(2))
        assert torch.equal(first, second)

    def test_leaves_its_input_as_it_was(
        self, estimator: DepthEstimator, truth: Projection, known: Projection
    ) -> None:
        rgb, depth = truth.rgb.clone(), known.depth.clone()
        estimator(truth.rgb, truth.cameras, known)
        assert torch.equal(truth.rgb, rgb)
        assert torch.equal(known.depth, depth)
