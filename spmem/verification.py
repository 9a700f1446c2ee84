"""Is a stored memory whole? What is wrong is named; what can be made again from the keyframes is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spmem import checkpoint
from spmem.camera import Camera
from spmem.config import MemoryConfig
from spmem.errors import SpmemError
from spmem.protocols import GeometryStore, KeyframeStore
from spmem.retrieval.indices.inverted import VoxelIndex
from spmem.retrieval.visibility.free_space import KnownFreeSpace
from spmem.views import thumbnail


@dataclass(frozen=True)
class Flaw:
    """Something that does not hold.

    part: ``keyframe``, or the group that it is in.
    keyframe: Which one, where it is one.
    problem: In words.
    derivable: Whether it can be made again from the keyframes.
    """

    part: str
    keyframe: int | None
    problem: str
    derivable: bool


def flaws(bank: KeyframeStore, geometry: GeometryStore) -> Iterator[Flaw | None]:
    """Check every keyframe and every group of a bank; after each, its flaw or None.

    Keyframes decode (their bytes carry checksums), their cameras are cameras, their depth is finite. The map's checkpoint
    is read, fits together (``geometry`` takes it) and names keyframes that are there; views are those of the keyframes;
    working memory and configuration are readable.
    """
    ids = bank.ids()
    depths: dict[int, NDArray[np.float32]] = {}
    for id, camera, time in zip(ids.tolist(), bank.cameras(), bank.times(), strict=True):
        problem = None
        try:
            Camera(camera.K, camera.c2w, width=camera.width, height=camera.height)
            frame = bank.read(id)
            assert frame.depth is not None
            if not np.isfinite(time):
                problem = f"its time is {time}"
            elif not bool(torch.isfinite(frame.depth).all()) or bool((frame.depth < 0).any()):
                problem = "its depth is not finite, or negative"
            depths[id] = thumbnail(frame.depth.numpy())
        except SpmemError as error:
            problem = str(error)
        yield None if problem is None else Flaw("keyframe", id, problem, False)
    checks: dict[str, Callable[[], str | None]] = {
        checkpoint.GEOMETRY: lambda: _geometry(bank, geometry),
        checkpoint.VIEWS: lambda: _views(bank, depths),
        checkpoint.FREE: lambda: _free(bank),
        checkpoint.INDEX: lambda: _index(bank),
        checkpoint.DESCRIPTORS: lambda: _descriptors(bank),
        checkpoint.RECENT: lambda: _recent(bank),
        checkpoint.CONFIG: lambda: _config(bank),
    }
    for part, check in checks.items():
        try:
            problem = check()
        except (SpmemError, KeyError, ValueError, IndexError) as error:
            problem = str(error)
        yield None if problem is None else Flaw(part, None, problem, part in checkpoint.DERIVED)


def repair(bank: KeyframeStore, found: list[Flaw]) -> list[Flaw]:
    """Drop what can be made again, so that the next opening makes it; the flaws that stay."""
    for flaw in found:
        if flaw.derivable:
            bank.write_arrays(flaw.part, {}, {})
    return [flaw for flaw in found if not flaw.derivable]


def _geometry(bank: KeyframeStore, geometry: GeometryStore) -> str | None:
    stored = bank.read_arrays(checkpoint.GEOMETRY)
    if stored is None or not stored[0]:
        return None
    geometry.restore(stored[0], torch.device("cpu"))
    _, seen = geometry.observers(geometry.ids())
    unknown = np.setdiff1d(np.unique(seen.numpy()), bank.ids())
    if len(unknown):
        return f"surfels are noted as seen by keyframes that are not there: {unknown[:5].tolist()}"
    return None


def _views(bank: KeyframeStore, depths: dict[int, NDArray[np.float32]]) -> str | None:
    stored = bank.read_arrays(checkpoint.VIEWS)
    if stored is None or not stored[0]:
        return None
    ids, cameras = bank.ids(), bank.cameras()
    kept = stored[0]["ids"]
    if not np.array_equal(kept, ids[: len(kept)]):
        return "the views are not those of the keyframes"
    for row, id in enumerate(kept.tolist()):
        same = np.array_equal(stored[0]["c2w"][row], cameras[row].c2w.numpy())
        if not same or (id in depths and not np.array_equal(stored[0]["depth"][row], depths[id])):
            return f"the view of keyframe {id} is not its own"
    return None


def _descriptors(bank: KeyframeStore) -> str | None:
    stored = bank.read_arrays(checkpoint.DESCRIPTORS)
    fits = not stored or not stored[0] or checkpoint.restore_descriptors(bank) is not None
    return None if fits else "the descriptors do not fit together"


def _free(bank: KeyframeStore) -> str | None:
    stored = bank.read_arrays(checkpoint.FREE)
    if stored is not None and stored[0]:
        KnownFreeSpace.restore(stored[0])
    return None


def _index(bank: KeyframeStore) -> str | None:
    stored = bank.read_arrays(checkpoint.INDEX)
    if stored is not None and stored[0]:
        VoxelIndex.restore(stored[0])
    return None


def _recent(bank: KeyframeStore) -> str | None:
    checkpoint.restore_recent(bank, torch.device("cpu"), 0)
    return None


def _config(bank: KeyframeStore) -> str | None:
    stored = bank.read_arrays(checkpoint.CONFIG)
    MemoryConfig.from_json({} if stored is None else stored[1])
    return None
