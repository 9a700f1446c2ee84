"""The rules of retrieval: each published method in a file of its own, made by name."""

from __future__ import annotations

from spmem.config import RetrievalConfig
from spmem.protocols import Retriever
from spmem.registry import SHIPPED, find

METHODS = tuple(sorted(SHIPPED["retriever"].keys() - {"oracle"}))
"""The shipped rules that need only a name."""


def retriever(name: str, config: RetrievalConfig | None = None) -> Retriever:
    """A new retriever of this name that has seen no view yet.

    Beside the shipped ones it finds those of installed packages (entry points of the group ``spmem.retriever``,
    called with the :class:`RetrievalConfig`). A config of None is the defaults.

    Raises:
        UnknownNameError: No rule goes by this name; the message lists those that come close.
        InputError: ``oracle``, which needs the ground truth (:class:`spmem.retrieval.rules.oracle.Oracle`).
        MissingExtraError: Its index needs a package that is not installed.

    Example:
        >>> type(retriever("pose-nearest")).__name__
        'PoseNearest'
    """
    rule: Retriever = find("retriever", name)(config or RetrievalConfig())
    return rule
