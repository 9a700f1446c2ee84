"""Requests that correct keyframes, checked as a whole before anything changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spmem.arguments import keyframe_ids
from spmem.camera import Camera
from spmem.errors import CameraError, InputError, KeyframeNotFoundError
from spmem.protocols import KeyframeStore
from spmem.state import State


def update_poses(state: State, poses: Mapping[int, Any]) -> None:
    """Move the keyframes whose poses differ; see :meth:`spmem.SpatialMemory.update_poses`."""
    ids, c2w = changed_poses(poses, state.bank)
    if len(ids):
        state.move(ids, c2w)


def remove(state: State, keyframes: int | Iterable[int]) -> None:
    """Drop keyframes and take back what they gave; see :meth:`spmem.SpatialMemory.remove`."""
    ids = checked_ids(keyframes, state.bank)
    if len(ids):
        state.drop(ids)


def checked_ids(keyframes: Any, bank: KeyframeStore) -> NDArray[np.int64]:
    """Keyframe ids, ascending, each once.

    Raises:
        InputError: Something that is no whole number.
        KeyframeNotFoundError: A keyframe that is not there.
    """
    wanted = np.unique(keyframe_ids(keyframes))
    missing = np.setdiff1d(wanted, bank.ids())
    if len(missing):
        raise KeyframeNotFoundError(f"no keyframe has the id {missing[0]}; there are {len(bank)}")
    return wanted


def changed_poses(
    poses: Mapping[int, Any], bank: KeyframeStore
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids, ascending, whose poses differ from the bank's, and the new poses ``[n, 4, 4]``.

    Raises:
        InputError: No mapping.
        KeyframeNotFoundError: A keyframe that is not there.
        CameraError: A pose that no camera has.
    """
    if not isinstance(poses, Mapping):
        raise InputError(f"poses are a mapping {{keyframe id: c2w}}, got {type(poses).__name__}")
    ids, cameras = checked_ids(poses, bank), bank.cameras()
    moved, c2w = [], []
    for id, row in zip(ids.tolist(), np.searchsorted(bank.ids(), ids).tolist(), strict=True):
        old, pose = cameras[row], poses[id]
        pose = pose.detach().cpu() if isinstance(pose, Tensor) else pose
        try:
            new = Camera(old.K, pose, width=old.width, height=old.height)
            if new.shape:
                raise CameraError(f"c2w must be [4, 4], got {list(new.c2w.shape)}")
        except CameraError as error:
            raise CameraError(f"the pose of keyframe {id}: {error}") from error
        if not torch.equal(new.c2w, old.c2w):
            moved.append(id)
            c2w.append(new.c2w.numpy())
    return np.array(moved, np.int64), np.array(c2w, np.float32).reshape(-1, 4, 4)
