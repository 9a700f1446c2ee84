"""Both banks against the conformance tests that spmem ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spmem.stores.keyframes.ram import RamKeyframes
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.keyframe_history import VersionedStoreTests
from spmem.testing.keyframe_store import DurableStoreTests, KeyframeStoreTests
from spmem.testing.sample_frames import sample_frame


class TestRamKeyframes(KeyframeStoreTests, VersionedStoreTests):
    colour_psnr = 100.0
    value_error = 0.0

    @pytest.fixture
    def store(self) -> RamKeyframes:
        return RamKeyframes()

    def test_frames_are_exact(self, store: RamKeyframes) -> None:
        frame = sample_frame(1, confidence=True, channels=2)
        frame = frame.replace(rgb=frame.rgb_float() ** 1.1)
        read = store.read(store.append(frame))
        for name in ("rgb", "depth", "confidence", "features"):
            assert torch.equal(getattr(read, name), getattr(frame, name))


class TestZarrKeyframes(KeyframeStoreTests, VersionedStoreTests, DurableStoreTests):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ZarrKeyframes:
        return ZarrKeyframes.open(tmp_path / "walk.spmem")

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], ZarrKeyframes]:
        return lambda: ZarrKeyframes.open(tmp_path / "walk.spmem")
