"""The map as a part: a geometry store that is in step with the keyframes, and its checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.config import MemoryConfig
from spmem.errors import InputError
from spmem.protocols import GeometryStore, Kept, Observation, PartContext
from spmem.registry import SHIPPED, find, make
from spmem.types import Frame, Projection, Surfels

ROOM = 1 << 28
"""Bytes of frames that are kept between being taken back and being fused again."""


class Map:
    """The spatial memory; a :class:`spmem.protocols.Part`.

    It holds every frame that was stored, so the keyframes alone make it again with a loss: frames that did not become
    keyframes are gone then. After a crash it is as of its last checkpoint, with the later keyframes fused again.
    """

    name = "geometry"
    derived = True
    cache = False

    def __init__(self, context: PartContext) -> None:
        self.store = geometry_store(context.config)
        self._bank, self._device = context.bank, context.device

    def fuse(self, frame: Frame) -> Int[Tensor, "h w"]:
        """Merge a frame; the surfel id of each pixel, -1 if the pixel went into none."""
        surfel_ids = self.store.fuse(frame)
        self._device = frame.camera.device
        return surfel_ids

    def take(self, frame: Frame) -> tuple[Frame, Int[Tensor, "h w"]]:
        """Merge a frame that may be on another device; the frame on the map's, and its surfel ids."""
        frame = frame.to(self._device)
        return frame, self.store.fuse(frame)

    def novelty(self, surfel_ids: Int[Tensor, "h w"]) -> float:
        """Share of the pixels that show surfels which no keyframe saw."""
        parts = surfel_ids, self.store.observed(surfel_ids)
        # numpy counts on this thread alone, torch wakes all
        shown, seen = (part.numpy() if part.device.type == "cpu" else part for part in parts)
        return float(((shown >= 0) & ~seen).sum()) / surfel_ids.numel()

    def observe(self, seen: Observation) -> None:
        """Note which surfels a keyframe saw."""
        if seen.keyframe is not None:
            self.store.observe(seen.keyframe, seen.surfel_ids.reshape(-1))

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Take back what keyframes gave, and fuse them again at poses ``[n, 4, 4]``; no change if one cannot be read."""
        frames = RereadCache(self._read)
        self.store.unfuse(ids.tolist(), frames.first)
        for id, pose in zip(ids.tolist(), c2w, strict=True):
            surfel_ids = self.store.fuse(frames.again(id).moved(pose))
            self.store.observe(id, surfel_ids.reshape(-1))

    def drop(self, ids: NDArray[np.int64], *, keep: bool) -> None:
        """Forget what keyframes saw; without ``keep`` take back what they gave, or change nothing if one cannot be read."""
        if keep:
            self.store.unobserve(ids.tolist())
        else:
            self.store.unfuse(ids.tolist(), self._read)

    def arrays(self) -> Kept:
        """The store's arrays, and the last keyframe that is fused into them."""
        ids = self._bank.ids()
        return self.store.arrays(), {"keyframes": int(ids[-1]) if len(ids) else -1}

    def restore(self, kept: Kept | None) -> None:
        """The checkpoint, with later keyframes fused again."""
        last = -1
        if kept is not None:
            self.store.restore(kept[0], self._device)
            last = min(int(kept[1].get("keyframes", -1)), np.iinfo(np.int64).max)
        ids = self._bank.ids()
        for id in ids[ids > last].tolist():
            _, surfel_ids = self.take(self._bank.read(id))
            self.store.observe(id, surfel_ids.reshape(-1))

    def verify(self, kept: Kept) -> str | None:
        """Whether the checkpoint fits together, and names keyframes that are there."""
        self.store.restore(kept[0], self._device)
        _, seen = self.store.observers(self.store.ids())
        unknown = np.setdiff1d(np.unique(seen.cpu().numpy()), self._bank.ids())
        if len(unknown):
            return (
                f"surfels are noted as seen by keyframes that are not there: {unknown[:5].tolist()}"
            )
        return None

    def _read(self, id: int) -> Frame:
        return self._bank.read(id).to(self._device)


class MapView:
    """A memory's map, to read; a :class:`spmem.protocols.GeometryReader`.

    It follows the memory. What it returns are copies.
    """

    def __init__(self, store: GeometryStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __repr__(self) -> str:
        return f"MapView({len(self)} surfels)"

    @property
    def voxel(self) -> float | None:
        """Edge of the map's voxels in world units; None if it is not known yet, or the store has none."""
        voxel: float | None = getattr(self._store, "voxel", None)
        return voxel

    def render(self, cameras: Camera) -> Projection:
        """The scene along a trajectory ``[T]``, everything believed; an empty map renders nothing.

        Raises:
            InputError: Not a trajectory.
            DeviceError: Cameras and map on different devices.
        """
        return self._store.render(cameras)

    def observed(self, surfel_ids: Int[Tensor, "*b"]) -> Bool[Tensor, "*b"]:
        """Whether some keyframe saw these surfels; False for -1."""
        return self._store.observed(surfel_ids)

    def observers(
        self, surfel_ids: Int[Tensor, " n"]
    ) -> tuple[Int[Tensor, " n_plus_1"], Int[Tensor, " m"]]:
        """The keyframes that saw each surfel, as CSR: offsets ``[n + 1]`` and keyframes, ascending."""
        return self._store.observers(surfel_ids)

    def ids(self) -> Int[Tensor, " n"]:
        """The ids of all living surfels, ascending."""
        return self._store.ids()

    def surfels(self) -> Surfels:
        """All living surfels, by ascending id."""
        return self._store.surfels()


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


def geometry_store(config: MemoryConfig) -> GeometryStore:
    """The configured store, empty; a map that is drawn as discs draws itself, without copying its surfels.

    Raises:
        UnknownNameError: The configuration names a store or a renderer that does not exist.
        InputError: A renderer for a store that draws itself.
    """
    store: Callable[..., GeometryStore] = find("geometry_store", config.geometry)
    if config.renderer == "discs":
        return store(config.fusion)
    if config.geometry not in SHIPPED["geometry_store"]:
        raise InputError(
            f"the geometry store {config.geometry!r} draws itself; renderer={config.renderer!r} goes with "
            f"{' or '.join(SHIPPED['geometry_store'])}"
        )
    return store(config.fusion, renderer=make("renderer", config.renderer))
