"""What corrections of keyframes are made of: requests checked as a whole, and frames that are needed twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.arguments import keyframe_ids
from spmem.camera import Camera
from spmem.errors import CameraError, InputError, KeyframeNotFoundError
from spmem.protocols import KeyframeStore
from spmem.types import Frame

ROOM = 1 << 28
"""Bytes of frames that are kept between being taken back and being fused again."""


def named(ids: Any, bank: KeyframeStore) -> NDArray[np.int64]:
    """Keyframe ids, ascending, each once.

    Raises:
        InputError: Something that is no whole number.
        KeyframeNotFoundError: A keyframe that is not there.
    """
    wanted = np.unique(keyframe_ids(ids))
    missing = np.setdiff1d(wanted, bank.ids())
    if len(missing):
        raise KeyframeNotFoundError(f"no keyframe has the id {missing[0]}; there are {len(bank)}")
    return wanted


def moves(poses: Mapping[int, Any], bank: KeyframeStore) -> dict[int, Float[Tensor, "4 4"]]:
    """The poses that differ from the bank's, by ascending id, on the CPU.

    Raises:
        InputError: No mapping.
        KeyframeNotFoundError: A keyframe that is not there.
        CameraError: A pose that no camera has.
    """
    if not isinstance(poses, Mapping):
        raise InputError(f"poses are a mapping {{keyframe id: c2w}}, got {type(poses).__name__}")
    ids, cameras, moved = named(poses, bank), bank.cameras(), {}
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
            moved[id] = new.c2w
    return moved


class RereadCache:
    """Reads frames that are needed a second time; what fits into ``ROOM`` is kept until then."""

    def __init__(self, read: Callable[[int], Frame]) -> None:
        self._read, self._room = read, ROOM
        self._kept: dict[int, Frame] = {}

    def first(self, id: int) -> Frame:
        """A frame, read."""
        frame = self._read(id)
        size = sum(tensor.nbytes for tensor in frame.tensors().values())
        if size <= self._room:
            self._kept[id], self._room = frame, self._room - size
        return frame

    def again(self, id: int) -> Frame:
        """The frame once more; it is not kept any longer."""
        kept = self._kept.pop(id, None)
        return self._read(id) if kept is None else kept
