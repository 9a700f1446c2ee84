"""Image descriptors: the keyframes that look most like what memory renders for the query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spmem.config import RetrievalConfig
from spmem.protocols import Embedder
from spmem.query import Query, Selection
from spmem.registry import make
from spmem.retrieval.rules.baseline import Baseline, allowed
from spmem.types import Frame
from spmem.views import Views

if TYPE_CHECKING:
    from typing import Self


class Embedding(Baseline):
    """Ranks keyframes by the inner product of their image's descriptor with that of the query's rendered picture.

    Place recognition by global image descriptors (NetVLAD, arXiv 1511.07247, section 2, is the classic; NoSense, arXiv
    2511.16655, shows how far it goes on long videos). It knows no geometry: two places that look alike are one to it.

    What is asked has no image yet, so the picture is the projection, black where memory covers nothing; a camera for
    which memory shows nothing at all has no say, and a query without any finds nothing. The best of the query's cameras
    counts. Keyframes are read from the bank (``query.read``) and described when first needed, and then kept: the first
    query of a large bank takes long. Scores are the inner products, in -1..1; ties go to the latest.

    Args:
        embedder: Any :class:`spmem.protocols.Embedder`.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._known: dict[int, NDArray[np.float32]] = {}

    @classmethod
    def configured(cls, config: RetrievalConfig) -> Self:
        """The rule with the embedder that needs no weights."""
        return cls(make("embedder", "colour-layout"))

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """See :class:`spmem.protocols.Retriever`."""
        rows = allowed(query, views)
        shown = query.projection.rgb[query.projection.mask.flatten(1).any(1)]
        if k < 1 or query.read is None or not len(rows) or not len(shown):
            return Selection.empty()
        ids = views.ids[rows]
        for id in ids.tolist():
            if id not in self._known:
                self._known[id] = self._describe(query.read(id))
        asked = self.embedder(shown.float()).cpu().numpy()
        alike = (np.stack([self._known[id] for id in ids.tolist()]) @ asked.T).max(1)
        best = np.lexsort((rows, views.times[rows], alike))[::-1][:k]
        return Selection(ids[best], alike[best].astype(np.float32))

    def _describe(self, frame: Frame) -> NDArray[np.float32]:
        descriptor: NDArray[np.float32] = self.embedder(frame.rgb_float()[None])[0].cpu().numpy()
        return descriptor
