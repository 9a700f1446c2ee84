"""The working memory as a part: the last frames, as they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load, save

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
        self._frames: deque[Frame] = deque(maxlen=context.config.recent)
        self._views, self._device = context.views, context.device

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def observe(self, seen: Observation) -> None:
        """Take a frame, unless it is merged from another branch."""
        if seen.live:
            self._frames.append(seen.frame)

    def map(self, change: Callable[[Frame], Frame | None]) -> None:
        """Replace each frame by what ``change`` makes of it; None drops it."""
        changed = [new for frame in self._frames if (new := change(frame)) is not None]
        self._frames = deque(changed, self._frames.maxlen)

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Move the copies of keyframes: the frames of their times and poses."""
        rows = self._views.rows(ids)
        times, old = self._views.times[rows], self._views.c2w[rows]

        def moved(frame: Frame) -> Frame:
            same = (times == frame.time) & (old == frame.camera.c2w.cpu().numpy()).all((1, 2))
            return frame.moved(c2w[same][0]) if same.any() else frame

        self.map(moved)

    def drop(self, ids: NDArray[np.int64], *, keep: bool) -> None:
        """Nothing: frames stay here, whatever becomes of keyframes."""

    def arrays(self) -> Kept:
        """Everything that the frames hold, numbered from the oldest."""
        arrays: dict[str, NDArray[Any]] = {}
        for i, frame in enumerate(self._frames):
            tensors = frame.tensors()
            parts = {"K": frame.camera.K, "c2w": frame.camera.c2w}
            parts |= {name: tensors[name] for name in PIXELS if name in tensors}
            arrays |= {f"{name}_{i}": part.detach().cpu().numpy() for name, part in parts.items()}
            if frame.latent is not None:
                file = save({"latent": frame.latent.detach().cpu().contiguous()})
                arrays[f"latent_{i}"] = np.frombuffer(file, np.uint8)
        return arrays, {"times": [frame.time for frame in self._frames]}

    def restore(self, kept: Kept | None) -> None:
        """The kept frames; none if nothing was kept."""
        frames = [] if kept is None else _frames(kept)
        self._frames.extend(frame.to(self._device) for frame in frames)

    def verify(self, kept: Kept) -> str | None:
        """Whether the kept frames are frames."""
        _frames(kept)
        return None


def _frames(kept: Kept) -> list[Frame]:
    arrays, attributes = kept
    frames = []
    for i, time in enumerate(attributes.get("times", [])):
        given: dict[str, Any] = {
            name: arrays[f"{name}_{i}"]
            for name in PIXELS
            if name in ("rgb", "depth") or f"{name}_{i}" in arrays
        }
        if f"latent_{i}" in arrays:
            given["latent"] = load(arrays[f"latent_{i}"].tobytes())["latent"]
        height, width = given["depth"].shape
        camera = Camera(arrays[f"K_{i}"], arrays[f"c2w_{i}"], width=width, height=height)
        frames.append(Frame(**given, camera=camera, time=time))
    return frames
