"""The working memory as a part: the last frames, as they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from spmem.camera import Camera
from spmem.protocols import Kept, Observation, PartContext
from spmem.types import Frame

PIXELS = ("rgb", "depth", "confidence", "features")
"""What is kept of a frame as it is; its latent is kept as a safetensors file, whatever its dtype."""


class WorkingMemory:
    """The last ``config.recent`` frames; a :class:`spmem.protocols.Part` that no keyframe makes again."""

    name = "recent"
    derived = cache = False

    def __init__(self, context: PartContext) -> None:
        self._held: deque[tuple[Frame, bytes | None]] = deque(maxlen=context.config.recent)
        self._bank, self._device = context.bank, context.device

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Frame]:
        return (frame for frame, _ in self._held)

    def edit(self, change: Callable[[Frame, bytes | None], Frame | None]) -> None:
        """Replace each frame by what ``change(frame, uid)`` returns, with the uid of the keyframe that it became; None drops it."""
        changed = [(change(frame, uid), uid) for frame, uid in self._held]
        kept = [(frame, uid) for frame, uid in changed if frame is not None]
        self._held = deque(kept, self._held.maxlen)

    def observe(self, seen: Observation) -> None:
        """Take a frame, unless it is merged from another branch."""
        if seen.live:
            self._held.append((seen.frame, seen.uid))

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Move the frames that became these keyframes."""
        uids = self._bank.uids()
        rows = np.searchsorted(self._bank.ids(), ids).tolist()
        poses = {uids[row]: pose for row, pose in zip(rows, c2w, strict=True)}
        self.edit(lambda frame, uid: frame.moved(poses[uid]) if uid in poses else frame)

    def drop(self, ids: NDArray[np.int64], *, keep: bool) -> None:
        """Nothing: frames stay here, whatever becomes of keyframes."""

    def arrays(self) -> Kept:
        """Everything that the frames hold, numbered from the oldest."""
        arrays: dict[str, NDArray[Any]] = {}
        for i, frame in enumerate(self):
            tensors = frame.tensors()
            parts = {"K": frame.camera.K, "c2w": frame.camera.c2w}
            parts |= {name: tensors[name] for name in PIXELS if name in tensors}
            arrays |= {f"{name}_{i}": part.detach().cpu().numpy() for name, part in parts.items()}
            if frame.latent is not None:
                file = save({"latent": frame.latent.detach().cpu().contiguous()})
                arrays[f"latent_{i}"] = np.frombuffer(file, np.uint8)
        uids = [None if uid is None else uid.hex() for _, uid in self._held]
        return arrays, {"times": [frame.time for frame in self], "uids": uids}

    def restore(self, kept: Kept | None) -> None:
        """The kept frames; none if nothing was kept."""
        frames = [] if kept is None else _frames(kept)
        self._held.extend((frame.to(self._device), uid) for frame, uid in frames)

    def verify(self, kept: Kept) -> str | None:
        """Whether the kept frames are frames."""
        _frames(kept)
        return None


def _frames(kept: Kept) -> list[tuple[Frame, bytes | None]]:
    arrays, attributes = kept
    frames = []
    for i, (time, uid) in enumerate(zip(attributes["times"], attributes["uids"], strict=True)):
        given: dict[str, Any] = {
            name: arrays[f"{name}_{i}"]
            for name in PIXELS
            if name in ("rgb", "depth") or f"{name}_{i}" in arrays
        }
        if f"latent_{i}" in arrays:
            given["latent"] = _read_latent(arrays[f"latent_{i}"])
        height, width = given["depth"].shape
        camera = Camera(arrays[f"K_{i}"], arrays[f"c2w_{i}"], width=width, height=height)
        frame = Frame(**given, camera=camera, time=time)
        frames.append((frame, None if uid is None else bytes.fromhex(uid)))
    return frames


def _read_latent(file: NDArray[Any]) -> Tensor:
    try:
        return load(file.tobytes())["latent"]
    except SafetensorError as error:
        raise ValueError(f"a latent is no safetensors file: {error}") from error
