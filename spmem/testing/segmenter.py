"""Conformance of dynamic segmenters: subclass, give the fixture, and pytest proves the segmenter.

Needs pytest. Example::

    class TestMySegmenter(DynamicSegmenterTests):
        recall, precision = 0.5, 0.5

        @pytest.fixture(scope="class")
        def segmenter(self):
            return MySegmenter()
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spmem.protocols import DynamicSegmenter
from spmem.testing.box import BoxRoom
from spmem.types import Frame, Projection


class DynamicSegmenterTests:
    """What every :class:`spmem.protocols.DynamicSegmenter` does: a plate flies through an analytic room."""

    recall: float = 0.8
    """Share of the plate's pixels to find."""
    precision: float = 0.7
    """Share of the pixels found that are the plate's."""
    static: float = 0.02
    """Share of the pixels that may be called moving where nothing moves."""
    width: int = 96
    height: int = 72

    @pytest.fixture
    def segmenter(self) -> DynamicSegmenter:
        """Override: the segmenter."""
        raise AssertionError("subclasses give the fixture `segmenter`")

    @pytest.fixture
    def known(self) -> Projection:
        """The empty room, along four cameras."""
        room = BoxRoom()
        return room.render(room.walk(4, width=self.width, height=self.height, sweep=0.2))

    @pytest.fixture
    def still(self, known: Projection) -> list[Frame]:
        """Frames of the empty room."""
        return [
            Frame(known.rgb[i], known.depth[i], known.cameras[i], time=i / 8)
            for i in range(len(known.depth))
        ]

    @pytest.fixture
    def plate(self, known: Projection) -> Tensor:
        """``[T, H, W]`` where the plate is."""
        plate = torch.zeros_like(known.mask)
        for i in range(len(plate)):
            left = self.width // 8 + i * self.width // 8
            plate[i, self.height // 4 : self.height * 3 // 4, left : left + self.width // 4] = True
        return plate

    @pytest.fixture
    def moving(self, still: list[Frame], plate: Tensor) -> list[Frame]:
        """The same frames with a plate at half the depth, of the inverse colour."""
        frames = []
        for frame, here in zip(still, plate, strict=True):
            assert frame.depth is not None
            rgb = torch.where(here[..., None], (frame.rgb + 0.5) % 1, frame.rgb)
            depth = torch.where(here, frame.depth.min() / 2, frame.depth)
            frames.append(frame.replace(rgb=rgb, depth=depth))
        return frames

    def test_is_a_dynamic_segmenter(self, segmenter: DynamicSegmenter) -> None:
        assert isinstance(segmenter, DynamicSegmenter)

    def test_gives_a_mask_for_each_frame(
        self, segmenter: DynamicSegmenter, moving: list[Frame], known: Projection
    ) -> None:
        for answer in (segmenter(moving, known), segmenter(moving), segmenter(moving[:1])):
            assert answer.dtype == torch.bool
            assert answer.shape[1:] == (self.height, self.width)
            assert len(answer) in (len(moving), 1)

    def test_finds_what_moves(
        self,
        segmenter: DynamicSegmenter,
        moving: list[Frame],
        known: Projection,
        plate: Tensor,
    ) -> None:
        found = segmenter(moving, known)
        hits = float((found & plate).sum())
        assert hits >= self.recall * float(plate.sum())
        assert hits >= self.precision * float(found.sum())

    def test_leaves_a_still_room_alone(
        self, segmenter: DynamicSegmenter, still: list[Frame], known: Projection
    ) -> None:
        assert segmenter(still, known).float().mean() <= self.static
