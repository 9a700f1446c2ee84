"""The rules of retrieval, by name."""

from __future__ import annotations

from collections.abc import Callable

from spmem.config import RetrievalConfig
from spmem.plugins import find
from spmem.protocols import Retriever
from spmem.retrieval.fixed_offset import FixedOffset
from spmem.retrieval.covisibility import Covisibility
from spmem.retrieval.fov_overlap import FovOverlap
from spmem.retrieval.none import NoKeyframes
from spmem.retrieval.pose_nearest import PoseNearest
from spmem.retrieval.random import Random
from spmem.retrieval.recent import Recent

RULES: dict[str, Callable[[RetrievalConfig], Retriever]] = {
    "covisibility": Covisibility,
    "fixed-offset": lambda config: FixedOffset(),
    "fov-overlap": lambda config: FovOverlap(),
    "none": lambda config: NoKeyframes(),
    "pose-nearest": lambda config: PoseNearest(),
    "random": lambda config: Random(),
    "recent": lambda config: Recent(),
}


def retriever(name: str, config: RetrievalConfig | None = None) -> Retriever:
    """A new retriever of this name that has seen no view yet.

    Beside the shipped ones it finds those of installed packages (entry points of the group ``spmem.retriever``,
    called with the :class:`RetrievalConfig`). A config of None is the defaults.

    Raises:
        UnknownNameError: No rule goes by this name; says which come close.
        MissingExtraError: Its index needs a package that is not installed.

    Example:
        >>> type(retriever("pose-nearest")).__name__
        'PoseNearest'
    """
    rule: Retriever = find("retriever", name, RULES)(config or RetrievalConfig())
    return rule
