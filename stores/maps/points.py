"""The point cloud: points are added where the scene is new, and never moved."""

from __future__ import annotations

from spmem.stores.maps.surfels import SurfelMap


class PointCloud(SurfelMap):
    """A :class:`SurfelMap` that does not average: the first sight of a place is what stays.

    This is the scene memory of Spatia (arXiv 2512.15716) and of point-cloud caches like it: cheap, and as noisy as
    a single depth image. Compare it with the surfel map on noisy depth before you choose it.
    """

    averages = False
