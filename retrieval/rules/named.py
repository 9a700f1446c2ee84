"""The rules of retrieval, by name."""

from __future__ import annotations

from collections.abc import Callable

from spmem.config import RetrievalConfig
from spmem.errors import InputError
from spmem.integrations.embedding.colour_layout import ColourLayout
from spmem.plugins import find
from spmem.protocols import Retriever
from spmem.retrieval.rules.covisibility import Covisibility
from spmem.retrieval.rules.embedding import Embedding
from spmem.retrieval.rules.fixed_offset import FixedOffset
from spmem.retrieval.rules.fov_overlap import FovOverlap
from spmem.retrieval.rules.fov_rays import FovRays
from spmem.retrieval.rules.fov_sphere import FovSphere
from spmem.retrieval.rules.frustum_submodular import FrustumSubmodular
from spmem.retrieval.rules.none import NoKeyframes
from spmem.retrieval.rules.point_votes import PointVotes
from spmem.retrieval.rules.pose_nearest import PoseNearest
from spmem.retrieval.rules.random import Random
from spmem.retrieval.rules.recent import Recent
from spmem.retrieval.rules.set_cover import SetCover
from spmem.retrieval.rules.surfel_votes import SurfelVotes
from spmem.retrieval.rules.visible_hungarian import VisibleHungarian


def _oracle(config: RetrievalConfig) -> Retriever:
    raise InputError(
        "the rule 'oracle' needs the truth, which no memory has: retrieve(cameras, method=Oracle(seen)), with Oracle of "
        "spmem.retrieval.rules.oracle and seen(query, views) -> masks [n, p] of what each keyframe saw, weights [p]"
    )


RULES: dict[str, Callable[[RetrievalConfig], Retriever]] = {
    "covisibility": Covisibility,
    "embedding": lambda config: Embedding(ColourLayout()),
    "fixed-offset": lambda config: FixedOffset(),
    "fov-overlap": lambda config: FovOverlap(),
    "fov-rays": lambda config: FovRays(),
    "fov-sphere": lambda config: FovSphere(),
    "frustum-submodular": lambda config: FrustumSubmodular(),
    "none": lambda config: NoKeyframes(),
    "oracle": _oracle,
    "point-votes": lambda config: PointVotes(),
    "pose-nearest": lambda config: PoseNearest(),
    "random": lambda config: Random(),
    "recent": lambda config: Recent(),
    "set-cover": lambda config: SetCover(),
    "surfel-votes": lambda config: SurfelVotes(),
    "visible-hungarian": lambda config: VisibleHungarian(),
}

METHODS = tuple(sorted(RULES.keys() - {"oracle"}))
"""The rules that a name is enough for."""


def retriever(name: str, config: RetrievalConfig | None = None) -> Retriever:
    """A new retriever of this name that has seen no view yet.

    Beside the shipped ones it finds those of installed packages (entry points of the group ``spmem.retriever``,
    called with the :class:`RetrievalConfig`). A config of None is the defaults.

    Raises:
        UnknownNameError: No rule goes by this name; says which come close.
        InputError: ``oracle``, which has to be told the truth (:class:`spmem.retrieval.rules.oracle.Oracle`).
        MissingExtraError: Its index needs a package that is not installed.

    Example:
        >>> type(retriever("pose-nearest")).__name__
        'PoseNearest'
    """
    rule: Retriever = find("retriever", name, RULES)(config or RetrievalConfig())
    return rule
