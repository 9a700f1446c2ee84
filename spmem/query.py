"""What a retriever is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spmem.arguments import seconds, whole
from spmem.camera import Camera
from spmem.errors import InputError
from spmem.types import Frame, Projection
from spmem.views import Views
from spmem.where import Where

Observers: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Surfel ids ``[n]`` to the keyframes that saw each, as :meth:`spmem.protocols.GeometryStore.observers` answers."""


@dataclass(frozen=True, eq=False)
class Query:
    """Cameras ``[T]`` about to be generated, with what the map shows there.

    projection: the scene rendered along the cameras (visible points = its mask and depth).
    given: views that the generator holds already (working memory); selection does not spend keyframes on their content.
    exclude: keyframe ids that may not be answered.
    time: seconds at which the first camera is to be generated, or None.
    seed: for rules that draw.
    observers: the keyframes that saw each of ``projection.surfel_ids``, for rules that let surfels vote; None where
        there is no map.
    read: a keyframe's frame by its id, for rules that look at pixels; None where there is no bank.
    """

    cameras: Camera
    projection: Projection
    given: Views
    exclude: NDArray[np.int64]
    time: float | None = None
    seed: int = 0
    observers: Observers | None = None
    read: Callable[[int], Frame] | None = None


@dataclass(frozen=True, eq=False)
class Selection:
    """Keyframe ids ``[m]`` int64, m <= k, in the order of choice, and the rule's own scores ``[m]`` float32.

    A higher score is better; a rule that chooses keyframes for what they add need not choose by falling score.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]

    @staticmethod
    def empty() -> Selection:
        """Nothing chosen."""
        return Selection(np.zeros(0, np.int64), np.zeros(0, np.float32))


def trajectory(cameras: Camera, asked: str) -> Camera:
    """The cameras that ``asked`` was given, as a trajectory ``[T]``. Raises InputError."""
    if not isinstance(cameras, Camera) or len(cameras.shape) > 1:
        got = list(cameras.shape) if isinstance(cameras, Camera) else type(cameras).__name__
        raise InputError(f"{asked} takes a Camera, single or a trajectory [T], got {got}")
    return cameras if cameras.shape else cameras[None]


def require_query(method: Any, where: Any, given: Any, time: Any, seed: Any) -> None:
    """Raises InputError for arguments of a retrieval that are none."""
    if method is not None and not isinstance(method, str) and not hasattr(method, "select"):
        raise InputError(
            "method is the name of a rule or a rule (spmem.protocols.Retriever), "
            f"got {type(method).__name__}"
        )
    if where is not None and not isinstance(where, Where):
        raise InputError(f"where is a spmem.Where, got {type(where).__name__}")
    if given is not None and not (
        isinstance(given, Sequence) and all(isinstance(one, Frame) for one in given)
    ):
        raise InputError(f"given is a sequence of spmem.Frames, got {type(given).__name__}")
    if time is not None:
        seconds(time, "time")
    whole(seed, "seed")


def number(k: int) -> int:
    """How many keyframes are wanted. Raises InputError."""
    return whole(k, "k")
