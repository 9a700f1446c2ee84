"""The control without memory's keyframes."""

from __future__ import annotations

from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline
from spmem.views import Views


class NoKeyframes(Baseline):
    """No keyframe at all: what the projection and the recent frames do alone.

    Every paper has it as an ablation; in Spatia's (arXiv 2512.15716, the closed-loop ablation) the projected scene
    without reference frames loses 2.2 dB of PSNR.
    """

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """Nothing."""
        return Selection.empty()
