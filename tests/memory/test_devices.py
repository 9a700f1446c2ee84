"""A device is compared as a device, however it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import spmem
from spmem import Camera
from spmem.device import as_device
from spmem.errors import DeviceError, DTypeError
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.box import BoxRoom

ROOM = BoxRoom()
WAY = ROOM.walk(2, width=64, height=48, sweep=1.0)
FRAMES = ROOM.frames(WAY)


@pytest.mark.parametrize("device", ["cpu:0", "cpu", torch.device("cpu", 0)])
def test_a_memory_opens_on_the_cpu_by_any_of_its_names(
    tmp_path: Path, device: torch.device | str
) -> None:
    for time, frame in enumerate(FRAMES):  # the second opening restores a map
        with spmem.open(tmp_path / "m.spmem", device=device) as memory:
            memory.store(frame.to(device).replace(time=time))
            assert memory.retrieve(WAY.to(device)).coverage.max() > 0.5


def test_a_map_is_restored_by_any_name_of_a_device() -> None:
    first, second = SurfelMap(), SurfelMap()
    first.fuse(FRAMES[0])
    second.restore(first.arrays(), torch.device("cpu:0"))
    second.fuse(FRAMES[1])
    assert second.surfels().position.device == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_without_cuda_a_device_of_it_is_an_error_at_once(
    tmp_path: Path, device: torch.device | str
) -> None:
    with pytest.raises(DeviceError, match="there is no device 'cuda"):
        spmem.open(tmp_path / "m.spmem", device=device)
    assert not (tmp_path / "m.spmem").exists()
    with pytest.raises(DeviceError, match="there is no device 'cuda"):
        FRAMES[0].to(device)


@pytest.mark.parametrize("device", ["gpu", "", 1.5, True, object(), [0]])
def test_what_is_no_device_is_refused(device: object) -> None:
    with pytest.raises(DeviceError):
        as_device(device)
    with pytest.raises(DeviceError):
        spmem.open(device=device)  # type: ignore[arg-type]


def test_a_dtype_is_no_device() -> None:
    with pytest.raises(DTypeError, match="keep float32"):
        spmem.open(device=torch.float16)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_memory_opens_on_the_gpu_by_its_short_name(tmp_path: Path) -> None:
    for time, frame in enumerate(FRAMES):
        with spmem.open(tmp_path / "m.spmem", device="cuda") as memory:
            memory.store(frame.to("cuda").replace(time=time))
            answer = memory.retrieve(WAY.to("cuda"))
            assert answer.coverage.max() > 0.5
            assert all(shown.rgb.is_cuda for shown in answer.frames())


def test_keyframes_of_a_retrieval_come_on_the_cameras_device() -> None:
    memory = spmem.open()
    memory.store(FRAMES[0])
    answer = memory.retrieve(WAY)
    there = spmem.types.Retrieval(
        Camera(WAY.K.to("meta"), WAY.c2w.to("meta"), width=64, height=48, validate=False),
        *(getattr(answer, name) for name in ("projection", "keyframes", "scores", "recent", "method")),
        answer._explain,
        answer._read,
    )  # fmt: skip
    assert {shown.camera.device.type for shown in there.frames()} == {"meta"}
