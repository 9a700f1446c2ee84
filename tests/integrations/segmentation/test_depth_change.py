"""Moving pixels by depth change, by the segmenters' conformance tests."""

from __future__ import annotations

import pytest
import torch

from spmem.errors import FrameError, InputError
from spmem.integrations.segmentation.depth_change import DepthChange
from spmem.testing.room_memory import RoomMemory
from spmem.testing.segmenter import DynamicSegmenterTests
from spmem.types import Frame, Projection


class TestDepthChange(DynamicSegmenterTests):
    recall, precision, static = 0.99, 0.8, 0.0

    @pytest.fixture
    def segmenter(self) -> DepthChange:
        return DepthChange()

    def test_noise_within_the_tolerance_is_not_motion(
        self, segmenter: DepthChange, still: list[Frame], known: Projection
    ) -> None:
        draw = torch.Generator().manual_seed(0)
        noisy = [
            f.replace(depth=f.depth * (1 + 0.02 * torch.randn(f.depth.shape, generator=draw)))
            for f in still
            if f.depth is not None
        ]
        assert not segmenter(noisy, known).any()

    def test_what_lies_behind_the_map_is_not_motion(
        self, segmenter: DepthChange, still: list[Frame], known: Projection
    ) -> None:
        behind = [
            f.replace(rgb=1 - f.rgb, depth=f.depth * 1.5) for f in still if f.depth is not None
        ]
        assert not segmenter(behind, known).any()

    def test_the_maps_own_colour_needs_depth_alone(
        self, still: list[Frame], known: Projection
    ) -> None:
        nearer = [f.replace(depth=f.depth * 0.8) for f in still if f.depth is not None]
        assert not DepthChange()(nearer, known).any()
        assert DepthChange(residual=0)(nearer, known).all()


def test_where_memory_knows_nothing_nothing_moves() -> None:
    memory = RoomMemory(unknown=1.0)
    frames = memory.room.frames(memory.room.walk(2, width=64, height=48))
    known = memory.retrieve(memory.room.walk(2, width=64, height=48)).projection
    assert not DepthChange()(frames, known).any()


def test_bad_input_is_named() -> None:
    memory = RoomMemory()
    cameras = memory.room.walk(2, width=64, height=48)
    frames = memory.room.frames(cameras)
    with pytest.raises(FrameError, match="frame 1 has none"):
        DepthChange()([frames[0], frames[1].replace(depth=None)])
    with pytest.raises(FrameError, match="own cameras"):
        DepthChange()(frames, memory.retrieve(cameras[:1]).projection)
    with pytest.raises(InputError, match="tolerance > 0"):
        DepthChange(tolerance=0)
