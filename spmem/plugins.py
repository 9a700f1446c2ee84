"""Parts by name: the shipped ones, and those that installed packages register as entry points.

A package offers a part for a seam in its ``pyproject.toml``; the group is ``spmem.`` and the seam's name::

    [project.entry-points."spmem.retriever"]
    nearest-first = "their_package.rules:NearestFirst"

Nothing is imported until the part is asked for. A shipped name cannot be taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from spmem.errors import SpmemError, UnknownNameError


class PluginError(SpmemError, ImportError):
    """An installed package registers this part, and the part cannot be had from it."""


def find(seam: str, name: str, builtin: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The part called ``name``: what makes it, a class or a function.

    Args:
        seam: In lower case with underscores, as ``view_index``; the entry points' group is ``spmem.<seam>``.
        name: A key of ``builtin``, or the name of an installed entry point.
        builtin: The shipped parts.

    Raises:
        UnknownNameError: Neither has it; the message lists both.
        PluginError: The package that registers it cannot be imported, or two packages register it.

    Example:
        >>> find("retriever", "latest", {"latest": sorted})
        <built-in function sorted>
    """
    if name in builtin:
        return builtin[name]
    installed = [point for point in _installed(seam) if point.name == name]
    if not installed:
        raise UnknownNameError(seam.replace("_", " "), name, names(seam, builtin))
    if len({point.value for point in installed}) > 1:
        owners = ", ".join(sorted(_owner(point) for point in installed))
        raise PluginError(
            f"{seam} {name!r} is registered by more than one installed package ({owners}); uninstall all but one"
        )
    point = installed[0]
    try:
        part: Callable[..., Any] = point.load()
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


def names(seam: str, builtin: Mapping[str, Callable[..., Any]]) -> list[str]:
    """All names that :func:`find` knows for a seam, sorted; imports none of them.

    Example:
        >>> names("retriever", {"latest": sorted, "all": list})
        ['all', 'latest']
    """
    return sorted({*builtin, *(point.name for point in _installed(seam))})


def _installed(seam: str) -> list[EntryPoint]:
    return list(entry_points(group=f"spmem.{seam}"))


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
