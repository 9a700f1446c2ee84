"""What a memory keeps beside its keyframes, so that it opens as it was: map, views, working memory, configuration.

The keyframes are the truth. Views are a cache: where they are missing or behind, they are made again from the
keyframes, and come out the same. So are descriptors of images, but for what compression changed in the colours. The map also holds frames that did not become keyframes; after a crash it is as of
its last checkpoint, with the keyframes committed since fused again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.errors import CorruptMemoryError
from spmem.retrieval.followers import digest
from spmem.retrieval.rules.covisibility import Covisibility
from spmem.retrieval.visibility.free_space import KnownFreeSpace
from spmem.types import Frame
from spmem.views import Views
from spmem.working import WorkingMemory

if TYPE_CHECKING:
    from spmem.config import RetrievalConfig
    from spmem.memory import SpatialMemory
    from spmem.protocols import GeometryStore, KeyframeStore

GEOMETRY, VIEWS, RECENT, CONFIG = "geometry", "views", "recent", "config"
DESCRIPTORS, FREE, INDEX = "descriptors", "free", "index"
DERIVED = (GEOMETRY, VIEWS, DESCRIPTORS, FREE, INDEX)
"""What can be made again from the keyframes (the map but for frames that are none)."""

_WRONG = (LookupError, ValueError, TypeError, RuntimeError, OverflowError, AttributeError)
"""What parts say of arrays that are not theirs."""


def save(memory: SpatialMemory, bank: KeyframeStore) -> None:
    """Write the groups; durable with the bank's next commit."""
    bank.write_arrays(GEOMETRY, memory.geometry.arrays(), {"keyframes": _last(bank)})
    bank.write_arrays(VIEWS, memory.views.arrays(), {"keyframes": _last(bank)})
    arrays, attributes = _recent_arrays(memory.recent)
    bank.write_arrays(RECENT, arrays, attributes)
    bank.write_arrays(CONFIG, {}, memory.config.to_json())
    free = memory.free_space()
    if free is not None:
        bank.write_arrays(FREE, *free)
    index = memory.voxel_index()
    if index is not None:
        bank.write_arrays(INDEX, *index)
    described = memory.descriptors.arrays(memory.views.ids)
    if described is not None:
        bank.write_arrays(DESCRIPTORS, *described)


def restore_geometry(geometry: GeometryStore, bank: KeyframeStore, device: torch.device) -> None:
    """The map as of its checkpoint, with later keyframes fused again."""
    stored = bank.read_arrays(GEOMETRY)
    last = -1
    if stored is not None:
        arrays, attributes = stored
        try:
            _require_finite(arrays)
            geometry.restore(arrays, device)
            last = int(attributes.get("keyframes", -1))
        except _WRONG as error:
            raise CorruptMemoryError(
                f"the map's checkpoint does not fit together ({error}); `spmem verify --repair` makes the map anew from "
                "the keyframes"
            ) from error
    for id in bank.ids()[bank.ids() > last].tolist():
        geometry.observe(id, geometry.fuse(bank.read(id).to(device)).reshape(-1))


def restore_views(bank: KeyframeStore) -> Views:
    """The cached views, or views made from the keyframes where the cache is not theirs."""
    stored = _cached(bank, VIEWS)
    ids = bank.ids()
    views = Views()
    if stored is not None:
        with suppress(*_WRONG):
            _require_finite(stored[0])
            if np.array_equal(stored[0]["ids"], ids[: len(stored[0]["ids"])]):
                views = Views.restore(stored[0])
    for id in ids[len(views) :].tolist():
        frame = bank.read(id)
        assert frame.depth is not None
        assert frame.time is not None
        views.append(id, frame.time, frame.camera, frame.believed_depth().numpy())
    return views


def restore_free(
    bank: KeyframeStore, views: Views, reach: float | None
) -> tuple[KnownFreeSpace, int] | None:
    """The known free space and how many of the views it is from, where it is from these."""
    stored = _of_these(bank, FREE, views)
    if stored is None:
        return None
    try:
        return KnownFreeSpace.restore(stored[0], reach), stored[1]
    except _WRONG:
        return None


def restore_index(
    bank: KeyframeStore, views: Views, config: RetrievalConfig
) -> tuple[Covisibility, int] | None:
    """The rule of covisibility with its index, and how many of the views that is of, where it is of these."""
    stored = _of_these(bank, INDEX, views)
    if stored is None or config.index != "voxels":
        return None
    rule = Covisibility(config)
    try:
        rule.restore(stored[0], views.ids[: stored[1]])
    except _WRONG:
        return None
    return rule, stored[1]


def restore_descriptors(
    bank: KeyframeStore,
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """The descriptors that were kept, where they fit together: a cache, too."""
    stored = _cached(bank, DESCRIPTORS)
    if stored is None or not {"ids", "vectors", "probe"} <= stored[0].keys():
        return None
    ids, vectors, probe = (stored[0][name] for name in ("ids", "vectors", "probe"))
    return stored if (*ids.shape, *probe.shape) == vectors.shape else None


def restore_recent(bank: KeyframeStore, device: torch.device, capacity: int) -> WorkingMemory:
    """The working memory."""
    stored = bank.read_arrays(RECENT)
    if stored is None:
        return WorkingMemory(capacity)
    arrays, attributes = stored
    frames = []
    try:
        for i, time in enumerate(attributes["times"]):
            depth = arrays[f"depth_{i}"]
            height, width = depth.shape
            camera = Camera(arrays[f"K_{i}"], arrays[f"c2w_{i}"], width=width, height=height)
            frames.append(Frame(arrays[f"rgb_{i}"], depth, camera, time=time).to(device))
        uids = [None if uid is None else bytes.fromhex(uid) for uid in attributes["uids"]]
        return WorkingMemory(capacity, frames, uids)
    except _WRONG as error:
        raise CorruptMemoryError(f"the working memory does not fit together ({error})") from error


def _cached(
    bank: KeyframeStore, group: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """A group that can be made again: one that is damaged counts as none."""
    try:
        return bank.read_arrays(group)
    except CorruptMemoryError as error:
        warnings.warn(f"{error}; it is made anew here", stacklevel=2)
        return None


def _of_these(
    bank: KeyframeStore, group: str, views: Views
) -> tuple[dict[str, NDArray[Any]], int] | None:
    """A cached group and how many of the views it is of, where it is of these."""
    stored = _cached(bank, group)
    if stored is None or "digest" not in stored[1]:
        return None
    count = stored[1].get("views")
    if not isinstance(count, int) or stored[1]["digest"] != digest(views, count):
        return None
    return stored[0], count


def _require_finite(arrays: Mapping[str, NDArray[Any]]) -> None:
    for name, array in arrays.items():
        # A NaN is its own least and largest.
        ends = (array.min(initial=0), array.max(initial=0)) if array.dtype.kind == "f" else ()
        if not np.isfinite(ends).all():
            raise ValueError(f"{name} has values that are not finite")


def _recent_arrays(recent: WorkingMemory) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for i, frame in enumerate(recent):
        assert frame.depth is not None
        parts = {
            "rgb": frame.rgb,
            "depth": frame.depth,
            "K": frame.camera.K,
            "c2w": frame.camera.c2w,
        }
        arrays |= {f"{name}_{i}": part.cpu().numpy() for name, part in parts.items()}
    uids = [None if uid is None else uid.hex() for uid in recent.uids]
    return arrays, {"times": [frame.time for frame in recent], "uids": uids}


def _last(bank: KeyframeStore) -> int:
    return int(bank.ids()[-1]) if len(bank) else -1
