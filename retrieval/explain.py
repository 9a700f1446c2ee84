"""What each retrieved keyframe brings, told by one measure whatever rule chose it."""

from __future__ import annotations

from spmem.query import Query, Selection
from spmem.retrieval.greedy import shown
from spmem.retrieval.visibility.exact import visibility, visible_points
from spmem.types import Contribution
from spmem.views import Views


def contributions(
    query: Query, views: Views, selection: Selection, *, tolerance: float = 0.04
) -> list[Contribution]:
    """Per chosen keyframe, in the selection's order, the share of the query's pixels that it saw, and it alone.

    Seen is what :func:`spmem.retrieval.visibility.exact.visibility` says; ``alone`` is against the other chosen keyframes,
    not against what the generator holds already.

    Raises:
        KeyError: A chosen id is no longer among the views.
    """
    points = visible_points(query.projection)
    rows = views.rows(selection.ids)
    seen = visibility(points, views, rows, tolerance=tolerance)
    sees = shown(seen, points.weight) / max(points.pixels, 1)
    alone = shown(seen & (seen.sum(0) == 1), points.weight) / max(points.pixels, 1)
    return [
        Contribution(int(id), float(time), float(score), float(all_), float(own))
        for id, time, score, all_, own in zip(
            selection.ids, views.times[rows], selection.scores, sees, alone, strict=True
        )
    ]
