"""Forgetting on purpose: what was stored goes, with all that was made of it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from spmem.corrections import checked_ids
from spmem.errors import InputError
from spmem.history import History
from spmem.protocols import VersionedStore
from spmem.state import State
from spmem.types import Frame
from spmem.where import Where

if TYPE_CHECKING:
    from collections.abc import Sequence

    Box: TypeAlias = tuple[Sequence[float], Sequence[float]]
    Span: TypeAlias = tuple[float | None, float | None]


def forget(
    past: History,
    *,
    keyframes: int | Iterable[int] = (),
    time: Span | None = None,
    region: Box | None = None,
    history: bool = True,
) -> None:
    """Forget keyframes, a time, or a place; see :meth:`spmem.SpatialMemory.forget`."""
    past.require_writable()
    bank = past.state.bank
    ids = checked_ids(keyframes, bank)
    where = Where(time=(None, None) if time is None else time, region=region)
    if not len(ids) and time is None and region is None:
        raise InputError("forget() wants keyframes, a time or a region")
    known = bank.uids()
    uids = {known[row] for row in np.searchsorted(bank.ids(), ids).tolist()}
    past.state = without(past.state, uids, where, whole=time is not None)
    past.state.commit("forgotten")
    if not history or not isinstance(bank, VersionedStore):
        return
    for branch in bank.branches():
        if branch != bank.branch:
            with closing(History(past.state.on(bank.on(branch)))) as other:
                other.state = without(other.state, uids, where, whole=time is not None)
                other.commit("forgotten")
    for tag in bank.tags():
        bank.drop_tag(tag)
    bank.reclaim(keep=1)


def without(state: State, uids: set[bytes], where: Where, *, whole: bool) -> State:
    """A state made again from what is left.

    Args:
        state: Its bank loses what is forgotten.
        uids: Of keyframes to forget, which are the same on every branch; ids are not.
        where: A time, a region, or both.
        whole: Whether keyframes of that time go, if there is no region.
    """
    start, end = where.time
    low, high = -np.inf if start is None else start, np.inf if end is None else end
    bank = state.bank
    ids, times, known = bank.ids().tolist(), bank.times(), bank.uids()

    def goes(uid: bytes | None, time: float) -> bool:
        return uid in uids or (whole and where.region is None and low <= time <= high)

    gone, blanked = [], []
    for id, time, uid in zip(ids, times.tolist(), known, strict=True):
        if goes(uid, time):
            gone.append(id)
        elif where.region is not None and low <= time <= high:
            frame = bank.read(id)
            if bool((hidden := within(frame, where.region)).any()):
                gone.append(id)
                blanked.append((blank(frame, hidden), uid))

    def edited(frame: Frame, uid: bytes | None) -> Frame | None:
        if goes(uid, frame.time or 0.0):
            return None
        if where.region is None:
            return frame
        return blank(frame, within(frame, where.region))

    state.recent.edit(edited)
    if gone:
        bank.remove(np.array(gone, np.int64))
    for frame, uid in blanked:
        bank.append(frame, uid)
    return state.rebuilt()


def within(frame: Frame, region: Box) -> Bool[Tensor, "h w"]:
    """The pixels of a frame whose point lies in the box, and those of unknown depth whose ray meets it."""
    low, high = (torch.tensor(list(corner), dtype=torch.float64) for corner in region)
    camera = frame.camera.to("cpu")
    depth = torch.zeros(camera.height, camera.width) if frame.depth is None else frame.depth.cpu()
    far = camera.unproject(torch.where(depth > 0, depth, 1.0)).double()
    inside = ((far >= low) & (far <= high)).all(-1)
    origin = camera.position.double()
    ray = far - origin
    ray = torch.where(ray.abs() < 1e-12, 1e-12, ray)
    a, b = (low - origin) / ray, (high - origin) / ray
    enter, leave = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
    meets = (enter <= leave) & (leave > 0)
    return torch.where(depth > 0, inside, meets)


def blank(frame: Frame, hidden: Bool[Tensor, "h w"]) -> Frame:
    """The frame, black and of unknown depth where it is hidden; without its latent, which shows all of it."""
    hidden = hidden.to(frame.rgb.device)
    seen = frame.replace(latent=None) if bool(hidden.any()) else frame
    parts = {
        name: torch.where(_like(hidden, part), 0, part).to(part.dtype)
        for name, part in seen.tensors().items()
        if name != "latent"
    }
    return seen.replace(**parts)


def _like(hidden: Tensor, part: Tensor) -> Tensor:
    return hidden if part.ndim == 2 else hidden[..., None]
