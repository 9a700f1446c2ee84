"""The demo's measure: store the way out, then ask about frames that memory was not given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.cli.course import Course
from spmem.errors import FrameError
from spmem.memory import SpatialMemory
from spmem.pictures import agreement
from spmem.testing.truth import covered_but_wrong, covisibility
from spmem.types import Frame, Retrieval
from spmem.views import THUMB, Views, thumbnail

SEEN = 0.5
"""Share of a frame's pixels that the way out must have seen for it to be a revisit."""
MET, LEFT = 0.25, 0.05
"""A stored frame met the place if it saw this share; the place was left when a later one saw less than that."""


@dataclass(frozen=True)
class Answer:
    """What memory answered about one frame. Shares are of pixels; true ones come from exact depth alone.

    row: Row of the course.
    revisit: The way out saw it, the view was left, and came again.
    away: Seconds since a stored frame last met the place; NaN where none did.
    seen: Share that stored frames really saw.
    coverage: Share that memory covers.
    recalled: Share of what was really seen that memory covers.
    shown: Share of what was really seen that the retrieved keyframes saw.
    depth_error: Median relative error on covered pixels.
    before: Share of covered pixels more than 5 % before the truth.
    behind: Share of covered pixels more than 5 % behind it.
    psnr: dB, on covered pixels.
    seconds: That retrieving took.
    """

    row: int
    revisit: bool
    away: float
    seen: float
    coverage: float
    recalled: float
    shown: float
    depth_error: float
    before: float
    behind: float
    psnr: float
    seconds: float


class Trial:
    """A course, with the true views of all that passed."""

    def __init__(self, course: Course, k: int) -> None:
        self.course, self.k = course, k
        self.seconds: list[float] = []
        self._views = Views()
        self._stored: list[bool] = []
        self._view_of: dict[int, int] = {}  # keyframe id to row of the views

    def store(self, memory: SpatialMemory, rows: Iterable[int]) -> None:
        """Remember frames of the course."""
        for row in rows:
            frame = self.course.frames[row]
            start = perf_counter()
            id = memory.store(frame)
            self.seconds.append(perf_counter() - start)
            if id is not None:
                self._view_of[id] = len(self._views)
            self._note_view(row, frame, stored=True)

    def ask(
        self, memory: SpatialMemory, rows: Iterable[int]
    ) -> Iterator[tuple[Answer, Frame, Retrieval]]:
        """Retrieve for frames of the course, in its order."""
        for row in rows:
            frame = self.course.frames[row]
            start = perf_counter()
            found = self.retrieve(memory, frame)
            seconds = perf_counter() - start
            yield self._judge_retrieval(row, frame, found, seconds), frame, found
            self._note_view(row, frame, stored=False)

    def retrieve(self, memory: SpatialMemory, frame: Frame) -> Retrieval:
        """For the frame's camera, as if nothing else were at hand."""
        return memory.retrieve(frame.camera, k=self.k, given=())

    def _note_view(self, row: int, frame: Frame, *, stored: bool) -> None:
        if stored or row >= self.course.turn:  # what is held back is asked about out of order
            self._views.append(
                row, _frame_time(row, frame), frame.camera, _require_true_depth(frame)
            )
            self._stored.append(stored)

    def _judge_retrieval(self, row: int, frame: Frame, found: Retrieval, seconds: float) -> Answer:
        views, stored = self._views, np.array(self._stored)
        true = thumbnail(_require_true_depth(frame))
        saw = covisibility(
            torch.from_numpy(true),
            frame.camera.resize(THUMB[1], THUMB[0]),
            torch.from_numpy(views.depth),
            Camera(views.K, views.c2w, width=THUMB[1], height=THUMB[0], validate=False),
        )
        share, masks = saw.share.numpy(), saw.masks.numpy()
        once = np.asarray(masks[stored].any(0))
        met = np.flatnonzero(stored & (share >= MET))
        left = len(met) > 0 and bool((share[met[-1] :] < LEFT).any())
        covered = thumbnail(found.projection.mask[0].numpy().astype(np.float32)) > 0
        chosen = [self._view_of[keyframe.id] for keyframe in found.keyframes]
        score = agreement(found.projection, [frame])
        before, behind = _wrong_shares(found, frame)
        seen = float(once.sum() / max((true > 0).sum(), 1))
        return Answer(
            row=row,
            revisit=row >= self.course.turn and left and seen >= SEEN,
            away=_frame_time(row, frame) - float(views.times[met[-1]])
            if len(met)
            else float("nan"),
            seen=seen,
            coverage=float(score.coverage),
            recalled=_share_of_mask(covered, once),
            shown=_share_of_mask(np.asarray(masks[chosen].any(0)), once),
            depth_error=float(score.depth_error),
            before=before,
            behind=behind,
            psnr=float(score.psnr),
            seconds=seconds,
        )


def summary(answers: list[Answer]) -> dict[str, Any]:
    """How many, the means of their shares and the medians of their errors; None where there are none."""
    figures: dict[str, Any] = {"frames": len(answers)}
    for name in ("seen", "coverage", "recalled", "shown", "before", "behind"):
        figures[name] = _reduce_known([getattr(answer, name) for answer in answers], np.mean)
    for name in ("depth_error", "psnr", "seconds"):
        figures[name] = _reduce_known([getattr(answer, name) for answer in answers], np.median)
    return figures


def _reduce_known(values: list[float], how: Callable[[list[float]], Any]) -> float | None:
    known = [value for value in values if value == value]
    return float(how(known)) if known else None


def _wrong_shares(found: Retrieval, frame: Frame) -> tuple[float, float]:
    """Shares of the covered pixels that lie before, and behind, the truth."""
    assert frame.depth is not None
    seen, true = found.projection, frame.depth
    known = float((seen.mask[0] & (true > 0)).sum()) or float("nan")
    before, behind = covered_but_wrong(seen.depth[0], seen.mask[0], true)
    return float(before.sum()) / known, float(behind.sum()) / known


def _share_of_mask(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float((part & whole).sum() / whole.sum()) if whole.any() else float("nan")


def _frame_time(row: int, frame: Frame) -> float:
    return float(row) if frame.time is None else frame.time


def _require_true_depth(frame: Frame) -> NDArray[np.float32]:
    if frame.depth is None:
        raise FrameError("the demo compares with true depth, and this data set has none")
    return frame.depth.numpy()
