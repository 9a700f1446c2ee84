"""Parts by name: one table of the shipped ones, beside those that installed packages register as entry points.

A seam has names, and a name has an object reference, ``module:attribute``: a class or a function that makes the part.
A package offers a part for a seam in its ``pyproject.toml``; the group is ``spmem.`` and the seam's name::

    [project.entry-points."spmem.retriever"]
    nearest-first = "their_package.rules:NearestFirst"

A keyframe store is named by the scheme of the addresses that it opens: ``s3`` opens ``s3://…``, the empty name opens paths.
Nothing is imported until the part is asked for. A shipped name cannot be taken over.

=====================  =====================================================================
seam                   called with
=====================  =====================================================================
``geometry_store``     the :class:`spmem.FusionConfig`
``renderer``           nothing
``retriever``          the :class:`spmem.RetrievalConfig`
``view_index``         the descriptors' length
``retention``          nothing: the reference is the policy itself
``depth_estimator``    nothing
``dynamic_segmenter``  nothing
``embedder``           nothing
``pose_tracker``       nothing
``part``               the :class:`spmem.protocols.PartContext`; None if the configuration does not want it
``explanation``        nothing: the reference measures what retrieved keyframes bring
``keyframe_store``     path, mode, the :class:`spmem.KeyframeConfig` or None, branch=, options=
=====================  =====================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from spmem.errors import SpmemError, UnknownNameError

_RULES = "spmem.retrieval.rules"
_POLICIES = "spmem.stores.retention"
_ZARR = "spmem.stores.keyframes.zarr"

SHIPPED: dict[str, dict[str, str]] = {
    "geometry_store": {
        "points": "spmem.stores.maps.points:PointCloud",
        "surfels": "spmem.stores.maps.surfels:SurfelMap",
    },
    "renderer": {
        "discs": "spmem.stores.maps.rendering:DiscRenderer",
        "gsplat": "spmem.integrations.renderers.gsplat:GsplatRenderer",
        "pytorch3d": "spmem.integrations.renderers.pytorch3d:PointRenderer",
    },
    "retriever": {
        "covisibility": f"{_RULES}.covisibility:Covisibility",
        "embedding": f"{_RULES}.embedding:Embedding.configured",
        "fixed-offset": f"{_RULES}.fixed_offset:FixedOffset.configured",
        "fov-overlap": f"{_RULES}.fov_overlap:FovOverlap.configured",
        "fov-rays": f"{_RULES}.fov_rays:FovRays.configured",
        "fov-sphere": f"{_RULES}.fov_sphere:FovSphere.configured",
        "frustum-submodular": f"{_RULES}.frustum_submodular:FrustumSubmodular.configured",
        "none": f"{_RULES}.none:NoKeyframes.configured",
        "oracle": f"{_RULES}.oracle:Oracle.configured",
        "point-votes": f"{_RULES}.point_votes:PointVotes.configured",
        "pose-nearest": f"{_RULES}.pose_nearest:PoseNearest.configured",
        "random": f"{_RULES}.random:Random.configured",
        "recent": f"{_RULES}.recent:Recent.configured",
        "set-cover": f"{_RULES}.set_cover:SetCover.configured",
        "surfel-votes": f"{_RULES}.surfel_votes:SurfelVotes.configured",
        "visible-hungarian": f"{_RULES}.visible_hungarian:VisibleHungarian.configured",
    },
    "view_index": {
        "faiss": "spmem.retrieval.indices.faiss:FaissIndex",
        "flat": "spmem.retrieval.indices.flat:FlatIndex",
    },
    "retention": {
        name: f"{_POLICIES}:{name}" for name in ("coverage", "recency", "reservoir", "uniform")
    },
    "depth_estimator": {
        "depth-anything": "spmem.integrations.depth.network:DepthAnything",
        "depth-pro": "spmem.integrations.depth.network:DepthPro",
        "projection-depth": "spmem.integrations.depth.projection:ProjectionDepth",
    },
    "dynamic_segmenter": {
        "depth-change": "spmem.integrations.segmentation.depth_change:DepthChange",
        "sam2": "spmem.integrations.segmentation.sam2:Sam2",
    },
    "embedder": {
        "colour-layout": "spmem.integrations.embedding.colour_layout:ColourLayout",
        "dinov2": "spmem.integrations.embedding.image_text:DinoV2",
        "siglip": "spmem.integrations.embedding.image_text:Siglip",
    },
    "keyframe_store": {
        "memory": "spmem.stores.keyframes.ram:RamKeyframes.open",
    }
    | dict.fromkeys(("", "az", "file", "gs", "s3"), f"{_ZARR}:ZarrKeyframes.open"),
    "pose_tracker": {
        "projective-icp": "spmem.integrations.tracking.icp:ProjectiveIcp",
    },
    "part": {
        "descriptors": "spmem.retrieval.descriptors:Descriptors",
        "free": "spmem.retrieval.visibility.free_space:FreeSpace",
    },
    "explanation": {
        "visible-share": "spmem.retrieval.explain:contributions",
    },
}
"""Object references of the shipped parts, by seam and name."""


class PluginError(SpmemError, ImportError):
    """An installed package registers this part, and the part cannot be had from it."""


def find(seam: str, name: str) -> Callable[..., Any]:
    """The class or function that makes the part called ``name``.

    Args:
        seam: A seam of the table above, in lower case with underscores.
        name: A shipped name, or that of an installed entry point of the group ``spmem.<seam>``.

    Raises:
        UnknownNameError: Neither has it; the message lists both.
        PluginError: The package that registers it cannot be imported, or two packages register it.

    Example:
        >>> find("retention", "coverage").__name__
        'coverage'
    """
    shipped = SHIPPED.get(seam, {})
    if name in shipped:
        part: Callable[..., Any] = EntryPoint(name, shipped[name], f"spmem.{seam}").load()
        return part
    installed = [point for point in _installed(seam) if point.name == name]
    if not installed:
        require_known(seam.replace("_", " "), name, names(seam))
    if len({point.value for point in installed}) > 1:
        owners = ", ".join(sorted(_owner(point) for point in installed))
        raise PluginError(
            f"{seam} {name!r} is registered by more than one installed package ({owners}); uninstall all but one"
        )
    point = installed[0]
    try:
        part = point.load()
    except Exception as error:
        raise PluginError(
            f"{seam} {name!r} of the package {_owner(point)} ({point.value}) failed to import: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(part):
        raise PluginError(
            f"{seam} {name!r} of the package {_owner(point)} ({point.value}) is a {type(part).__name__}; "
            "an entry point names a class or a function"
        )
    return part


def make(seam: str, part: Any) -> Any:
    """A part given by name, made without arguments; anything else as it is.

    Raises:
        UnknownNameError, PluginError: As :func:`find` does.

    Example:
        >>> type(make("embedder", "colour-layout")).__name__
        'ColourLayout'
    """
    return find(seam, part)() if isinstance(part, str) else part


def names(seam: str) -> list[str]:
    """All names that :func:`find` knows for a seam, sorted; imports none of them.

    Example:
        >>> names("view_index")[:2]
        ['faiss', 'flat']
    """
    return sorted({*SHIPPED.get(seam, {}), *(point.name for point in _installed(seam))})


def require_known(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise UnknownNameError, which lists the names that come close, if a name is not among the known ones.

    Args:
        kind: Noun for the error message, as ``path``.
        name: The name that was asked for.
        known: The names there are.
    """
    known = sorted(known)
    if name not in known:
        raise UnknownNameError(kind, name, known)


def _installed(seam: str) -> list[EntryPoint]:
    return list(_entry_points(f"spmem.{seam}", tuple(sys.path)))


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Those of a group, in packages on ``path``. Every memory asks when it opens, and asking reads a file of each package."""
    return tuple(entry_points(group=group))


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
