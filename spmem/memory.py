"""The main path: what ``store`` and ``retrieve`` do, in the order in which the paper tells it.

Three memories (arXiv 2506.05284, section 3): spatial (the geometry), working (the last frames), episodic (sparse
keyframes, written when a frame reveals enough new area).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.config import MemoryConfig
from spmem.errors import ConventionError, InputError, ReadOnlyError, StoreError
from spmem.geometry.consistency import pose_agreement
from spmem.keyframes import Keyframes
from spmem.protocols import (
    DepthEstimator,
    DynamicSegmenter,
    GeometryStore,
    KeyframeStore,
    Retriever,
)
from spmem.retrieval.covisibility import Covisibility
from spmem.retrieval.descriptors import Descriptors
from spmem.retrieval.explain import contributions
from spmem.retrieval.finding import Asked, matches
from spmem.retrieval.freespace import FreeSpace
from spmem.retrieval.query import Query, Selection
from spmem.retrieval.views import Views
from spmem.retrieval.where import Where
from spmem.types import Found, Frame, Retrieval, Snapshot


class SpatialMemory:
    """Geometry-grounded episodic memory over one world; :func:`spmem.open` puts the parts together.

    A context manager: leaving it commits and closes. Not for use by several threads at once.
    """

    def __init__(
        self,
        geometry: GeometryStore,
        bank: KeyframeStore,
        rule: Callable[[str], Retriever],
        config: MemoryConfig,
        *,
        views: Views | None = None,
        recent: Sequence[Frame] = (),
        depth: DepthEstimator | None = None,
        segmenter: DynamicSegmenter | None = None,
        descriptors: Descriptors | None = None,
        save: Callable[[SpatialMemory], None] | None = None,
        writable: bool = True,
    ) -> None:
        self.keyframes = Keyframes(bank)
        self.config = config
        self.recent = deque(recent, maxlen=config.recent)
        self.views = Views() if views is None else views
        self.descriptors = Descriptors() if descriptors is None else descriptors
        self._geometry, self._bank = geometry, bank
        self._rule = rule
        self._rules: dict[str, Retriever] = {}
        self._observed: dict[str, int] = {}
        self._free, self._freed = FreeSpace(config.retrieval.reach), 0
        self._depth, self._segmenter, self._save = depth, segmenter, save
        self._writable = writable
        self._changed = self._closed = False
        self._uncommitted = 0
        self._next_time = 1.0 + max([-1.0, *self.views.times[-1:], *_times(recent)])
        self._reference: Frame | None = None
        self._poses_checked = not config.check_poses

    @property
    def geometry(self) -> GeometryStore:
        """The spatial memory. What is changed through it is kept by the next commit."""
        self._changed = True
        return self._geometry

    # -- store --------------------------------------------------------------------------------------

    def store(self, frame: Frame) -> int | None:
        """Remember a frame.

        Every frame is fused into the map; it also becomes a keyframe where it shows enough that no keyframe shows
        (``config.keyframes.novelty``).

        Args:
            frame: With depth, unless the memory has a depth estimator. Without a time it comes one second
                after the frame before it; the first is at 0.

        Returns:
            The keyframe's id, or None where the frame told nothing new.

        Raises:
            FrameError: No depth and no estimator.
            ConventionError: The poses contradict the depth, and fit under another convention.
            ReadOnlyError: The memory was opened with mode="r".
        """
        self._require_open()
        if not self._writable:
            raise ReadOnlyError(
                'the memory was opened with mode="r"; open it with mode="a" to store'
            )
        frame = self._lift(self._dated(frame))
        self._check_poses(frame)
        surfel_ids = self._geometry.fuse(self._static(frame))
        self._changed = True
        self.recent.append(frame)
        if len(self.keyframes) and self._novelty(surfel_ids) < self.config.keyframes.novelty:
            return None
        return self._keep(frame, surfel_ids)

    def _keep(self, frame: Frame, surfel_ids: Int[Tensor, "h w"]) -> int:
        assert frame.depth is not None
        assert frame.time is not None
        id = self._bank.append(frame)
        self._geometry.observe(id, surfel_ids.reshape(-1))
        depth = self._bank.stored_depth(frame.depth.cpu().numpy())
        self.views.append(id, frame.time, frame.camera, depth)
        self.descriptors.add(id, frame)
        self._uncommitted += 1
        if self._uncommitted == self.config.keyframes.commit_every:
            self._bank.commit(f"keyframe {id}")
            self._uncommitted = 0
        return id

    def _novelty(self, surfel_ids: Int[Tensor, "h w"]) -> float:
        """Share of the pixels that show surfels which no keyframe saw."""
        new = (surfel_ids >= 0) & ~self._geometry.observed(surfel_ids)
        return float(new.sum()) / surfel_ids.numel()

    def _dated(self, frame: Frame) -> Frame:
        if not isinstance(frame, Frame):
            raise InputError(f"store takes a spmem.Frame, got {type(frame).__name__}")
        time = self._next_time if frame.time is None else frame.time
        self._next_time = time + 1.0
        return frame if frame.time is not None else frame.replace(time=time)

    def _lift(self, frame: Frame) -> Frame:
        if frame.depth is not None or self._depth is None:
            return frame
        cameras = frame.camera[None]
        known = self._geometry.render(cameras)
        return frame.replace(depth=self._depth(frame.rgb_float()[None], cameras, known)[0])

    def _static(self, frame: Frame) -> Frame:
        """The frame with no confidence in the pixels of what moves."""
        if self._segmenter is None or frame.depth is None:
            return frame
        known = self._geometry.render(frame.camera[None])
        still = ~self._segmenter([frame], known)[0]
        confidence = torch.ones_like(frame.depth) if frame.confidence is None else frame.confidence
        return frame.replace(confidence=confidence * still)

    def _check_poses(self, frame: Frame) -> None:
        if self._poses_checked or frame.depth is None:
            return
        if self._reference is None:
            self._reference = frame
            return
        found = pose_agreement(self._reference, frame)
        best = max(found.opengl, found.inverted)
        if found.given > 0.5 and best < found.given / 2:
            self._poses_checked, self._reference = True, None
        elif found.given < 0.3 and best > 0.6:
            reading = (
                "OpenGL axes; build the cameras with Camera.from_opengl"
                if found.opengl == best
                else "world-to-camera matrices; invert them"
            )
            raise ConventionError(
                f"poses and depth contradict each other: {found.given:.0%} of the points agree between frames at "
                f"{self._reference.time:g} s and {frame.time:g} s as given, {best:.0%} if the poses are {reading} "
                "(MemoryConfig(check_poses=False) turns this check off)"
            )
        elif max(found.given, best) == 0:
            self._reference = frame

    # -- retrieve -----------------------------------------------------------------------------------

    def retrieve(
        self,
        cameras: Camera,
        *,
        k: int = 4,
        method: str | Retriever | None = None,
        exclude: Sequence[int] = (),
        where: Where | None = None,
        given: Sequence[Frame] | None = None,
        time: float | None = None,
        seed: int = 0,
    ) -> Retrieval:
        """All that must stay consistent when these cameras are generated.

        Args:
            cameras: A trajectory ``[T]``, or a single camera (T = 1).
            k: Keyframes wanted at most.
            method: A retrieval rule by name, or a rule of your own (any :class:`spmem.protocols.Retriever`; the
                memory shows it every keyframe once); None takes ``config.retrieval.method``.
            exclude: Keyframe ids that may not be answered.
            where: Restricts the answer to keyframes of a time span or a region.
            given: Frames that the generator holds already, so that no keyframe is spent on what they show; None
                takes the working memory.
            time: Seconds at which the first camera is to be generated, for rules that know age.
            seed: For rules that draw.

        Raises:
            InputError: More than one leading dimension, negative k.
            UnknownNameError: No rule has this name.
            DeviceError: Cameras and map on different devices.
        """
        self._require_open()
        cameras, k = _trajectory(cameras, "retrieve"), _number(k)
        name, rule = self._observing(method or self.config.retrieval.method)
        projection = self._looked_through().believed(self._geometry.render(cameras))
        recent = tuple(self.recent)
        held = _views(recent if given is None else given)
        excluded = np.asarray(list(exclude), np.int64)
        if where is not None:
            excluded = np.union1d(excluded, where.hides(self.views))
        query = Query(
            cameras,
            projection,
            held,
            excluded,
            time,
            seed,
            self._geometry.observers,
            self._bank.read,
        )
        chosen = rule.select(query, self.views, k)
        return Retrieval(
            cameras,
            projection,
            tuple(self.keyframes[int(id)] for id in chosen.ids),
            torch.from_numpy(chosen.scores.astype(np.float32)),
            recent,
            name,
            lambda: contributions(
                query, self.views, chosen, tolerance=self.config.retrieval.tolerance
            ),
        )

    def find(
        self,
        *,
        camera: Camera | None = None,
        image: Any = None,
        text: str | None = None,
        where: Where | None = None,
        k: int = 8,
    ) -> list[Found]:
        """The keyframes that match what is asked, best first: by one thing or by several.

        Where ``retrieve`` chooses keyframes that together show what a generator needs, each is found here for itself.
        :func:`spmem.retrieval.finding.matches` says how several are joined.

        Args:
            camera: Single or a trajectory ``[T]``: scored by the share of what memory renders there that each keyframe
                saw, exactly. A keyframe that saw none of it does not match, so an unknown place finds nothing.
            image: ``[H, W, 3]`` uint8 or float in [0, 1], or a Frame: scored by how alike the embedder finds them.
            text: Words, where the memory's embedder reads them.
            where: Restricts the answer to a time span or a region; alone, the latest come first.
            k: Keyframes wanted at most.

        Raises:
            InputError: Nothing is asked, text of an embedder that reads none, negative k.
            FrameError: No image.
        """
        self._require_open()
        k, asked = _number(k), Asked(camera, image, text, where)
        looks = asked.vectors(self.descriptors)
        if looks and self.descriptors.complete(self.views.ids, self._bank.read):
            self._changed = self._writable  # so that the next commit keeps them
        found = matches(asked, looks, self.views, k, self.descriptors, self._saw)
        return [Found(self.keyframes[one.id], one.score, one.by) for one in found]

    def _saw(self, camera: Camera, hidden: NDArray[np.int64], k: int) -> Selection:
        cameras = _trajectory(camera, "find")
        projection = self._looked_through().believed(self._geometry.render(cameras))
        _, rule = self._observing("covisibility")
        assert isinstance(rule, Covisibility)
        return rule.rank(Query(cameras, projection, Views(), hidden), self.views, k)

    def _looked_through(self) -> FreeSpace:
        """The free space that all keyframes saw."""
        self._free.observe(self.views, slice(self._freed, len(self.views)))
        self._freed = len(self.views)
        return self._free

    def _observing(self, method: str | Retriever) -> tuple[str, Retriever]:
        """The rule and what to call it, with every keyframe's view shown to it."""
        name = method if isinstance(method, str) else f"{type(method).__name__} at {id(method):x}"
        if name not in self._rules:
            self._rules[name] = self._rule(method) if isinstance(method, str) else method
        rule, seen = self._rules[name], self._observed.get(name, 0)
        if seen < len(self.views):
            rule.observe(self.views, slice(seen, len(self.views)))
            self._observed[name] = len(self.views)
        return name.partition(" at ")[0], rule

    # -- durability ---------------------------------------------------------------------------------

    def commit(self, message: str = "") -> str | None:
        """Make everything durable in one step; the snapshot's id, or None where nothing changed."""
        self._require_open()
        if not self._writable:
            raise ReadOnlyError('the memory was opened with mode="r"')
        if not self._changed:
            return None
        if self._save is not None:
            self._save(self)
        snapshot = self._bank.commit(message)
        self._changed, self._uncommitted = False, 0
        return snapshot

    def snapshots(self) -> list[Snapshot]:
        """Committed states, latest first."""
        self._require_open()
        return self._bank.snapshots()

    def close(self) -> None:
        """Commit what is not yet durable and release the storage; closing twice is fine."""
        if self._closed:
            return
        if self._writable and self._changed:
            self.commit("closed")
        self._bank.close()
        self._closed = True

    def __enter__(self) -> SpatialMemory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SpatialMemory({len(self.keyframes)} keyframes, {len(self._geometry)} surfels)"

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError("the memory is closed; spmem.open it again")


def _trajectory(cameras: Camera, asked: str) -> Camera:
    if not isinstance(cameras, Camera) or len(cameras.shape) > 1:
        got = list(cameras.shape) if isinstance(cameras, Camera) else type(cameras).__name__
        raise InputError(f"{asked} takes a Camera, single or a trajectory [T], got {got}")
    return cameras if cameras.shape else cameras[None]


def _number(k: int) -> int:
    if k != int(k) or k < 0:
        raise InputError(f"k must be an integer >= 0, got {k}")
    return int(k)


def _times(frames: Sequence[Frame]) -> list[float]:
    return [frame.time for frame in frames if frame.time is not None]


def _views(frames: Sequence[Frame]) -> Views:
    views = Views()
    for i, frame in enumerate(frames):
        if frame.depth is not None:
            views.append(i, frame.time or 0.0, frame.camera, frame.depth.cpu().numpy())
    return views
