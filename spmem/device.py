"""Devices, compared as devices: one way to write each."""

from __future__ import annotations

from typing import Any

import torch

from spmem.errors import DeviceError, DTypeError

CPU: torch.device = torch.device("cpu")


def as_device(device: Any) -> torch.device:
    """The device as tensors name it: ``"cuda"`` is the current CUDA device with its index, ``"cpu:0"`` the CPU.

    Raises:
        DTypeError: A dtype.
        DeviceError: Something that names no device, or a device that this machine has not.

    Example:
        >>> as_device("cpu:0"), as_device("cpu") == as_device(torch.device("cpu", 0))
        (device(type='cpu'), True)
    """
    if isinstance(device, torch.device) and device is CPU:
        return CPU
    if isinstance(device, torch.dtype):
        raise DTypeError(
            f"wanted a device, got {device}: cameras and frames keep float32 (uint8 colour); "
            "cast the tensors that you take from them"
        )
    if not isinstance(device, str | int | torch.device) or isinstance(device, bool):
        raise DeviceError(f'wanted a device as "cpu" or "cuda:0", got {type(device).__name__}')
    try:
        made: torch.device = torch.empty(0, device=device).device
    except (AssertionError, RuntimeError, ValueError, NotImplementedError) as error:
        cause = str(error).strip().partition("\n")[0]
        raise DeviceError(f"there is no device {str(device)!r} on this machine ({cause})") from None
    return made
