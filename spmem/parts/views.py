"""The views as a part: what retrieval knows of every keyframe without reading its pixels, kept in step with the bank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spmem.protocols import Kept, Observation, PartContext, RoundingStore


class KeyframeViews:
    """Fills the context's :class:`spmem.views.Views`, which all other parts and rules see; a :class:`spmem.protocols.Part`.

    The bank says which depth it will give back, so views made from the keyframes are the same, bit for bit.
    """

    name = "views"
    derived = cache = True

    def __init__(self, context: PartContext) -> None:
        self._views, self._bank = context.views, context.bank

    def observe(self, seen: Observation) -> None:
        """Append the view of a keyframe."""
        if seen.keyframe is not None:
            frame = seen.fused
            assert frame.time is not None
            depth = frame.believed_depth().cpu().numpy()
            if isinstance(self._bank, RoundingStore):
                depth = self._bank.stored_depth(depth)
            self._views.append(seen.keyframe, frame.time, frame.camera, depth)

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Give views other poses ``[n, 4, 4]``."""
        self._views.move(ids, c2w)

    def drop(self, ids: NDArray[np.int64], *, keep: bool) -> None:
        """Drop views."""
        self._views.remove(ids)

    def arrays(self) -> Kept:
        """The columns, and the last keyframe that is among them."""
        ids = self._views.ids
        return self._views.arrays(), {"keyframes": int(ids[-1]) if len(ids) else -1}

    def restore(self, kept: Kept | None) -> None:
        """The kept views if they are of the bank's first keyframes; those of the others from the keyframes."""
        ids = self._bank.ids()
        if kept is not None and np.array_equal(kept[0]["ids"], ids[: len(kept[0]["ids"])]):
            self._views.take(kept[0])
        for id in ids[len(self._views) :].tolist():
            frame = self._bank.read(id)
            assert frame.time is not None
            self._views.append(id, frame.time, frame.camera, frame.believed_depth().numpy())

    def verify(self, kept: Kept) -> str | None:
        """Whether the kept views are those of the keyframes, which the context's views are here."""
        ids, true = kept[0]["ids"], self._views.arrays()
        if not np.array_equal(ids, self._bank.ids()[: len(ids)]):
            return "the views are not those of the keyframes"
        rows = {id: row for row, id in enumerate(true["ids"].tolist())}
        for row, id in enumerate(ids.tolist()):
            if id in rows and any(
                not np.array_equal(kept[0][name][row], true[name][rows[id]])
                for name in ("times", "K", "c2w", "depth")
            ):
                return f"the view of keyframe {id} is not its own"
        return None
