"""The indices over descriptors, by name."""

from __future__ import annotations

from importlib.util import find_spec

from spmem.plugins import find
from spmem.protocols import ViewIndex
from spmem.retrieval.faiss_index import FaissIndex
from spmem.retrieval.flat import FlatIndex


def _auto(dim: int) -> ViewIndex:
    return FaissIndex(dim) if find_spec("faiss") is not None else FlatIndex(dim)


INDICES = {"auto": _auto, "faiss": FaissIndex, "flat": FlatIndex}


def make_index(name: str, dim: int) -> ViewIndex:
    """A new, empty index for descriptors ``[dim]``.

    ``auto`` takes faiss where it is installed, else ``flat``; further ones come from installed packages (entry points
    of the group ``spmem.view_index``, called with ``dim``).

    Raises:
        UnknownNameError: No index goes by this name.
        MissingExtraError: ``faiss`` is asked for and not installed.

    Example:
        >>> len(make_index("flat", 8))
        0
    """
    index: ViewIndex = find("view_index", name, INDICES)(dim)
    return index
