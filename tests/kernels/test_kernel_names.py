"""Kernels by name: what runs on a device, and what is said where it does not."""

from __future__ import annotations

import pytest
import torch

from spmem.errors import DeviceError, MissingExtraError, UnknownNameError
from spmem.kernels import raster, triton_jit
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.box import BoxRoom

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_device_has_its_fast_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert raster.kernel_for(CPU, None) == "numba"
    monkeypatch.setattr(raster, "find_spec", lambda name: None)
    assert raster.kernel_for(CUDA, None) == "torch"
    monkeypatch.setattr(raster, "find_spec", lambda name: name)
    assert raster.kernel_for(CUDA, None) == "triton"


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'torch'"):
        SurfelMap(kernel="troch").render(BoxRoom().walk(1, width=8, height=6))
    with pytest.raises(DeviceError, match="on the CPU"):
        raster.kernel_for(CUDA, "numba")
    monkeypatch.setattr(raster, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="triton"):
        raster.kernel_for(CUDA, "triton")
    monkeypatch.setattr(raster, "find_spec", lambda name: name)
    monkeypatch.setattr(triton_jit, "INTERPRETED", False)
    with pytest.raises(DeviceError, match="CUDA"):
        raster.kernel_for(CPU, "triton")
