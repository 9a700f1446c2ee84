"""Forgetting on purpose: what was stored goes, with all that was made of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from spmem import checkpoint
from spmem.corrections import named
from spmem.errors import InputError
from spmem.lifecycle import Lifecycle
from spmem.types import Frame
from spmem.where import Where
from spmem.working import WorkingMemory

if TYPE_CHECKING:
    from collections.abc import Sequence

    Box: TypeAlias = tuple[Sequence[float], Sequence[float]]
    Span: TypeAlias = tuple[float | None, float | None]


class Forgetting(Lifecycle):
    """The part of a memory that forgets, and makes its map anew."""

    recent: WorkingMemory

    def forget(
        self,
        *,
        keyframes: int | Iterable[int] = (),
        time: Span | None = None,
        region: Box | None = None,
        history: bool = True,
    ) -> None:
        """Forget keyframes, a time, or a place, so that nothing of it can be read from the storage any more.

        What is forgotten loses its pixels, depth, descriptors and views, and the map is fused anew from the keyframes
        that are left (frames that did not become keyframes are in no map then). Committed when it returns. Where
        :meth:`remove` keeps the map fast and history whole, this is thorough and slow.

        Args:
            keyframes: An id or several, as this branch numbers them; exactly these keyframes go, on all branches.
            time: Seconds (start, end), both included; None at an end leaves it open.
            region: A box between two corners (low, high), world units. Keyframes that saw into it come back under new
                ids, without the pixels within it, and without those of unknown depth whose rays meet it.
            history: Forget it in all other branches too, and end all history: earlier commits and tags go, and the
                bytes are deleted. Without it, earlier snapshots and other branches still have what is forgotten here.

        Raises:
            InputError: Nothing is named, a span or box that is none.
            KeyframeNotFoundError: A keyframe that is not there.
            StoreError: With ``history``, when the memory is open for writing elsewhere; it is forgotten in all branches
                then, but the bytes are still there: close the other and call :meth:`reclaim` with ``keep=1``.
            ReadOnlyError: The memory was opened to read.
        """
        self._require_writable()
        ids = named(keyframes, self._bank)
        where = Where(time=(None, None) if time is None else time, region=region)
        if not len(ids) and time is None and region is None:
            raise InputError("forget() wants keyframes, a time or a region")
        known = self._bank.uids()
        uids = {known[row] for row in np.searchsorted(self._bank.ids(), ids).tolist()}
        self._forget(uids, where, whole=time is not None)
        self.commit("forgotten")
        if not history:
            return
        for branch in self._bank.branches():
            if branch != self.branch:
                with self._opened(self._bank.on(branch), writable=True) as other:
                    other._forget(uids, where, whole=time is not None)
                    other.commit("forgotten")
        for tag in self._bank.tags():
            self._bank.drop_tag(tag)
        self._bank.reclaim(keep=1)

    def rebuild(self) -> None:
        """Fuse the map anew from the keyframes, in their order, and nothing else; durable with the next commit.

        Frames that did not become keyframes are not in it. About a tenth of a second a keyframe of 640x480.
        """
        self._require_writable()
        self._save()
        for group in checkpoint.DERIVED:
            self._bank.write_arrays(group, {}, {})
        self._begin_again()
        self._changed = True

    def _forget(self, uids: set[bytes], where: Where, *, whole: bool) -> None:
        """``uids`` are the keyframes to forget, which are the same on every branch; ids are not."""
        start, end = where.time
        low, high = -np.inf if start is None else start, np.inf if end is None else end
        ids, times, known = self._bank.ids().tolist(), self._bank.times(), self._bank.uids()

        def goes(uid: bytes | None, time: float) -> bool:
            return uid in uids or (whole and where.region is None and low <= time <= high)

        gone, blanked = [], []
        for id, time, uid in zip(ids, times.tolist(), known, strict=True):
            if goes(uid, time):
                gone.append(id)
            elif where.region is not None and low <= time <= high:
                frame = self._bank.read(id)
                if bool((hidden := within(frame, where.region)).any()):
                    gone.append(id)
                    blanked.append((blank(frame, hidden), uid))

        def edited(frame: Frame, uid: bytes | None) -> Frame | None:
            if goes(uid, frame.time or 0.0):
                return None
            if where.region is None:
                return frame
            return blank(frame, within(frame, where.region))

        self.recent.edit(edited)
        if gone:
            self._bank.remove(np.array(gone, np.int64))
        for frame, uid in blanked:
            self._bank.append(frame, uid)
        self.rebuild()


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
